"""Operations on whole states: per-row reset and hold, selecting and joining rows, size in bytes."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from solomonic.core import ShapeError
from solomonic.state.base import State

AnyState = TypeVar("AnyState", bound=State)


def reset(state: AnyState, mask: Tensor) -> AnyState:
    """The state with the rows where `mask` (B,) is true emptied; other rows are bit-identical."""
    _check_rows(state, mask, "mask")
    return state.map(lambda fill, x: torch.where(_rows(mask, x), torch.full_like(x, fill), x))


def hold(new: AnyState, old: AnyState, mask: Tensor) -> AnyState:
    """`new`, but with the rows where `mask` (B,) is true taken unchanged from `old`."""
    _check_rows(new, mask, "mask")
    return new.map(lambda _, x, y: torch.where(_rows(mask, x), y.to(x.dtype), x), old)


def gather(state: AnyState, index: Tensor) -> AnyState:
    """The state whose row b is row `index[b]` of `state` (beams, continuous batching).

    `index` is int64 of any length: rows may repeat or be dropped.
    """
    return state.map(lambda _, x: x.index_select(0, index))


def concatenate(states: Sequence[AnyState]) -> AnyState:
    """One state with the rows of all `states`, in order: streams that are read together.

    Raises:
        ShapeError: there are none.
    """
    if not states:
        raise ShapeError("there are no states to concatenate; give at least one.")
    first, *others = states
    return first.map(lambda _, *parts: torch.cat(parts), *others)


def detach(state: AnyState) -> AnyState:
    """The state cut from the graph, for truncated back-propagation through time."""
    return state.map(lambda _, x: x.detach())


def nbytes(state: State) -> int:
    """Bytes of all tensors of the state."""
    return state.nbytes


def _rows(mask: Tensor, x: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (x.dim() - 1))


def _check_rows(state: State, mask: Tensor, name: str) -> None:
    for _, x in state.leaves():
        if mask.dim() != 1 or mask.shape[0] != x.shape[0] or mask.dtype != torch.bool:
            raise ShapeError(
                f"{name} must be a boolean tensor of shape ({x.shape[0]},), one entry a row, "
                f"not {mask.dtype} {tuple(mask.shape)}."
            )
        return
