"""The gated delta rule in the native core: chunks in cache, only their first states are kept."""

import torch
from torch import Tensor

from solomonic.kernels.native_ops import array, call, plain, settled, wanted, why_not


def refuses(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, s: Tensor, chunk: int = 64
) -> str | None:
    """None, or why the native core cannot take these."""
    return why_not(q, k, v, log_decay, beta, s)


def delta(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, s: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Same function as `reference.delta`; chunks have `chunk` tokens, between 16 and 64."""
    s = s.to(torch.float32)
    if v.numel() == 0:
        return v, s
    keep = wanted(q, k, v, log_decay, beta, s)
    y, last, _ = _delta([q, k, v, log_decay, beta], s, chunk, keep)
    return y, last


def _lay(sources: list[Tensor]) -> list[Tensor]:
    return [settled(x, 2 if x.dim() == 4 else 1) for x in sources]


def _fields(sources: list[Tensor], chunk: int) -> dict:
    """Sizes, and the arrays of q, k, v, log_decay, beta."""
    rows, steps, heads, size = sources[2].shape
    names = ("q", "k", "v", "log_decay", "beta")
    return {
        "rows": rows, "steps": steps, "heads": heads, "head_dim": size,
        "state": sources[0].shape[-1], "chunk": chunk,
    } | {name: array(x, x.dim() - 2) for name, x in zip(names, sources, strict=True)}  # fmt: skip


def _states(sources: list[Tensor], chunk: int, keep: bool) -> Tensor:
    rows, steps, heads, size = sources[2].shape
    length = min(max(-(-chunk // 16) * 16, 16), 64)
    count = -(-steps // length) if keep else 0
    shape = rows, heads, count, sources[0].shape[-1] * size
    return torch.empty(shape, dtype=torch.float32, device=sources[2].device)


@torch.library.custom_op("solomonic::delta", mutates_args=(), device_types="cpu")
def _delta(
    sources: list[Tensor], s: Tensor, chunk: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """sources = q, k, v, log_decay, beta."""
    sources, s = _lay(sources), plain(s)
    y = torch.empty(sources[2].shape, dtype=sources[2].dtype)
    last, states = torch.empty_like(s), _states(sources, chunk, keep)
    fields = _fields(sources, chunk) | {
        "y": array(y, 2), "s0": s.data_ptr(), "s1": last.data_ptr(),
        "states": states.data_ptr() if keep else None,
    }  # fmt: skip
    call("delta_forward", fields)
    return y, last, states


@_delta.register_fake
def _(sources, s, chunk, keep):
    v = sources[2]
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    return y, s.new_empty(s.shape), _states(sources, chunk, keep)


@torch.library.custom_op("solomonic::delta_backward", mutates_args=(), device_types="cpu")
def _delta_backward(
    grads: list[Tensor | None], sources: list[Tensor], states: Tensor, chunk: int
) -> list[Tensor]:
    """Gradients of the sources, and last of the first state; grads: of y and of the last state."""
    laid = _lay(sources)
    dy = torch.zeros_like(laid[2]) if grads[0] is None else settled(grads[0], 2)
    dlast = None if grads[1] is None else plain(grads[1])
    outs = [torch.empty(x.shape, dtype=x.dtype) for x in sources]
    rows, _, heads, size = sources[2].shape
    ds = states.new_empty(rows, heads, sources[0].shape[-1], size)
    dq, dk, dv, dlog_decay, dbeta = outs
    fields = _fields(laid, chunk) | {
        "dy": array(dy, 2), "states": states.data_ptr(), "dq": array(dq, 2), "dk": array(dk, 2),
        "dv": array(dv, 2), "dlog_decay": array(dlog_decay, 1), "dbeta": array(dbeta, 1),
        "ds1": None if dlast is None else dlast.data_ptr(), "ds0": ds.data_ptr(),
    }  # fmt: skip
    call("delta_backward", fields)
    return [*outs, ds]


@_delta_backward.register_fake
def _(grads, sources, states, chunk):
    rows, _, heads, size = sources[2].shape
    outs = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in sources]
    return [*outs, states.new_empty(rows, heads, sources[0].shape[-1], size)]


def _save(ctx, inputs, output):
    sources, _, chunk, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(output[2], *sources)
    ctx.chunk = chunk


def _backward(ctx, dy, dlast, _states):
    states, *sources = ctx.saved_tensors
    *outs, ds = _delta_backward([dy, dlast], sources, states, ctx.chunk)
    return outs, ds, None, None


_delta.register_autograd(_backward, setup_context=_save)
