"""What the native forms of all ops share: which tensors they take and how they are handed over.

The native core reads float32 and bfloat16 where they lie, as rows of tokens with any stride between
them, and adds up in float32. It runs on as many threads as PyTorch is told to use.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from solomonic.kernels import native

TYPES = (torch.float32, torch.bfloat16)

Array = tuple[int, int, int, bool]


def why_not(*tensors: Tensor | None) -> str | None:
    """None when the native core can work on these, or one sentence why it cannot."""
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu":
            return f"it runs on the CPU, and these tensors are on '{tensor.device.type}'."
        if tensor.dtype not in TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            return f"it computes in float32 from float32 or bfloat16, and these tensors are {kind}."
    return native.why_not()


def array(x: Tensor | None, inner: int) -> Array | None:
    """A tensor (B, T, ...) whose last `inner` dimensions lie without gaps, for the native core.

    The caller keeps `x` alive; `settled` makes a tensor that fits.
    """
    if x is None:
        return None
    rows, steps = x.stride()[: x.dim() - inner]
    return x.data_ptr(), rows, steps, x.dtype == torch.bfloat16


def settled(x: Tensor, inner: int) -> Tensor:
    """`x` itself when its last `inner` dimensions lie without gaps, else a copy."""
    expected = 1
    for size, stride in zip(reversed(x.shape[-inner:]), reversed(x.stride()[-inner:]), strict=True):
        if size != 1 and stride != expected:
            return x.contiguous()
        expected *= size
    return x


def plain(x: Tensor) -> Tensor:
    """`x` in float32 without gaps."""
    return x.to(torch.float32).contiguous()


def call(name: str, fields: dict) -> None:
    """Run one function of the native core; fields that are None are absent."""
    core = native.load()
    assert core is not None, native.why_not()
    function: Callable = getattr(core, name)
    function({k: v for k, v in fields.items() if v is not None}, torch.get_num_threads())


def wanted(*tensors: Tensor | None) -> bool:
    """Whether a gradient may be asked for."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
