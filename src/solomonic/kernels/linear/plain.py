"""The linear map as PyTorch computes it, autocast included."""

from torch import Tensor
from torch.nn import functional


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Same function as `reference.linear`; under autocast in autocast's type."""
    return functional.linear(x, weight)
