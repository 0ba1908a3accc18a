"""The transducer (RNN-T) loss: exact from logits, exact from the joiner's two inputs, and pruned.

The tensor of all logits, (B, T, U + 1, V), is the largest of a training step by far. `transducer_loss`
takes it and writes its gradient over it; `joint_transducer_loss` never has it and computes logits a
block of cells at a time, twice; `pruned_transducer_loss` computes them for a few labels a frame.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from solomonic import kernels
from solomonic.core import ConfigError, ShapeError, VocabularyError
from solomonic.kernels.segments import compute_dtype
from solomonic.kernels.transducer import NO_LABEL, PADDING
from solomonic.kernels.transducer.slope import earliness

REDUCTIONS = ("mean", "sum", "none")
BLOCK = 1 << 19
"""Numbers of logits or hidden units that exist at once on a CPU."""
WIDE_BLOCK = 1 << 26
"""The same on other devices, where many small blocks would wait for each other."""
FRAMES = 16
"""Frames of a block on the way back."""
NEGLIGIBLE = 1e-9
"""Cells taken less often add less to a float32 gradient than it can show; they are left out."""


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Checked targets and lengths on the device of the inputs, and what to do with them."""

    targets: Tensor  # (B, U) int64, NO_LABEL behind each row's end
    frame_lengths: Tensor  # (B,) int64
    target_lengths: Tensor  # (B,) int64
    sizes: tuple[list[int], list[int]]  # the same lengths as numbers
    blank: int
    fastemit: float
    delay_penalty: float

    def cells(self, frames: int) -> Tensor:
        """(B, T, U + 1) int64: the label that may follow in each cell, NO_LABEL or PADDING."""
        u = torch.arange(self.targets.shape[1] + 1, device=self.targets.device)
        t = torch.arange(frames, device=self.targets.device)
        after = torch.nn.functional.pad(self.targets, (0, 1), value=NO_LABEL)
        after = after.masked_fill(u > self.target_lengths[:, None], PADDING)
        late = t >= self.frame_lengths[:, None]
        return after[:, None].masked_fill(late[..., None], PADDING)

    def lattice(self, stay: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """nll (B,) and what each blank and each label arc, (B, T, U + 1) both, gets as slope."""
        lengths = self.frame_lengths, self.target_lengths
        nll, gone, said = kernels.run(
            "transducer", stay, move[..., :-1], *lengths, 0.0, self.delay_penalty
        )
        return nll, gone, torch.nn.functional.pad(said * (1 + self.fastemit), (0, 1))


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

    The gradient is written over the logits on the way back unless they are a leaf (a tensor with a
    `.grad` of its own); whoever else needs them for a gradient is told so by PyTorch.

    Args:
        logits: (B, T, U + 1, V), not normalised. What lies in the padding is never read.
        targets: (B, U) int, any value behind the end of a row.
        frame_lengths: (B,) int, 1 to T.
        target_lengths: (B,) int, 0 to U.
        blank: which of the V outputs is the blank.
        fastemit: lambda of FastEmit (arXiv 2010.11148): slopes of labels count 1 + lambda times;
            the value stays the plain one.
        delay_penalty: nats that a label earns for each frame it comes earlier (arXiv 2211.00490);
            these are part of the value.
        reduction: "none" gives (B,); "sum" and "mean" are over the batch, as in torchaudio: neither
            divides by the number of labels.

    Raises:
        ShapeError: shapes, types or lengths do not fit.
        VocabularyError: a label is the blank or not in the vocabulary.
        ConfigError: a keyword is out of range.
    """
    if logits.dim() != 4 or not logits.is_floating_point():
        raise ShapeError(
            f"logits must be floats (B, T, U + 1, V), but they are {_seen(logits)}; give the "
            "joiner's output without a softmax."
        )
    shape = (*logits.shape[:2], logits.shape[2] - 1, logits.shape[3])
    batch = _batch(
        shape, logits, targets, (frame_lengths, target_lengths), (blank, fastemit, delay_penalty)
    )
    return _reduced(_FromLogits.apply(logits, batch), reduction)


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
    where paths go at all (in float32; in float64 everywhere).

    Args:
        acoustic: (B, T, J).
        label: (B, U + 1, J).
        weight: (V, J).
        bias: (V,).
    """
    shape = _joint_shape(acoustic, label, weight, bias)
    batch = _batch(
        shape, acoustic, targets, (frame_lengths, target_lengths), (blank, fastemit, delay_penalty)
    )
    nll = _FromJoint.apply(*_settled(acoustic, label, weight, bias), batch)
    return _reduced(nll, reduction)


class _FromLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, batch: _Batch) -> Tensor:
        cells = batch.cells(logits.shape[1])
        flat, ids = logits.detach().reshape(-1, logits.shape[-1]), cells.flatten()
        planes = flat.new_empty(3, len(flat), dtype=compute_dtype(logits))
        size = max(_budget(flat) // flat.shape[1], 1)
        for begin in range(0, len(flat), size):
            part = slice(begin, begin + size)
            found = kernels.run("transducer_scores", flat[part], ids[part], batch.blank)
            for plane, values in zip(planes, found, strict=True):
                plane[part] = values
        stay, move, total = planes.view(3, *cells.shape)
        nll, gone, said = batch.lattice(stay, move)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(logits, ids, total.flatten(), gone, said)
            ctx.blank, ctx.reuse = batch.blank, not logits.is_leaf and logits.is_contiguous()
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        logits, ids, total, gone, said = ctx.saved_tensors
        scale = grads[0][:, None, None]
        gone, said = (gone * scale).flatten(), (said * scale).flatten()
        if ctx.reuse:
            torch.autograd.graph.increment_version(logits)
        slope = logits.detach() if ctx.reuse else logits.detach().clone()
        flat = slope.reshape(-1, slope.shape[-1])
        size = max(_budget(flat) // flat.shape[1], 1)
        for begin in range(0, len(flat), size):
            part = slice(begin, begin + size)
            args = ids[part], ctx.blank, total[part], gone[part], said[part]
            kernels.run("transducer_slopes", flat[part], *args)
        return flat.view(logits.shape), None


class _FromJoint(torch.autograd.Function):
    """acoustic (B, T, J), label (B, U + 1, J), weight (V, J), bias (V,), all of one type."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        acoustic, label, weight, bias = (x.detach() for x in args[:4])
        batch: _Batch = args[4]
        cells = batch.cells(acoustic.shape[1])
        stay, move = acoustic.new_full((2, *cells.shape), -torch.inf)
        total = acoustic.new_zeros(cells.shape)
        for where in _blocks(batch, acoustic.shape[1], max(weight.shape)):
            logits = torch.addmm(bias, _hidden(acoustic, label, where).flatten(0, 2), weight.T)
            ids = cells[where]
            found = kernels.run("transducer_scores", logits, ids.flatten(), batch.blank)
            for plane, values in zip((stay, move, total), found, strict=True):
                plane[where] = values.view(ids.shape)
        nll, gone, said = batch.lattice(stay, move)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(acoustic, label, weight, bias, cells, total, gone, said)
            ctx.batch = batch
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        acoustic, label, weight, bias, cells, total, gone, said = ctx.saved_tensors
        slopes = tuple(torch.zeros_like(x) for x in (acoustic, label, weight, bias))
        blocks = _busy_blocks(ctx.batch, gone + said, max(weight.shape))
        scale = grads[0].to(gone.dtype)[:, None, None]
        gone, said = gone * scale, said * scale
        for where in blocks:
            hidden = _hidden(acoustic, label, where)
            rows = hidden.flatten(0, 2)
            parts = (x[where].flatten() for x in (cells, total, gone, said))
            ids, sums, stay, move = parts
            logits = torch.addmm(bias, rows, weight.T)
            logits = kernels.run(
                "transducer_slopes", logits, ids, ctx.batch.blank, sums, stay, move
            )
            slopes[2].addmm_(logits.T, rows)
            slopes[3].add_(logits.sum(0))
            back = (logits @ weight).view(hidden.shape)
            back = back.mul_(hidden.square_().neg_().add_(1))
            slopes[0][where[:2]] += back.sum(2)
            slopes[1][where[0], where[2]] += back.sum(1)
        return *slopes, None


def _hidden(acoustic: Tensor, label: Tensor, where: tuple[slice, slice, slice]) -> Tensor:
    rows, frames, labels = where
    return (acoustic[rows, frames, None] + label[rows, None, labels]).tanh_()


def _blocks(batch: _Batch, frames: int, width: int) -> list[tuple[slice, slice, slice]]:
    """Rows, frames and labels of blocks that cover every cell which is not padding."""
    budget, rows = _budget(batch.targets) // width, len(batch.targets)
    if batch.targets.device.type != "cpu":
        step = max(budget // (rows * (batch.targets.shape[1] + 1)), 1)
        everything = slice(0, rows), slice(0, batch.targets.shape[1] + 1)
        return [
            (everything[0], slice(t, min(t + step, frames)), everything[1])
            for t in range(0, frames, step)
        ]
    found = []
    for row, (last, labels) in enumerate(zip(*batch.sizes, strict=True)):
        step = max(budget // (labels + 1), 1)
        found += [
            (slice(row, row + 1), slice(t, min(t + step, last)), slice(0, labels + 1))
            for t in range(0, last, step)
        ]
    return found


def _busy_blocks(batch: _Batch, mass: Tensor, width: int) -> list[tuple[slice, slice, slice]]:
    """The blocks through which paths go; on a CPU no wider than these need."""
    frames = mass.shape[1]
    if batch.targets.device.type != "cpu":
        return _blocks(batch, frames, width)
    step = max(min(FRAMES, _budget(mass) // (width * mass.shape[2])), 1)
    busy = mass > (NEGLIGIBLE if mass.dtype == torch.float32 else 0.0)
    busy = torch.nn.functional.pad(busy, (0, 0, 0, -frames % step))
    busy = busy.unflatten(1, (-1, step)).any(2).byte()  # (B, blocks, U + 1)
    first, last = busy.argmax(-1), busy.shape[-1] - busy.flip(-1).argmax(-1)
    found = []
    for row, (begins, ends, some) in enumerate(
        zip(first.tolist(), last.tolist(), busy.any(-1).tolist(), strict=True)
    ):
        found += [
            (
                slice(row, row + 1),
                slice(number * step, min((number + 1) * step, batch.sizes[0][row])),
                slice(begin, end),
            )
            for number, (begin, end) in enumerate(zip(begins, ends, strict=True))
            if some[number]
        ]
    return found


def _budget(x: Tensor) -> int:
    return BLOCK if x.device.type == "cpu" else WIDE_BLOCK


def _settled(*tensors: Tensor) -> list[Tensor]:
    """The same in one type that sums well; the gradients find their own way back."""
    kind = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    return [x.to(kind) for x in tensors]


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
            raise ShapeError(f"'{name}' must be floats {form}, but it is {_seen(x)}.")
    if not acoustic.shape[-1] == label.shape[-1] == weight.shape[-1]:
        raise ShapeError(
            "acoustic (B, T, J), label (B, U + 1, J) and weight (V, J) must share J, but they are "
            f"{_seen(acoustic)}, {_seen(label)} and {_seen(weight)}."
        )
    if len(acoustic) != len(label) or len(weight) != len(bias):
        raise ShapeError(
            "acoustic and label must have the same rows, weight and bias the same outputs, but they "
            f"are {_seen(acoustic)}, {_seen(label)}, {_seen(weight)} and {_seen(bias)}."
        )
    return acoustic.shape[0], acoustic.shape[1], label.shape[1] - 1, len(weight)


def _batch(
    shape: tuple[int, int, int, int],
    like: Tensor,
    targets: Tensor,
    lengths: tuple[Tensor, Tensor],
    options: tuple[int, float, float],
) -> _Batch:
    """Check what comes with inputs of `shape` (B, T, U, V)."""
    rows, frames, labels, vocabulary = shape
    blank, fastemit, delay_penalty = options
    if rows < 1 or frames < 1 or labels < 0 or vocabulary < 2:
        raise ShapeError(
            f"there must be a row, a frame, a label position and two outputs, but (B, T, U + 1, V) "
            f"is {(rows, frames, labels + 1, vocabulary)}."
        )
    if not 0 <= blank < vocabulary:
        raise ConfigError(f"blank is {blank}; it must be one of the {vocabulary} outputs.")
    for name, value in (("fastemit", fastemit), ("delay_penalty", delay_penalty)):
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} is {value}; it must be 0 or a positive number.")
    if targets.shape != (rows, labels) or _inexact(targets):
        raise ShapeError(
            f"targets must be integers {(rows, labels)}, one fewer a row than label positions, but "
            f"they are {_seen(targets)}."
        )
    counts = [
        _lengths(name, values, (rows, low, high))
        for name, values, low, high in (
            ("frame_lengths", lengths[0], 1, frames),
            ("target_lengths", lengths[1], 0, labels),
        )
    ]
    targets = targets.to(like.device, torch.int64)
    sizes = tuple(x.to(like.device, torch.int64) for x in lengths)
    real = torch.arange(labels, device=like.device) < sizes[1][:, None]
    wrong = real & ((targets < 0) | (targets >= vocabulary) | (targets == blank))
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        found = int(targets[row, place])
        what = "the blank" if found == blank else f"not one of the {vocabulary} outputs"
        raise VocabularyError(
            f"label {place} of row {row} is {found}, which is {what}; targets hold real labels only."
        )
    targets = targets.masked_fill(~real, NO_LABEL)
    return _Batch(targets, *sizes, (counts[0], counts[1]), blank, fastemit, delay_penalty)


def _lengths(name: str, values: Tensor, limits: tuple[int, int, int]) -> list[int]:
    rows, low, high = limits
    if values.shape != (rows,) or _inexact(values):
        raise ShapeError(f"{name} must be integers {(rows,)}, but they are {_seen(values)}.")
    counts = values.tolist()
    for row, count in enumerate(counts):
        if not low <= count <= high:
            raise ShapeError(f"{name} of row {row} is {count}; it must be from {low} to {high}.")
    return counts


def _inexact(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex() or x.dtype == torch.bool


def _seen(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _reduced(nll: Any, reduction: str) -> Tensor:
    if reduction not in REDUCTIONS:
        raise ConfigError(
            f"reduction '{reduction}' is unknown; use one of {', '.join(REDUCTIONS)}."
        )
    return nll if reduction == "none" else nll.mean() if reduction == "mean" else nll.sum()
