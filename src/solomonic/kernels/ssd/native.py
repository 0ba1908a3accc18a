"""State-space duality in the native core: chunks in cache, only their first states are kept.

Memory is linear in T: the backward pass computes the products inside a chunk again from the inputs
and the state before the chunk.
"""

import torch
from torch import Tensor

from solomonic.kernels.native_ops import array, call, plain, settled, wanted, why_not


def refuses(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor, chunk: int = 64
) -> str | None:
    """None, or why the native core cannot take these."""
    return why_not(x, dt, rate, b, c, h)


def ssd(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Same function as `reference.ssd`; chunks have `chunk` tokens, between 16 and 128."""
    h = h.to(torch.float32)
    if x.numel() == 0:
        return x, h
    keep = wanted(x, dt, rate, b, c, h)
    y, last, _ = _ssd(x, dt, rate, b, c, h, chunk, keep)
    return y, last


def _sizes(x: Tensor, b: Tensor, chunk: int) -> dict:
    rows, steps, heads, size = x.shape
    return {
        "rows": rows, "steps": steps, "heads": heads, "head_dim": size, "state": b.shape[-1],
        "chunk": chunk,
    }  # fmt: skip


def _length(x: Tensor, chunk: int) -> int:
    """Tokens of a chunk in the native core, which decides where states are kept."""
    return min(max(-(-chunk // 16) * 16, 16), 128)


def _states(x: Tensor, b: Tensor, chunk: int, keep: bool) -> Tensor:
    rows, steps, heads, size = x.shape
    count = -(-steps // _length(x, chunk)) if keep else 0
    return b.new_empty(rows, count, heads * size * b.shape[-1], dtype=torch.float32)


@torch.library.custom_op("solomonic::ssd", mutates_args=(), device_types="cpu")
def _ssd(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor, chunk: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    x, dt, b, c = settled(x, 2), settled(dt, 1), settled(b, 1), settled(c, 1)
    rate, h = plain(rate), plain(h)
    y = torch.empty(x.shape, dtype=x.dtype)
    last, states = torch.empty_like(h), _states(x, b, chunk, keep)
    fields = _sizes(x, b, chunk) | {
        "x": array(x, 2), "dt": array(dt, 1), "b": array(b, 1), "c": array(c, 1),
        "y": array(y, 2), "rate": rate.data_ptr(), "h0": h.data_ptr(), "h1": last.data_ptr(),
        "states": states.data_ptr() if keep else None,
    }  # fmt: skip
    call("ssd_forward", fields)
    return y, last, states


@_ssd.register_fake
def _(x, dt, rate, b, c, h, chunk, keep):
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return y, h.new_empty(h.shape), _states(x, b, chunk, keep)


@torch.library.custom_op("solomonic::ssd_backward", mutates_args=(), device_types="cpu")
def _ssd_backward(
    grads: list[Tensor | None], x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor,
    states: Tensor, chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    x, dt, b, c = settled(x, 2), settled(dt, 1), settled(b, 1), settled(c, 1)
    dy = torch.zeros_like(x) if grads[0] is None else settled(grads[0], 2)
    dlast = None if grads[1] is None else plain(grads[1])
    rates = plain(rate)
    dx, ddt, db, dc = (torch.empty(t.shape, dtype=t.dtype) for t in (x, dt, b, c))
    drate = torch.empty_like(rates)
    dh = states.new_empty(len(x), x.shape[2], x.shape[3], b.shape[-1])
    fields = _sizes(x, b, chunk) | {
        "x": array(x, 2), "dt": array(dt, 1), "b": array(b, 1), "c": array(c, 1),
        "rate": rates.data_ptr(), "states": states.data_ptr(), "dy": array(dy, 2),
        "dh1": None if dlast is None else dlast.data_ptr(), "dx": array(dx, 2),
        "ddt": array(ddt, 1), "db": array(db, 1), "dc": array(dc, 1), "dh0": dh.data_ptr(),
        "drate": drate.data_ptr(),
    }  # fmt: skip
    call("ssd_backward", fields)
    return dx, ddt, drate.to(rate.dtype), db, dc, dh


@_ssd_backward.register_fake
def _(grads, x, dt, rate, b, c, states, chunk):
    outs = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, dt, rate, b, c)]
    dh = states.new_empty(x.shape[0], x.shape[2], x.shape[3], b.shape[-1])
    return (*outs, dh)


def _save(ctx, inputs, output):
    x, dt, rate, b, c, _, chunk, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, dt, rate, b, c, output[2])
    ctx.chunk = chunk
    ctx.mark_non_differentiable(output[2])


def _backward(ctx, dy, dlast, _states):
    x, dt, rate, b, c, states = ctx.saved_tensors
    return *_ssd_backward([dy, dlast], x, dt, rate, b, c, states, ctx.chunk), None, None


_ssd.register_autograd(_backward, setup_context=_save)
