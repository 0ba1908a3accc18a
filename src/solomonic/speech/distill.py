"""A transducer that learns from another: what a compressed or smaller model is trained with.

At the cells of the lattice where paths may pass, the student's next symbol is pulled to the
teacher's, over the whole vocabulary or collapsed to {next label, blank, anything else}
(Panchapagesan et al., arXiv 2011.06110); where both encoders have the same width, the student's
hidden vectors may be pulled too. The teacher hears exactly what the student hears, noise and masks
included, without dropout.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from solomonic.core import Config, ConfigError, require
from solomonic.speech.model import BLANK, Transducer
from solomonic.speech.task import Computed, SpeechBatch, TrainingModel, TransducerTask

KINDS = ("full", "collapsed")
_LEAST = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(Config):
    """How much the teacher counts beside the labels.

    Raises:
        ConfigError: a value out of range.
    """

    joint_scale: float = 1.0
    """Of the divergence of next symbols, in nats per label."""
    hidden_scale: float = 0.0
    """Of the squared distance of hidden vectors, as a share of the teacher's square."""
    kind: str = "full"
    """"full" compares all symbols, "collapsed" three classes."""
    positions: int = 3
    """Label positions a frame that are compared."""
    delay: int = 0
    """Frames by which the student is to be earlier than the teacher."""

    def __post_init__(self) -> None:
        require(
            self.kind in KINDS, f"kind = '{self.kind}' is unknown; use one of {', '.join(KINDS)}."
        )
        for name in ("joint_scale", "hidden_scale", "delay"):
            require(getattr(self, name) >= 0, f"{name} must not be negative.")
        require(self.positions >= 1, f"positions = {self.positions} must be at least 1.")


class DistilledTransducerTask(TransducerTask):
    """A `TransducerTask` with a teacher; arguments as there, and the teacher's.

    Raises:
        ConfigError: teacher and student do not hear the same frames or say the same symbols.
    """

    def __init__(
        self,
        model: TrainingModel,
        *args: Any,
        teacher: Transducer,
        distill: DistillConfig | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        self.distill = distill or DistillConfig()
        self.teacher = teacher.to(self._device).eval().requires_grad_(False)
        self._precision: torch.dtype | None = None
        student, other = model.transducer.config, teacher.config
        same = ["vocab_size", "bins", "shift_ms", "frames_per_step"]
        if self.distill.hidden_scale:
            same.append("hidden_size")
        for name in same:
            if getattr(student, name) != getattr(other, name):
                raise ConfigError(
                    f"{name} is {getattr(student, name)} in the student and "
                    f"{getattr(other, name)} in the teacher; they must be equal to be compared."
                )

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, float]]:
        """As `TransducerTask`, which computes its losses in float32; the teacher's encoder then
        has the precision that the student's had."""
        kind = self._device.type
        self._precision = (
            torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        )
        return super().loss(batch)

    def added(self, parts: Computed) -> tuple[Tensor | float, dict[str, float]]:
        """The teacher's part of the loss, in nats per label."""
        config, teacher = self.distill, self.teacher
        data, labels = parts.data, float(parts.data.token_lengths.sum())
        low, kind = self._precision, self._device.type
        with torch.no_grad(), torch.autocast(kind, dtype=low, enabled=low is not None):
            hidden, _, _ = teacher.hidden(data.features, None, data.feature_lengths)
            hidden = hidden.float()
        total: Tensor | float = 0.0
        figures = {}
        if config.joint_scale:
            with torch.no_grad():
                heard, said = teacher.acoustic(hidden), teacher.predictor(data.tokens)
                heard = later(heard, config.delay)
                expected, real = cell_log_probs(teacher, heard, said, parts, config.positions)
            found, _ = cell_log_probs(
                self.model.transducer, parts.acoustic, parts.label, parts, config.positions
            )
            if config.kind == "collapsed":
                nexts = cell_labels(parts, config.positions)
                expected, found = collapsed(expected, nexts), collapsed(found, nexts)
            divergence = (expected.exp() * (expected - found)).sum(-1) * real
            # One path passes a frame at one position: the mean over those compared stands for it.
            joint = (divergence.sum(2) / real.sum(2).clamp(min=1)).sum() / labels
            total = total + config.joint_scale * joint
            figures["distance"] = float(joint.detach())
        if config.hidden_scale:
            real = _frames(parts)[..., None]
            far = ((parts.hidden - hidden).square() * real).sum()
            apart = far / (hidden.square() * real).sum().clamp(min=_LEAST)
            total = total + config.hidden_scale * apart
            figures["hidden"] = float(apart.detach())
        return total, figures


def cell_log_probs(
    net: Transducer, acoustic: Tensor, label: Tensor, parts: Computed, positions: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T, S, V) of the next symbol at the cells compared, and (B, T, S) bool:
    which of them lie within their utterance."""
    where = _positions(parts, positions)
    rows = torch.arange(len(label), device=label.device)[:, None, None]
    logits = net.joint(acoustic[:, :, None], label[rows, where])
    real = _frames(parts)[..., None] & (where <= parts.data.token_lengths[:, None, None])
    return log_softmax(logits, dim=-1), real


def cell_labels(parts: Computed, positions: int) -> Tensor:
    """(B, T, S) int64: the label that a path at such a cell says next, the blank at the end."""
    where, data = _positions(parts, positions), parts.data
    tokens = torch.nn.functional.pad(data.tokens, (0, 1), value=BLANK)
    rows = torch.arange(len(tokens), device=tokens.device)[:, None, None]
    done = where >= data.token_lengths[:, None, None]
    return tokens[rows, where].masked_fill(done, BLANK)


def collapsed(log_probs: Tensor, labels: Tensor) -> Tensor:
    """(..., 3) log-probabilities of the next label, the blank, and all else, from (..., V).

    Where there is no next label (`labels` is the blank), the first is impossible.
    """
    blank = log_probs[..., BLANK]
    said = log_probs.gather(-1, labels[..., None])[..., 0]
    said = said.masked_fill(labels == BLANK, float(torch.tensor(_LEAST).log()))
    rest = (1 - blank.exp() - said.exp()).clamp(min=_LEAST).log()
    return torch.stack((said, blank, rest), dim=-1)


def later(x: Tensor, frames: int) -> Tensor:
    """x (B, T, ...) with what comes `frames` later at every frame; the last stays to the end."""
    if not frames:
        return x
    index = (torch.arange(x.shape[1], device=x.device) + frames).clamp(max=x.shape[1] - 1)
    return x[:, index]


def _positions(parts: Computed, count: int) -> Tensor:
    """(B, T, S): the middle `count` of the label positions of each frame."""
    width = parts.ranges.shape[2]
    first = max((width - count) // 2, 0)
    return parts.ranges[:, :, first : first + count]


def _frames(parts: Computed) -> Tensor:
    """(B, T) bool: frames within their utterance."""
    steps = torch.arange(parts.hidden.shape[1], device=parts.hidden.device)
    return steps[None] < parts.lengths[:, None]
