"""B'MOJO attention in the native core: tiles of queries against gathered keys.

Saved for the backward pass are the inputs, the log of each query's sum of exponentials and which
tokens the slots held, so memory is linear in T; scores are computed again tile by tile.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.native_ops import array, call, plain, settled, why_not


def refuses(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
) -> str | None:  # fmt: skip
    """None, or why the native core cannot take these."""
    return why_not(q, kv, faded, carry.raw, carry.slots)


def attention(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
) -> AttentionOutput:  # fmt: skip
    """Same function as `reference.attention`; `fresh` promises that `carry` is empty."""
    steps = q.shape[1]
    if q.numel() == 0:
        return AttentionOutput(q, carry, carry.slot_time[:, None] if spec.slots else None)
    phase = 0 if fresh else int((carry.time % spec.refresh).max())
    blocks = -(-(phase + steps) // spec.refresh)
    kind = kv.dtype
    ring = carry.faded.to(kind) if spec.fading else carry.faded
    outs = _attend(
        q, kv, None if faded is None else faded.to(kind), eps, carry.raw.to(kind), ring,
        carry.slots.to(kind), carry.raw_eps, carry.slot_eps, carry.slot_time, carry.time, lengths,
        blocks, *_plain(spec),
    )  # fmt: skip
    out, raw, faded_ring, slots, raw_eps, slot_eps, slot_time, kept = outs[:8]
    following = Carry(
        time=carry.time + (steps if lengths is None else lengths),
        raw=raw,
        raw_eps=raw_eps if spec.slots else carry.raw_eps,
        faded=faded_ring,
        slots=slots,
        slot_eps=slot_eps,
        slot_time=slot_time,
    )
    return AttentionOutput(out, following, kept if spec.slots else None)


def _plain(spec: AttentionSpec) -> tuple[list[int], float]:
    """A spec in types that custom ops take: all but rope_theta, and rope_theta or 0."""
    values = dataclasses.asdict(spec)
    theta = values.pop("rope_theta")
    return [int(value) for value in values.values()], 0.0 if theta is None else float(theta)


_NAMES = [f.name for f in dataclasses.fields(AttentionSpec) if f.name != "rope_theta"]


def _fields(q: Tensor, kv: Tensor, spec: list[int], theta: float, blocks: int) -> dict[str, Any]:
    rows, steps, heads, size = q.shape
    return dict(zip(_NAMES, spec, strict=True)) | {
        "rows": rows, "steps": steps, "heads": heads, "groups": kv.shape[3], "head_dim": size,
        "rope_theta": theta, "blocks": blocks,
    }  # fmt: skip


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _tensors(prefix: str, **tensors: Tensor | None) -> dict[str, Any]:
    """Key-value pairs (B, n, 2, G, D) that exist, by name."""
    return {
        prefix + name: array(x, 3) for name, x in tensors.items() if x is not None and x.numel()
    }


def _outputs(q, kv, raw, ring, slots, raw_eps, slot_eps, slot_time, blocks, spec):
    rows, steps, heads, _ = q.shape
    history = rows, blocks + 1, spec[_NAMES.index("slots")]

    def like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device)

    return (
        like(q), like(raw), like(ring), like(slots), like(raw_eps), like(slot_eps),
        like(slot_time), slot_time.new_empty(history), slot_time.new_empty(history),
        q.new_empty(rows, steps, heads, dtype=torch.float32),
    )  # fmt: skip


Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("solomonic::attention", mutates_args=(), device_types="cpu")
def _attend(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None, raw: Tensor, ring: Tensor,
    slots: Tensor, raw_eps: Tensor, slot_eps: Tensor, slot_time: Tensor, time: Tensor,
    lengths: Tensor | None, blocks: int, spec: list[int], theta: float,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    q, kv = settled(q, 2), settled(kv, 3)
    faded = None if faded is None else settled(faded, 3)
    raw, ring, slots = settled(raw, 3), settled(ring, 3), settled(slots, 3)
    eps = None if eps is None else plain(eps)
    raw_eps, slot_eps, slot_time = plain(raw_eps), plain(slot_eps), slot_time.contiguous()
    time, lengths = time.contiguous(), None if lengths is None else lengths.contiguous()
    outs = _outputs(q, kv, raw, ring, slots, raw_eps, slot_eps, slot_time, blocks, spec)
    out, new_raw, new_ring, new_slots, new_raw_eps, new_slot_eps, new_time, kept, names, lse = outs
    fields = _fields(q, kv, spec, theta, blocks) | {
        "q": array(q, 2), "out": array(out, 2), "eps": _address(eps),
        "raw_eps": raw_eps.data_ptr(), "slot_eps": slot_eps.data_ptr(),
        "slot_time": slot_time.data_ptr(), "time": time.data_ptr(), "lengths": _address(lengths),
        "lse": lse.data_ptr(), "names": names.data_ptr(), "kept": kept.data_ptr(),
        "new_raw_eps": new_raw_eps.data_ptr(), "new_slot_eps": new_slot_eps.data_ptr(),
        "new_slot_time": new_time.data_ptr(),
    }  # fmt: skip
    fields |= _tensors("", kv=kv, faded=faded, raw=raw, faded_ring=ring, slots_pairs=slots)
    fields |= _tensors("new_", raw=new_raw, faded_ring=new_ring, slots_pairs=new_slots)
    call("attention_forward", fields)
    return outs


@_attend.register_fake
def _(
    q, kv, faded, eps, raw, ring, slots, raw_eps, slot_eps, slot_time, time, lengths, blocks,
    spec, theta,
):  # fmt: skip
    return _outputs(q, kv, raw, ring, slots, raw_eps, slot_eps, slot_time, blocks, spec)


@torch.library.custom_op("solomonic::attention_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    grads: list[Tensor | None], q: Tensor, kv: Tensor, faded: Tensor | None, carried: list[Tensor],
    tensors: list[Tensor], lengths: Tensor | None, spec: list[int], theta: float,
) -> list[Tensor]:  # fmt: skip
    q, kv = settled(q, 2), settled(kv, 3)
    faded = None if faded is None else settled(faded, 3)
    raw, ring, slots = (settled(x, 3) for x in carried)
    time, kept, names, lse = tensors
    time, lengths = time.contiguous(), None if lengths is None else lengths.contiguous()
    dout = torch.zeros_like(q) if grads[0] is None else settled(grads[0], 2)
    dnew = [None if g is None else settled(g, 3) for g in grads[1:]]
    wanted = [q, kv, kv if faded is None else faded, raw, ring, slots]
    outs = [torch.empty(x.shape, dtype=x.dtype) for x in wanted]
    dq, dkv, dfaded, draw, dring, dslots = outs
    fields = _fields(q, kv, spec, theta, kept.shape[1] - 1) | {
        "q": array(q, 2), "time": time.data_ptr(), "lengths": _address(lengths),
        "lse": lse.data_ptr(), "names": names.data_ptr(), "kept": kept.data_ptr(),
        "dout": array(dout, 2), "dq": array(dq, 2),
    }  # fmt: skip
    fields |= _tensors("", kv=kv, faded=faded, raw=raw, faded_ring=ring, slots_pairs=slots)
    fields |= _tensors("dnew_", raw=dnew[0], faded_ring=dnew[1], slots_pairs=dnew[2])
    fields |= _tensors("d", kv=dkv, raw=draw, faded_ring=dring, slots_pairs=dslots)
    fields |= {} if faded is None else {"dfaded": array(dfaded, 3)}
    call("attention_backward", fields)
    return outs


@_attend_backward.register_fake
def _(grads, q, kv, faded, carried, tensors, lengths, spec, theta):
    wanted = [q, kv, kv if faded is None else faded, *carried]
    return [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in wanted]


def _save(ctx, inputs, output):
    q, kv, faded, _, raw, ring, slots, _, _, _, time, lengths, _, spec, theta = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[4:])
    ctx.save_for_backward(q, kv, faded, raw, ring, slots, time, lengths, *output[7:])
    ctx.spec, ctx.theta = spec, theta


def _backward(ctx, *grads):
    q, kv, faded, raw, ring, slots, time, lengths, kept, names, lse = ctx.saved_tensors
    dq, dkv, dfaded, draw, dring, dslots = _attend_backward(
        list(grads[:4]), q, kv, faded, [raw, ring, slots], [time, kept, names, lse], lengths,
        ctx.spec, ctx.theta,
    )  # fmt: skip
    dfaded = None if faded is None else dfaded
    return (dq, dkv, dfaded, None, draw, dring, dslots, *[None] * 8)


_attend.register_autograd(_backward, setup_context=_save)
