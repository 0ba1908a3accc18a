"""B'MOJO attention in the native core: tiles of queries against gathered keys.

Saved for the backward pass are the inputs, the log of each query's sum of exponentials and which
tokens the slots held, so memory is linear in T; scores are computed again tile by tile.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from solomonic.kernels.attention.recalled import Recalled, attend_recalled, merge
from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.native_ops import array, call, plain, settled, why_not


def refuses(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
    recalled: Recalled | None = None,
) -> str | None:  # fmt: skip
    """None, or why the native core cannot take these."""
    if recalled is not None and torch.is_grad_enabled():
        return "it has no gradient for recalled slots; it reads them under torch.no_grad()."
    return why_not(q, kv, faded, carry.raw, carry.slots)


def attention(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
    recalled: Recalled | None = None,
) -> AttentionOutput:  # fmt: skip
    """Same function as `reference.attention`; `fresh` promises that `carry` is empty."""
    steps = q.shape[1]
    if q.numel() == 0:
        return AttentionOutput(q, carry, carry.slot_time[:, None] if spec.slots else None)
    phase = 0 if fresh else int((carry.time % spec.refresh).max())
    blocks = -(-(phase + steps) // spec.refresh)
    kind = kv.dtype
    sources = [q, kv, carry.raw.to(kind), carry.faded.to(kind), carry.slots.to(kind)]
    if faded is not None:
        sources.append(faded.to(kind))
    book = [carry.time, carry.slot_time, carry.raw_eps, carry.slot_eps]
    outs = _attend(sources, book, eps, lengths, *_plain(spec, blocks))
    out, raw, faded_ring, slots, slot_time, raw_eps, slot_eps, kept = outs[:8]
    if recalled is not None:
        out = merge(out, outs[9], *attend_recalled(q, recalled, carry.time, spec))
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


_NAMES = [f.name for f in dataclasses.fields(AttentionSpec) if f.name != "rope_theta"]
_SLOTS = _NAMES.index("slots")


def _plain(spec: AttentionSpec, blocks: int) -> tuple[list[int], float]:
    """A spec in types that custom ops take: the fields of _NAMES and `blocks`; rope_theta or 0."""
    numbers = [int(getattr(spec, name)) for name in _NAMES]
    return [*numbers, blocks], float(spec.rope_theta or 0.0)


def _fields(q: Tensor, kv: Tensor, numbers: list[int], theta: float) -> dict[str, Any]:
    rows, steps, heads, size = q.shape
    return dict(zip((*_NAMES, "blocks"), numbers, strict=True)) | {
        "rows": rows, "steps": steps, "heads": heads, "groups": kv.shape[3], "head_dim": size,
        "rope_theta": theta,
    }  # fmt: skip


def _addresses(prefix: str = "", **tensors: Tensor | None) -> dict[str, Any]:
    return {prefix + name: x.data_ptr() for name, x in tensors.items() if x is not None}


def _pairs(prefix: str, **tensors: Tensor | None) -> dict[str, Any]:
    """Key-value pairs (B, n, 2, G, D) that exist, by name."""
    return {
        prefix + name: array(x, 3) for name, x in tensors.items() if x is not None and x.numel()
    }


def _lay(sources: list[Tensor]) -> list[Tensor]:
    """The sources as the native core reads them."""
    return [settled(x, 3 if i else 2) for i, x in enumerate(sources)]


def _outputs(sources: list[Tensor], book: list[Tensor], numbers: list[int]) -> Any:
    """out, the new carry (raw, faded, slots, slot_time, raw_eps, slot_eps), kept, names, lse."""
    q, time = sources[0], book[0]
    history = len(time), numbers[-1] + 1, numbers[_SLOTS]
    same = (q, *sources[2:5], *book[1:])
    return (
        *(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in same),
        time.new_empty(history),
        time.new_empty(history),
        q.new_empty(q.shape[:3], dtype=torch.float32),
    )


@torch.library.custom_op("solomonic::attention", mutates_args=(), device_types="cpu")
def _attend(
    sources: list[Tensor], book: list[Tensor], eps: Tensor | None, lengths: Tensor | None,
    numbers: list[int], theta: float,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """sources = q, kv, raw, faded ring, slots and faded, if there is one; book = time, slot_time,
    raw_eps, slot_eps; numbers and theta as from `_plain`."""
    q, kv, raw, ring, slots, *faded = _lay(sources)
    time, slot_time = book[0].contiguous(), book[1].contiguous()
    raw_eps, slot_eps = plain(book[2]), plain(book[3])
    eps = None if eps is None else plain(eps)
    lengths = None if lengths is None else lengths.contiguous()
    outs = _outputs([q, kv, raw, ring, slots], [time, slot_time, raw_eps, slot_eps], numbers)
    out, new_raw, new_ring, new_slots, new_time, new_raw_eps, new_slot_eps = outs[:7]
    fields = _fields(q, kv, numbers, theta) | {"q": array(q, 2), "out": array(out, 2)}
    fields |= _addresses(
        time=time, slot_time=slot_time, raw_eps=raw_eps, slot_eps=slot_eps, eps=eps, lengths=lengths
    )
    fields |= _addresses(kept=outs[7], names=outs[8], lse=outs[9])
    fields |= _addresses("new_", slot_time=new_time, raw_eps=new_raw_eps, slot_eps=new_slot_eps)
    fields |= _pairs(
        "", kv=kv, faded=faded[0] if faded else None, raw=raw, faded_ring=ring, slots_pairs=slots
    )
    fields |= _pairs("new_", raw=new_raw, faded_ring=new_ring, slots_pairs=new_slots)
    call("attention_forward", fields)
    return outs


@_attend.register_fake
def _(sources, book, eps, lengths, numbers, theta):
    return _outputs(sources, book, numbers)


@torch.library.custom_op("solomonic::attention_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    grads: list[Tensor | None], sources: list[Tensor], found: list[Tensor],
    lengths: Tensor | None, numbers: list[int], theta: float,
) -> list[Tensor]:  # fmt: skip
    """Gradients of the sources.

    grads: of out and of the new raw, faded ring and slots; found: time, kept, names, lse.
    """
    q, kv, raw, ring, slots, *faded = _lay(sources)
    time, kept, names, lse = (x.contiguous() for x in found)
    lengths = None if lengths is None else lengths.contiguous()
    dout = torch.zeros_like(q) if grads[0] is None else settled(grads[0], 2)
    dnew = [None if g is None else settled(g, 3) for g in grads[1:]]
    outs = [torch.empty(x.shape, dtype=x.dtype) for x in sources]
    dq, dkv, draw, dring, dslots, *dfaded = outs
    fields = _fields(q, kv, numbers, theta)
    fields |= {"q": array(q, 2), "dout": array(dout, 2), "dq": array(dq, 2)}
    fields |= _addresses(time=time, kept=kept, names=names, lse=lse, lengths=lengths)
    fields |= _pairs(
        "", kv=kv, faded=faded[0] if faded else None, raw=raw, faded_ring=ring, slots_pairs=slots
    )
    fields |= _pairs("dnew_", raw=dnew[0], faded_ring=dnew[1], slots_pairs=dnew[2])
    fields |= _pairs("d", kv=dkv, raw=draw, faded_ring=dring, slots_pairs=dslots)
    fields |= _pairs("d", faded=dfaded[0] if dfaded else None)
    call("attention_backward", fields)
    return outs


@_attend_backward.register_fake
def _(grads, sources, found, lengths, numbers, theta):
    return [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in sources]


def _save(ctx, inputs, output):
    sources, book, _, lengths, numbers, theta = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[4:])
    ctx.save_for_backward(lengths, book[0], *output[7:], *sources)
    ctx.numbers, ctx.theta = numbers, theta


def _backward(ctx, *grads):
    lengths, *tensors = ctx.saved_tensors
    outs = _attend_backward(
        list(grads[:4]), tensors[4:], tensors[:4], lengths, ctx.numbers, ctx.theta
    )
    return outs, [None] * 4, None, None, None, None


_attend.register_autograd(_backward, setup_context=_save)
