"""Short depthwise causal convolution whose tail is part of the state."""

import math

import torch
from torch import Tensor, nn

from solomonic import kernels


class ShortConv(nn.Module):
    """Depthwise causal convolution over `taps` tokens; (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, taps: int, bias: bool = False) -> None:
        super().__init__()
        bound = 1 / math.sqrt(taps)
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def empty(self, batch: int, like: Tensor) -> Tensor:
        """The tail before any token: (B, taps - 1, C) zeros."""
        channels, _, taps = self.weight.shape
        return like.new_zeros(batch, taps - 1, channels)

    def forward(self, x: Tensor, tail: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        return kernels.run("conv", x, self.weight, self.bias, tail, lengths)
