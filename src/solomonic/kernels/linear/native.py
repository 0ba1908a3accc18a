"""The linear map in the native core: float32 products with every instruction the machine has.

PyTorch's float32 products go through MKL, which uses half the vector width on processors that are
not Intel's: on a Zen 5 core 100 GFLOP/s of the 230 measured here. Its bfloat16 products do not have
this fault and are left to it.
"""

import torch
from torch import Tensor

from solomonic.kernels.native_ops import call, settled, why_not

FEWEST = 32
"""Rows below which laying out the weight costs more than the faster product gains."""


def refuses(x: Tensor, weight: Tensor) -> str | None:
    """None, or why the native core cannot take these."""
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return "autocast is on, and PyTorch's products in lower precision are fast."
    if torch.bfloat16 in (x.dtype, weight.dtype):
        return "PyTorch's bfloat16 products are fast."
    if x.numel() < FEWEST * x.shape[-1]:
        return f"there are fewer than {FEWEST} tokens to share the cost of laying out the weight."
    return why_not(x, weight)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Same function as `reference.linear`."""
    return _linear(x, weight)


def _multiply(a: Tensor, b: Tensor, a_turned: bool = False, b_turned: bool = False) -> Tensor:
    """a b, or with `turned` their transposes, of matrices whose rows lie without gaps."""
    m, k = (a.shape[1], a.shape[0]) if a_turned else (a.shape[0], a.shape[1])
    n = b.shape[0] if b_turned else b.shape[1]
    c = torch.empty(m, n)
    fields = {
        "m": m, "n": n, "k": k, "a": a.data_ptr(), "b": b.data_ptr(), "lda": a.stride(0),
        "ldb": b.stride(0), "a_turned": int(a_turned), "b_turned": int(b_turned),
        "c": c.data_ptr(), "ldc": n,
    }  # fmt: skip
    call("matmul", fields)
    return c


@torch.library.custom_op("solomonic::linear", mutates_args=(), device_types="cpu")
def _linear(x: Tensor, weight: Tensor) -> Tensor:
    rows = settled(x.reshape(-1, x.shape[-1]), 1)
    y = _multiply(rows, settled(weight, 1), b_turned=True)
    return y.view(*x.shape[:-1], len(weight))


@_linear.register_fake
def _(x, weight):
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("solomonic::linear_backward", mutates_args=(), device_types="cpu")
def _linear_backward(
    dy: Tensor, x: Tensor, weight: Tensor, for_x: bool, for_weight: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight; one that is not asked for is empty."""
    slopes = settled(dy.reshape(-1, dy.shape[-1]), 1)
    dx, dweight = x.new_empty(0), x.new_empty(0)
    if for_x:
        dx = _multiply(slopes, settled(weight, 1)).view(x.shape)
    if for_weight:
        rows = settled(x.reshape(-1, x.shape[-1]), 1)
        dweight = _multiply(slopes, rows, a_turned=True)
    return dx, dweight


@_linear_backward.register_fake
def _(dy, x, weight, for_x, for_weight):
    dx = x.new_empty(x.shape if for_x else 0)
    return dx, weight.new_empty(weight.shape if for_weight else 0)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, dy):
    x, weight = ctx.saved_tensors
    for_x, for_weight = ctx.needs_input_grad
    dx, dweight = _linear_backward(dy, x, weight, for_x, for_weight)
    return dx if for_x else None, dweight if for_weight else None


_linear.register_autograd(_backward, setup_context=_save)
