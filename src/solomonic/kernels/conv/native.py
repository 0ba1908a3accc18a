"""The short convolution in the native core: one pass forward, one pass backward."""

import torch
from torch import Tensor

from solomonic.kernels.native_ops import array, call, plain, settled, why_not
from solomonic.kernels.segments import tail as take_tail


def refuses(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, lengths: Tensor | None = None
) -> str | None:
    """None, or why the native core cannot take these."""
    return why_not(x, weight, bias, tail)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Same function as `reference.conv`."""
    tail = tail.to(x.dtype)
    if x.numel() == 0:
        return x, tail.clone()
    return _conv(x, weight, bias, tail, lengths)


def _following(x: Tensor, tail: Tensor, lengths: Tensor | None) -> Tensor:
    """The tail after x, without a copy of all of it."""
    past = tail.shape[1]
    if lengths is None:
        return torch.cat((tail, x[:, -past:]), dim=1)[:, -past:].clone() if past else tail.clone()
    return take_tail(torch.cat((tail, x), dim=1), past, lengths, past)


def _sizes(x: Tensor, weight: Tensor) -> dict:
    rows, steps, channels = x.shape
    return {"rows": rows, "steps": steps, "channels": channels, "taps": weight.shape[-1]}


@torch.library.custom_op("solomonic::conv", mutates_args=(), device_types="cpu")
def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    x, tail = settled(x, 1), settled(tail, 1)
    taps, shift = plain(weight), None if bias is None else plain(bias)
    y = torch.empty(x.shape, dtype=x.dtype)
    fields = _sizes(x, taps) | {
        "x": array(x, 1), "tail": array(tail, 1) if tail.shape[1] else None, "y": array(y, 1),
        "weight": taps.data_ptr(), "bias": None if shift is None else shift.data_ptr(),
    }  # fmt: skip
    call("conv_forward", fields)
    return y, _following(x, tail, lengths)


@_conv.register_fake
def _(x, weight, bias, tail, lengths):
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return y, torch.empty(tail.shape, dtype=x.dtype, device=x.device)


@torch.library.custom_op("solomonic::conv_backward", mutates_args=(), device_types="cpu")
def _conv_backward(
    dy: Tensor, dlast: Tensor | None, x: Tensor, weight: Tensor, tail: Tensor,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    x, tail, dy = settled(x, 1), settled(tail, 1), settled(dy, 1)
    taps = plain(weight)
    dx, dtail = (torch.empty(t.shape, dtype=t.dtype) for t in (x, tail))
    dweight, dbias = torch.empty_like(taps), torch.empty(len(taps))
    fields = _sizes(x, taps) | {
        "x": array(x, 1), "tail": array(tail, 1) if tail.shape[1] else None, "dy": array(dy, 1),
        "weight": taps.data_ptr(), "dx": array(dx, 1),
        "dtail": array(dtail, 1) if tail.shape[1] else None,
        "dweight": dweight.data_ptr(), "dbias": dbias.data_ptr(),
    }  # fmt: skip
    call("conv_backward", fields)
    if dlast is not None and tail.shape[1]:
        _add_tail(dlast, dx, dtail, lengths)
    return dx, dweight.to(weight.dtype), dbias.to(weight.dtype), dtail


def _add_tail(dlast: Tensor, dx: Tensor, dtail: Tensor, lengths: Tensor | None) -> None:
    """Entry i of the new tail is entry length + i of [tail | x]."""
    past, steps = dlast.shape[1], dx.shape[1]
    for row in range(len(dx)):
        length = steps if lengths is None else int(lengths[row])
        old = max(past - length, 0)  # entries that are still those of the old tail
        dtail[row, past - old :] += dlast[row, :old]
        dx[row, length - past + old : length] += dlast[row, old:]


@_conv_backward.register_fake
def _(dy, dlast, x, weight, tail, lengths):
    dx, dweight, dtail = (torch.empty(t.shape, dtype=t.dtype) for t in (x, weight, tail))
    return dx, dweight, weight.new_empty(len(weight)), dtail


def _save(ctx, inputs, output):
    x, weight, bias, tail, lengths = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, tail, lengths)
    ctx.biased = None if bias is None else bias.dtype


def _backward(ctx, dy, dlast):
    x, weight, tail, lengths = ctx.saved_tensors
    if dy is None:
        dy = torch.zeros_like(x)
    dx, dweight, dbias, dtail = _conv_backward(dy, dlast, x, weight, tail, lengths)
    return dx, dweight, None if ctx.biased is None else dbias.to(ctx.biased), dtail, None


_conv.register_autograd(_backward, setup_context=_save)
