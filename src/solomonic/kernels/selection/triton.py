"""Eidetic selection on a GPU: the sets of all refresh blocks by a parallel scan, without a sort.

Top is associative (bmojo.md, "Eidetic memory"): first every block is reduced to its own best, all
blocks at once, then log2(n + 1) rounds merge each list with the one `distance` before it. Nothing
is read back by the host. The result equals the sequential definition exactly, ties included.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from solomonic.kernels import triton as device

BLOCK = 64


def refuses(eps: Tensor, index: Tensor, slot_eps: Tensor, slot_index: Tensor) -> str | None:
    """One sentence why the kernels cannot take these arguments, or None."""
    return device.why_not(slot_eps) or (device.WIDE if eps.dtype == torch.float64 else None)


def select(
    eps: Tensor, index: Tensor, slot_eps: Tensor, slot_index: Tensor
) -> tuple[Tensor, Tensor]:
    """Same function as `reference.select`; names of slots that stay empty are undefined."""
    return _select(eps.detach(), index, slot_eps.detach(), slot_index)


@custom_op("solomonic::selection_triton", mutates_args=())
@device.on_its_device
def _select(
    eps: Tensor, index: Tensor, slot_eps: Tensor, slot_index: Tensor
) -> tuple[Tensor, Tensor]:
    rows, count, size = eps.shape
    slots = slot_eps.shape[1]
    eps, index = eps.float().contiguous(), index.contiguous()
    best = eps.new_empty(rows, count + 1, slots)
    names = index.new_empty(rows, count + 1, slots)
    best[:, 0], names[:, 0] = slot_eps, slot_index
    if count and slots and rows:
        grid = (count, -(-max(size, slots) // BLOCK), rows)
        _kernels().best_of_block[grid](
            eps, index, best, names, (count, size, slots), BLOCK, **device.FUSED
        )
    distance, grid = 1, (count + 1, -(-slots // BLOCK), rows)
    while distance <= count and slots and rows:
        target = torch.empty_like(best), torch.empty_like(names)
        _kernels().merge[grid](
            (best, names), target, distance, count + 1, slots, BLOCK, **device.FUSED
        )
        (best, names), distance = target, 2 * distance
    return best, names


@_select.register_fake
def _(eps, index, slot_eps, slot_index):
    shape = (eps.shape[0], eps.shape[1] + 1, slot_eps.shape[1])
    return eps.new_empty(shape, dtype=torch.float32), index.new_empty(shape)


@device.on_its_device
def top(eps: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Innovations and places of the `slots` best of (B, L) candidates, L at least `slots`; ties to
    the smaller place."""
    places = torch.arange(eps.shape[1], device=eps.device).expand(len(eps), -1).contiguous()
    best, names = eps.new_empty(len(eps), 2, slots), places.new_empty(len(eps), 2, slots)
    grid = (1, -(-eps.shape[1] // BLOCK), len(eps))
    size = (1, eps.shape[1], slots)
    _kernels().best_of_block[grid](
        eps.contiguous(), places, best, names, size, BLOCK, **device.FUSED
    )
    return best[:, 1], names[:, 1]


def _kernels() -> Any:
    """The device functions; loading them imports Triton."""
    from solomonic.kernels.selection import triton_kernels

    return triton_kernels
