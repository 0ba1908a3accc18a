"""One training step, the same for every contender in PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Trainer:
    """Forward, cross entropy of the next token, backward, AdamW.

    Args:
        loss: tokens (B, T + 1) -> mean cross entropy of those after the first.
    """

    def __init__(self, model: nn.Module, loss: Callable[[Tensor], Tensor], vocab: int) -> None:
        self.model, self.loss, self.vocab = model.train(), loss, vocab
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.random = torch.Generator().manual_seed(1)

    def step(self, batch: int, length: int, bfloat16: bool) -> None:
        """`bfloat16`: weights stay float32, products run under autocast."""
        tokens = torch.randint(0, self.vocab, (batch, length + 1), generator=self.random)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = self.loss(tokens)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def usual_loss(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The loss as Transformers computes it, from the logits (B, T, vocabulary) of `forward`."""

    def loss(tokens: Tensor) -> Tensor:
        logits = forward(tokens[:, :-1])
        return cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    return loss
