"""What matrices read, in 8 bits, with the arithmetic of the kernels.

Every vector is quantised as it comes: largest magnitude = 127, levels rounded half to even
(`quantise_s8` in native/src/kernels/rows.h). A product is an exact sum of integers and one
multiplication by both scales, so that it is the same number on every machine.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from solomonic.compress.matrix import GROUP, QuantisedMatrix
from solomonic.layers.lstm import LSTM

_LARGEST = 127.0


def activation_levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """(levels (..., K) as floats of whole value, scales (..., 1)) of float32 vectors x (..., K)."""
    top = x.abs().amax(-1, keepdim=True)
    inverse = torch.where(top > 0, _LARGEST / top, torch.zeros_like(top))
    return (x * inverse).round(), top / _LARGEST


def fake_activations(x: Tensor) -> Tensor:
    """x rounded as the kernels round it; gradients pass as if it were not."""
    with torch.no_grad():
        levels, scale = activation_levels(x.float())
        change = (levels * scale).to(x.dtype) - x
    return x + change


def product(x: Tensor, matrix: QuantisedMatrix) -> Tensor:
    """y (..., N) of float32 x (..., K): the kernels' result, by whole numbers in float64."""
    levels, scale = activation_levels(x)
    values = torch.from_numpy(matrix.values.astype(np.float64))
    scales = torch.from_numpy(matrix.scales.astype(np.float32))
    if not matrix.grouped:
        sums = levels.double() @ values.T
        return sums.float() * (scale * scales)
    total = torch.zeros(*x.shape[:-1], len(values))
    for group in range(matrix.scales.shape[1]):
        part = slice(group * GROUP, (group + 1) * GROUP)
        sums = levels[..., part].double() @ values[:, part].T
        total = total + sums.float() * scales[:, group]
    return total * scale


def quantise_inputs(
    module: nn.Module, owners: set[nn.Module], on: Callable[[], bool] = lambda: True
) -> list[Any]:
    """Hooks that round what the linear maps and LSTMs of `module` read; remove them by `.remove()`.

    An LSTM's own output, which it reads back, is left as it is: PyTorch's kernel has no place to
    round it.

    Args:
        owners: modules whose matrices are quantised.
        on: whether to round, asked at every call.
    """

    def round_first(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (fake_activations(args[0]), *args[1:]) if on() and args else None

    readers = [
        one
        for one in module.modules()
        if (isinstance(one, nn.Linear) and one in owners)
        or (isinstance(one, LSTM) and one.cell in owners)
    ]
    return [one.register_forward_pre_hook(round_first) for one in readers]
