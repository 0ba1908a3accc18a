"""One training step, the same for every contender in PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Trainer:
    """Forward, cross entropy of the next token, backward, AdamW.

    Args:
        forward: tokens (B, T) -> logits (B, T, vocabulary).
    """

    def __init__(self, model: nn.Module, forward: Callable[[Tensor], Tensor], vocab: int) -> None:
        self.model, self.forward, self.vocab = model.train(), forward, vocab
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.random = torch.Generator().manual_seed(1)

    def step(self, batch: int, length: int, bfloat16: bool) -> None:
        """`bfloat16`: weights stay float32, products run under autocast."""
        tokens = torch.randint(0, self.vocab, (batch, length + 1), generator=self.random)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = self.forward(tokens[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
