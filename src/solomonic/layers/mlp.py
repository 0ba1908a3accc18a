"""SwiGLU feed-forward network (Shazeer, arXiv 2002.05202)."""

from torch import Tensor, nn
from torch.nn.functional import silu

from solomonic.layers.linear import Linear


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases; x is (..., width)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = Linear(width, inner)
        self.up = Linear(width, inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(silu(self.gate(x)) * self.up(x))
