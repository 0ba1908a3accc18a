"""The transducer (RNN-T) loss: exact from logits, exact from the joiner's inputs, and pruned.

The tensor of all logits, (B, T, U + 1, V), is by far the largest of a training step.
`transducer_loss` takes it and writes its gradient over it; `joint_transducer_loss` never has it and
computes logits a block of cells at a time, twice; `pruned_transducer_loss` does so for a few label
positions a frame.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from solomonic import kernels
from solomonic.core import ConfigError, ShapeError
from solomonic.kernels.segments import compute_dtype, padding_mask
from solomonic.kernels.transducer.batch import Batch, checked, seen
from solomonic.kernels.transducer.pruning import ranges
from solomonic.kernels.transducer.reference import PADDING

REDUCTIONS = ("mean", "sum", "none")
BLOCK = 1 << 19
"""Logits or hidden units that exist at once on a CPU."""
WIDE_BLOCK = 1 << 26
"""The same on other devices, which idle between small blocks."""
NEGLIGIBLE = 1e-9
"""Paths that take a cell less often than this are not seen in a float32 gradient: left out."""


@dataclasses.dataclass(frozen=True)
class PrunedLoss:
    """What `pruned_transducer_loss` returns; train on, for instance, 0.5 * simple + pruned.

    simple: loss of the joiner that adds, () or (B,).
    pruned: loss of the real joiner on the positions in `ranges`, of the same shape.
    ranges: (B, T, S) int64, the label positions that were looked at in each frame.
    """

    simple: Tensor
    pruned: Tensor
    ranges: Tensor


@dataclasses.dataclass(frozen=True)
class _Options:
    blank: int
    fastemit: float
    delay_penalty: float
    reduction: str

    def __post_init__(self) -> None:
        for name in ("fastemit", "delay_penalty"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}; it must be 0 or a positive number.")
        if self.reduction not in REDUCTIONS:
            raise ConfigError(
                f"reduction '{self.reduction}' is unknown; use one of {', '.join(REDUCTIONS)}."
            )

    def lattice(self, stay: Tensor, move: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """nll (B,) and, as constants, minus its slopes along blank and label, (B, T, U + 1)."""
        lengths = batch.frame_lengths, batch.target_lengths
        nll, gone, said = kernels.run(
            "transducer", stay, move[..., :-1], *lengths, 0.0, self.delay_penalty
        )
        return nll, gone, pad(said * (1 + self.fastemit), (0, 1))

    def reduced(self, nll: Tensor) -> Tensor:
        if self.reduction == "none":
            return nll
        return nll.mean() if self.reduction == "mean" else nll.sum()


def transducer_loss(
    logits: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    fastemit: float = 0.0,
    delay_penalty: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of the targets, in nats, summed over all alignments.

    On the way back the gradient is written over the logits, unless they are a leaf (a tensor with a
    `.grad` of its own); PyTorch refuses if anything else needs them for a gradient after that.

    Args:
        logits: (B, T, U + 1, V), not normalised. What lies in the padding does not matter.
        targets: (B, U) int, any value behind the end of a row.
        frame_lengths: (B,) int, 1 to T.
        target_lengths: (B,) int, 0 to U.
        blank: which of the V outputs is the blank.
        fastemit: lambda of FastEmit (arXiv 2010.11148): slopes of labels count 1 + lambda times;
            the value stays the plain one.
        delay_penalty: nats that a label earns for each frame it comes earlier (arXiv 2211.00490);
            these are part of the value.
        reduction: "none" gives (B,); "mean" and "sum" are over the batch, as in torchaudio: neither
            divides by the number of labels.

    Raises:
        ShapeError: shapes, types or lengths do not fit.
        VocabularyError: a label is the blank or not in the vocabulary.
        ConfigError: a keyword is out of range.
    """
    options = _Options(blank, fastemit, delay_penalty, reduction)
    if logits.dim() != 4 or not logits.is_floating_point():
        raise ShapeError(
            f"logits must be floats (B, T, U + 1, V), but they are {seen(logits)}; give the "
            "joiner's output without a softmax."
        )
    rows, frames, width, outputs = logits.shape
    shape = rows, frames, width - 1, outputs
    batch = _batch(shape, logits, targets, frame_lengths, target_lengths, blank)
    return options.reduced(_apply(_FromLogits, logits, batch, options))


def joint_transducer_loss(
    acoustic: Tensor,
    label: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    fastemit: float = 0.0,
    delay_penalty: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """`transducer_loss` of tanh(acoustic[:, :, None] + label[:, None]) @ weight.T + bias.

    No more than a block of the logits exists at any time. On the way back they are computed again,
    and only where paths go.

    Args:
        acoustic: (B, T, J).
        label: (B, U + 1, J).
        weight: (V, J).
        bias: (V,).
    """
    options = _Options(blank, fastemit, delay_penalty, reduction)
    shape = _joint_shape(acoustic, label, weight, bias)
    batch = _batch(shape, acoustic, targets, frame_lengths, target_lengths, blank)
    cells = batch.cells(shape[1])
    inputs = _settled(acoustic, label, weight, bias)
    return options.reduced(_apply(_FromJoint, *inputs, batch, cells, options))


def pruned_transducer_loss(
    acoustic: Tensor,
    label: Tensor,
    weight: Tensor,
    bias: Tensor,
    simple_acoustic: Tensor,
    simple_label: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    *,
    prune_range: int = 5,
    lm_scale: float = 0.25,
    am_scale: float = 0.0,
    blank: int = 0,
    fastemit: float = 0.0,
    delay_penalty: float = 0.0,
    reduction: str = "mean",
) -> PrunedLoss:
    """`joint_transducer_loss` on few label positions a frame, and the loss that chooses them.

    A joiner that only adds, simple_acoustic[:, :, None] + simple_label[:, None], needs no tensor of
    all logits. Where its paths go, `prune_range` positions a frame, the real joiner is computed
    (arXiv 2206.13236). The pruned loss is never below the exact one.

    Args:
        acoustic, label, weight, bias: as `joint_transducer_loss` takes them.
        simple_acoustic: (B, T, V).
        simple_label: (B, U + 1, V).
        prune_range: label positions a frame, 2 or more; more are taken where an utterance has so
            many labels a frame that no path would fit.
        lm_scale, am_scale: how much of the simple loss's log-probabilities is that of the label
            part alone and of the acoustic part alone; together at most 1.
    """
    options = _Options(blank, fastemit, delay_penalty, reduction)
    shape = _joint_shape(acoustic, label, weight, bias)
    _check_pruned(shape, simple_acoustic, simple_label, prune_range, (lm_scale, am_scale))
    batch = _batch(shape, acoustic, targets, frame_lengths, target_lengths, blank)
    heard, known = _settled(simple_acoustic, simple_label)
    planes = _simple(heard, known, batch, blank, (lm_scale, am_scale))
    lengths = batch.frame_lengths, batch.target_lengths
    simple, gone, said = kernels.run("transducer", *planes, *lengths, fastemit, delay_penalty)
    chosen = ranges(gone, said, *lengths, prune_range)
    cells = batch.cells(shape[1])
    outside = torch.ones_like(cells, dtype=torch.bool).scatter_(2, chosen, False)
    cells = cells.masked_fill_(outside, PADDING)
    inputs = _settled(acoustic, label, weight, bias)
    pruned = _apply(_FromJoint, *inputs, batch, cells, options)
    return PrunedLoss(options.reduced(simple), options.reduced(pruned), chosen)


class _FromLogits(torch.autograd.Function):
    """logits (B, T, U + 1, V) -> nll (B,)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, batch: Batch, options: _Options) -> Tensor:
        cells = batch.cells(logits.shape[1])
        flat, labels = logits.detach().reshape(-1, logits.shape[-1]), cells.flatten()
        planes = flat.new_empty(3, len(flat), dtype=compute_dtype(logits))
        for part in _parts(len(flat), flat):
            found = kernels.run("transducer_scores", flat[part], labels[part], options.blank)
            for plane, values in zip(planes, found, strict=True):
                plane[part] = values
        stay, move, total = planes.view(3, *cells.shape)
        nll, gone, said = options.lattice(stay, move, batch)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(logits, labels, total.flatten(), gone, said)
            ctx.blank, ctx.reuse = options.blank, not logits.is_leaf and logits.is_contiguous()
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        logits, labels, total, gone, said = ctx.saved_tensors
        scale = grads[0].to(gone.dtype)[:, None, None]
        gone, said = (gone * scale).flatten(), (said * scale).flatten()
        if ctx.reuse:  # whoever else kept these logits for a gradient must not read this one
            torch.autograd.graph.increment_version(logits)
        slope = logits.detach() if ctx.reuse else logits.detach().clone()
        flat = slope.reshape(-1, slope.shape[-1])
        for part in _parts(len(flat), flat):
            args = labels[part], ctx.blank, total[part], gone[part], said[part]
            kernels.run("transducer_slopes", flat[part], *args)
        return flat.view(logits.shape), None, None


class _FromJoint(torch.autograd.Function):
    """acoustic (B, T, J), label (B, U + 1, J), weight (V, J), bias (V,) -> nll (B,).

    `cells` (B, T, U + 1) has a label or NO_LABEL where the joiner is computed, PADDING elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        acoustic, label, weight, bias = inputs = [x.detach() for x in args[:4]]
        batch, cells, options = args[4:]
        stay, move, total = acoustic.new_full((3, cells.numel()), -torch.inf)
        for where in _chosen(cells != PADDING, weight):
            logits = torch.addmm(bias, _units(acoustic, label, where)[0], weight.T)
            labels = cells.view(-1)[where]
            found = kernels.run("transducer_scores", logits, labels, options.blank)
            for plane, values in zip((stay, move, total), found, strict=True):
                plane[where] = values
        nll, gone, said = options.lattice(stay.view(cells.shape), move.view(cells.shape), batch)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*inputs, cells, total, gone, said)
            ctx.blank = options.blank
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        acoustic, label, weight, bias, cells, total, gone, said = ctx.saved_tensors
        slopes = [torch.zeros_like(x) for x in (acoustic, label, weight, bias)]
        least = NEGLIGIBLE if gone.dtype == torch.float32 else 0.0
        busy = _chosen(gone + said > least, weight)
        scale = grads[0].to(gone.dtype)[:, None, None]
        planes = cells, total, gone * scale, said * scale
        for where in busy:
            units, rows, columns = _units(acoustic, label, where)
            labels, sums, stay, move = (plane.view(-1)[where] for plane in planes)
            logits = torch.addmm(bias, units, weight.T)
            args = labels, ctx.blank, sums, stay, move
            logits = kernels.run("transducer_slopes", logits, *args)
            slopes[2].addmm_(logits.T, units)
            slopes[3].add_(logits.sum(0))
            to = slopes[0].flatten(0, 1), slopes[1].flatten(0, 1)
            kernels.run("transducer_spread", units, logits @ weight, rows, columns, *to)
        return *slopes, None, None, None


def _units(acoustic: Tensor, label: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The joiner's hidden units in the cells `where` (N,), and their frames and label positions."""
    frames, width = acoustic.shape[1], label.shape[1]
    rows = where // width
    columns = rows // frames * width + where % width
    flat = acoustic.flatten(0, 1), label.flatten(0, 1)
    return kernels.run("transducer_hidden", *flat, rows, columns), rows, columns


def _chosen(mask: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Where a mask (B, T, U + 1) is true, as indices (N,) in blocks."""
    where = mask.flatten().nonzero()[:, 0]
    return where.split(_count(weight, max(weight.shape)))


def _parts(rows: int, like: Tensor) -> list[slice]:
    size = _count(like, like.shape[-1])
    return [slice(begin, begin + size) for begin in range(0, rows, size)]


def _count(like: Tensor, width: int) -> int:
    """How many rows of `width` numbers make a block."""
    return max((BLOCK if like.device.type == "cpu" else WIDE_BLOCK) // width, 1)


def _simple(
    acoustic: Tensor, label: Tensor, batch: Batch, blank: int, scales: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Planes of the joiner that adds: blank (B, T, U + 1) and label (B, T, U)."""
    width = label.shape[1]
    acoustic = acoustic.masked_fill(
        ~padding_mask(acoustic.shape[1], batch.frame_lengths)[..., None], 0.0
    )
    real = padding_mask(width, batch.target_lengths + 1)[..., None]
    label = label.masked_fill(~real, 0.0)
    tops = acoustic.detach().amax(-1, keepdim=True), label.detach().amax(-1, keepdim=True)
    loud, said = (acoustic - tops[0]).exp(), (label - tops[1]).exp()
    least = torch.finfo(acoustic.dtype).tiny
    total = (loud @ said.transpose(1, 2)).clamp(min=least).log() + tops[0] + tops[1].mT
    index = batch.targets.clamp(min=0)

    def planes(x: Tensor, y: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Of logits x (B, T or 1, V) + y (B, U + 1 or 1, V) with their log-sums."""
        stay = x[..., blank, None] + y[:, None, :, blank] - sums
        there = index[:, None].expand(-1, x.shape[1], -1)
        next_ = x.gather(2, there) + y[:, :-1].gather(2, index[..., None]).mT
        return stay, next_ - sums[..., : width - 1]

    parts = [(1 - sum(scales), planes(acoustic, label, total))]
    if scales[0]:
        alone = label.logsumexp(-1)[:, None]
        parts.append((scales[0], planes(torch.zeros_like(acoustic[:, :1]), label, alone)))
    if scales[1]:
        mean = (label.softmax(-1) * real).sum((0, 1))  # but for a factor, which falls out below
        mean = (mean + least).log().expand_as(label)
        alone = (acoustic + mean[:, :1]).logsumexp(-1, keepdim=True)
        parts.append((scales[1], planes(acoustic, mean, alone.expand_as(total))))
    stay, move = (sum(scale * pair[which] for scale, pair in parts) for which in (0, 1))
    full = total.shape
    assert isinstance(stay, Tensor) and isinstance(move, Tensor)
    return stay.expand(full), move.expand(*full[:2], width - 1)


def _settled(*tensors: Tensor) -> list[Tensor]:
    """The same in one type that sums well; the gradients find their own way back."""
    kind = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    return [x.to(kind).contiguous() for x in tensors]


def _apply(function: Any, *args: Any) -> Tensor:
    with torch.autocast(args[0].device.type, enabled=False):
        return function.apply(*args)


def _joint_shape(
    acoustic: Tensor, label: Tensor, weight: Tensor, bias: Tensor
) -> tuple[int, int, int, int]:
    """(B, T, U, V) after looking at the four inputs of a joiner."""
    for name, x, form, count in (
        ("acoustic", acoustic, "(B, T, J)", 3),
        ("label", label, "(B, U + 1, J)", 3),
        ("weight", weight, "(V, J)", 2),
        ("bias", bias, "(V,)", 1),
    ):
        if x.dim() != count or not x.is_floating_point():
            raise ShapeError(f"'{name}' must be floats {form}, but it is {seen(x)}.")
    if not acoustic.shape[-1] == label.shape[-1] == weight.shape[-1]:
        raise ShapeError(
            "acoustic (B, T, J), label (B, U + 1, J) and weight (V, J) must share J, but they are "
            f"{seen(acoustic)}, {seen(label)} and {seen(weight)}."
        )
    if len(acoustic) != len(label) or len(weight) != len(bias):
        raise ShapeError(
            "acoustic and label must have the same rows, and weight and bias the same outputs, but "
            f"they are {seen(acoustic)}, {seen(label)}, {seen(weight)} and {seen(bias)}."
        )
    return acoustic.shape[0], acoustic.shape[1], label.shape[1] - 1, len(weight)


def _check_pruned(
    shape: tuple[int, int, int, int],
    acoustic: Tensor,
    label: Tensor,
    prune_range: int,
    scales: tuple[float, float],
) -> None:
    rows, frames, labels, outputs = shape
    for name, x, count in (("acoustic", acoustic, frames), ("label", label, labels + 1)):
        if x.shape != (rows, count, outputs) or not x.is_floating_point():
            raise ShapeError(
                f"'simple_{name}' must be floats {(rows, count, outputs)}, but it is {seen(x)}."
            )
    if prune_range < 2:
        raise ConfigError(f"prune_range is {prune_range}; it must be 2 or more.")
    if min(scales) < 0 or sum(scales) > 1:
        raise ConfigError(
            f"lm_scale and am_scale are {scales[0]} and {scales[1]}; they must not be negative and "
            "together at most 1."
        )


def _batch(
    shape: tuple[int, int, int, int],
    like: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
) -> Batch:
    if not 0 <= blank < max(shape[3], 1):
        raise ConfigError(f"blank is {blank}; it must be one of the {shape[3]} outputs.")
    return checked(shape, like.device, targets, frame_lengths, target_lengths, blank)
