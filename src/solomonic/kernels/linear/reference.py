"""The linear map, the slow definition: one sum per output."""

from torch import Tensor


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """y_n = sum_k weight[n, k] x_k for every token.

    Args:
        x: (..., K).
        weight: (N, K).

    Returns:
        (..., N) in x's type.
    """
    return (x[..., None, :] * weight.to(x.dtype)).sum(dim=-1)
