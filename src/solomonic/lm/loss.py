"""The training loss without the logits: the head and the softmax a slice of tokens at a time.

The logits of a long batch are its largest tensor, and three of it would live at once: scores,
probabilities, gradients. Here each slice's gradients are taken at once and only those of the hidden
states and of the head remain.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic import kernels

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

SLICE = 1024
"""Tokens whose logits exist at once."""


def next_token_loss(model: "LanguageModel", tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood, in nats, of tokens[:, 1:] given what is before each.

    Args:
        tokens: (B, T + 1) int64 on the model's device.

    Returns:
        A scalar in float32 (float64 for a float64 model), differentiable once.
    """
    hidden, _ = model.hidden(tokens[:, :-1])
    return _SlicedLoss.apply(hidden.flatten(0, 1), model.head.weight, tokens[:, 1:].flatten())


class _SlicedLoss(torch.autograd.Function):
    """hidden (M, d), weight (V, d), targets (M,) -> mean cross entropy."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        kind = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=kind, device=hidden.device)
        if wanted:
            slopes, weight_slopes = torch.empty_like(hidden), torch.zeros_like(weight)
            leaf = weight.detach().requires_grad_()
        for begin in range(0, len(hidden), SLICE):
            rows = slice(begin, begin + SLICE)
            if not wanted:
                total += _summed(hidden[rows], weight, targets[rows], kind)
                continue
            with torch.enable_grad():
                part = hidden[rows].detach().requires_grad_()
                loss = _summed(part, leaf, targets[rows], kind)
                slopes[rows], more = torch.autograd.grad(loss, (part, leaf))
            weight_slopes += more
            total += loss.detach()
        if wanted:
            ctx.save_for_backward(slopes, weight_slopes)
        return total / len(hidden)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        slopes, weight_slopes = ctx.saved_tensors
        scale = grads[0] / len(slopes)
        return slopes * scale.to(slopes.dtype), weight_slopes * scale.to(weight_slopes.dtype), None


def _summed(hidden: Tensor, weight: Tensor, targets: Tensor, kind: torch.dtype) -> Tensor:
    logits = kernels.run("linear", hidden, weight)
    return cross_entropy(logits.to(kind), targets, reduction="sum")
