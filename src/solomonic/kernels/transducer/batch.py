"""Targets and lengths of a transducer's batch, checked, and the cells of its lattice they leave."""

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import pad

from solomonic.core import ShapeError, VocabularyError
from solomonic.kernels.transducer.reference import NO_LABEL, PADDING


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a transducer's rows say, all on the device of its inputs.

    targets: (B, U) int64, NO_LABEL behind the end of each row.
    frame_lengths: (B,) int64.
    target_lengths: (B,) int64.
    """

    targets: Tensor
    frame_lengths: Tensor
    target_lengths: Tensor

    def cells(self, frames: int) -> Tensor:
        """(B, T, U + 1) int64: the label that may follow in each cell, NO_LABEL or PADDING."""
        u = torch.arange(self.targets.shape[1] + 1, device=self.targets.device)
        t = torch.arange(frames, device=self.targets.device)
        after = pad(self.targets, (0, 1), value=NO_LABEL)
        after = after.masked_fill(u > self.target_lengths[:, None], PADDING)
        late = t >= self.frame_lengths[:, None]
        return after[:, None].masked_fill(late[..., None], PADDING)


def checked(
    shape: tuple[int, int, int, int],
    device: torch.device,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
) -> Batch:
    """The batch that goes with logits (B, T, U + 1, V).

    Args:
        shape: (B, T, U, V).
        targets: (B, U) int, any value behind the end of a row.
        frame_lengths: (B,) int, 1 to T.
        target_lengths: (B,) int, 0 to U.

    Raises:
        ShapeError: shapes, types or lengths do not fit.
        VocabularyError: a label is the blank or not in the vocabulary.
    """
    rows, frames, labels, vocabulary = shape
    if rows < 1 or frames < 1 or labels < 0 or vocabulary < 2:
        raise ShapeError(
            "there must be a row, a frame, a label position and two outputs, but (B, T, U + 1, V) "
            f"is {(rows, frames, labels + 1, vocabulary)}."
        )
    if targets.shape != (rows, labels) or inexact(targets):
        raise ShapeError(
            f"targets must be integers {(rows, labels)}, one fewer a row than label positions, but "
            f"they are {seen(targets)}."
        )
    check_lengths("frame_lengths", frame_lengths, rows, (1, frames))
    check_lengths("target_lengths", target_lengths, rows, (0, labels))
    targets = targets.to(device, torch.int64)
    ends = target_lengths.to(device, torch.int64)
    real = torch.arange(labels, device=device) < ends[:, None]
    wrong = real & ((targets < 0) | (targets >= vocabulary) | (targets == blank))
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        found = int(targets[row, place])
        what = "the blank" if found == blank else f"not one of the {vocabulary} outputs"
        raise VocabularyError(
            f"label {place} of row {row} is {found}, which is {what}; give real labels only."
        )
    return Batch(targets.masked_fill(~real, NO_LABEL), frame_lengths.to(ends), ends)


def check_lengths(name: str, values: Tensor, rows: int, limits: tuple[int, int]) -> None:
    """Refuse lengths that are not integers (B,) within `limits`."""
    if values.shape != (rows,) or inexact(values):
        raise ShapeError(f"{name} must be integers {(rows,)}, but they are {seen(values)}.")
    low, high = limits
    for row, count in enumerate(values.tolist()):
        if not low <= count <= high:
            raise ShapeError(f"{name} of row {row} is {count}; it must be from {low} to {high}.")


def inexact(x: Tensor) -> bool:
    """Whether a tensor holds something else than integers."""
    return x.is_floating_point() or x.is_complex() or x.dtype == torch.bool


def seen(x: Tensor) -> str:
    """Type and shape of a tensor, for a message."""
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
