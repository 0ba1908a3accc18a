"""What the fast forms of the transducer lattice share: penalties, and a slope made of occupancies.

A form computes values alone. The slope of the negative log-likelihood along an arc is minus the
occupancy of that arc, so nothing but the occupancies is kept for the way back.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Lattice = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def differentiable(lattice: Lattice) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Give a form FastEmit, the delay penalty and a slope."""

    @functools.wraps(lattice)
    def whole(
        blank: Tensor,
        label: Tensor,
        frame_lengths: Tensor,
        target_lengths: Tensor,
        fastemit: float = 0.0,
        delay_penalty: float = 0.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if delay_penalty:
            label = label + delay_penalty * earliness(label, frame_lengths)
        wanted = torch.is_grad_enabled() and (blank.requires_grad or label.requires_grad)
        if not wanted:
            with torch.no_grad():
                return lattice(blank, label, frame_lengths, target_lengths)
        args = lattice, fastemit, blank, label, frame_lengths, target_lengths
        nll, gone, said = _Lattice.apply(*args)  # pyright: ignore[reportGeneralTypeIssues]
        return nll, gone, said

    return whole


def earliness(label: Tensor, frame_lengths: Tensor) -> Tensor:
    """(T_b - 1) / 2 - t for each row and frame of `label` (B, T, U): (B, T, 1), its type."""
    t = torch.arange(label.shape[1], device=label.device, dtype=label.dtype)
    middle = (frame_lengths.to(label.device) - 1).to(label.dtype) / 2
    return (middle[:, None] - t)[..., None]


class _Lattice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lattice: Lattice, fastemit: float, *args: Tensor) -> Any:
        nll, gone, said = lattice(*args)
        ctx.mark_non_differentiable(gone, said)
        ctx.save_for_backward(gone, said)
        ctx.fastemit = fastemit
        return nll, gone, said

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gone, said = ctx.saved_tensors
        scale = -grads[0][:, None, None]
        return None, None, scale * gone, scale * (1 + ctx.fastemit) * said, None, None
