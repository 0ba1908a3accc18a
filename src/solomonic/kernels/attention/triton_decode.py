"""One decoding step of B'MOJO attention on a GPU, without gradient and without asking the device.

Whether a row has reached a refresh boundary is decided on the device: the merge of slots and
pending tokens is computed always (it is small), the keys and values move only in rows that are due.
A caller that gave its state away (`kernels.triton.donate`) gets the same buffers back, changed.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from solomonic.kernels import triton as device
from solomonic.kernels.attention import triton as forward
from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.selection import triton as selection

CONFIGS: list[device.Config] = [
    {"BM": 16, "BN": keys, "num_warps": warps, "num_stages": stages}
    for keys, warps, stages in ((64, 4, 3), (32, 4, 4), (128, 4, 2), (128, 8, 2), (32, 2, 4))
]


class Merge(NamedTuple):
    """The slots after a step: where each comes from, innovation, time; and which rows are due."""

    names: Tensor
    eps: Tensor
    time: Tensor
    due: Tensor


@device.on_its_device
def decode(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None,
) -> AttentionOutput:  # fmt: skip
    """`triton.attention` for one token a row; carry in the type of kv."""
    read = torch.ones_like(carry.time) if lengths is None else lengths
    plan = forward.Plan(
        spec.window, spec.refresh, spec.slots if eps is not None else 0,
        spec.fading if faded is not None else 0, spec.lag, int(spec.chunked_fading),
        int(spec.keep_duplicates), 1,
    )  # fmt: skip
    merge = None if eps is None or not plan.slots else _merge(eps, carry, spec, read)
    pairs = carry.slots if merge is None else _commit(q, kv, carry, merge, plan)
    out, raw, fading = _attend(q, kv, faded, carry, plan, spec.rope_theta or 0.0, read)
    if merge is not None and device.donated():
        pairs = _move(q, pairs, carry.slots, merge, plan)
    following = Carry(
        time=carry.time + read,
        raw=raw,
        raw_eps=carry.raw_eps if eps is None else forward.recent(carry.raw_eps, eps, lengths),
        faded=fading,
        slots=pairs,
        slot_eps=carry.slot_eps if merge is None else merge.eps,
        slot_time=carry.slot_time if merge is None else merge.time,
    )
    if not spec.slots or merge is None:
        return AttentionOutput(out, following, None)
    return AttentionOutput(out, following, torch.stack((carry.slot_time, merge.time), dim=1))


def _merge(eps: Tensor, carry: Carry, spec: AttentionSpec, read: Tensor) -> Merge:
    """What the slots will hold: the best of themselves and the tokens since the last refresh."""
    last, slots, where = spec.refresh, spec.slots, eps.device
    due = ((carry.time + 1) % last == 0) & (read > 0)
    recent = torch.cat((carry.raw_eps, eps.to(carry.raw_eps.dtype)), dim=1)[:, -last:]
    best, names = selection.top(torch.cat((carry.slot_eps, recent), dim=1).detach(), slots)
    when = carry.time[:, None] + torch.arange(1 - last, 1, device=where)
    time = torch.cat((carry.slot_time, when), dim=1).gather(1, names)
    time = time.masked_fill(best == -torch.inf, -1)
    row = due[:, None]
    return Merge(
        torch.where(row, names, torch.arange(slots, device=where)).to(torch.int32),
        torch.where(row, best, carry.slot_eps),
        torch.where(row, time, carry.slot_time),
        due.to(torch.int32),
    )


def _settings(parts: list[Tensor], plan: forward.Plan, theta: float, config: device.Config):
    return forward.settings(parts, plan, theta, config)


def _attend(q, kv, faded, carry: Carry, plan: forward.Plan, theta: float, read: Tensor):
    """Outputs and the rings one place on; in place when they were given away."""
    phase = carry.time % plan.refresh
    rows = torch.stack((phase, -carry.time.clamp(max=forward.NEVER), read), dim=1)
    rows = rows.to(torch.int32)
    fades = faded if faded is not None else kv.new_empty(0)
    old = carry.faded if faded is not None else fades
    parts = [q, kv, carry.raw, carry.slots, fades, old]
    query, source, fading = forward.sources(parts)
    rings = [_contiguous(carry.raw), _contiguous(carry.faded)]
    if not device.donated():
        rings = [torch.empty_like(ring) for ring in rings]
    out = q.new_empty(q.shape)

    def launch(config: device.Config, raw: Tensor, later: Tensor) -> None:
        C = _settings(parts, plan, theta, config)
        targets = [forward.pairs_of(raw), forward.pairs_of(later)]
        _kernels().step[(kv.shape[3], len(q))](
            query, (*source[:2], targets[0], source[2]), (*fading, targets[1]),
            (carry.slot_time.contiguous(), carry.time), rows, forward.view_of(out),
            forward.table(q, C, theta), C, **device.launching(config),
        )  # fmt: skip

    def measured(config: device.Config) -> None:  # on copies: what is timed is run many times
        launch(config, torch.empty_like(rings[0]), torch.empty_like(rings[1]))

    launch(forward.tuned("attention.step", parts, plan, measured, CONFIGS), *rings)
    return out, rings[0], rings[1] if faded is not None else carry.faded


def _commit(q: Tensor, kv: Tensor, carry: Carry, merge: Merge, plan: forward.Plan) -> Tensor:
    """The slots' keys and values after the step, in new memory (only rows that are due when the
    state was given away)."""
    parts = [q, kv, carry.raw, carry.slots, kv.new_empty(0), kv.new_empty(0)]
    C = _settings(parts, plan, 0.0, CONFIGS[0])
    pairs = carry.slots.new_empty(carry.slots.shape)
    _, source, _ = forward.sources(parts)
    _kernels().commit[(-(-plan.slots // C.BN), kv.shape[3], len(q))](
        source[2], source[:2], merge.names, merge.due, forward.pairs_of(pairs),
        not device.donated(), C, **device.FUSED,
    )  # fmt: skip
    return pairs


def _move(q: Tensor, pairs: Tensor, slots: Tensor, merge: Merge, plan: forward.Plan) -> Tensor:
    """Put new slots into the given buffer, after attention has read the old ones."""
    slots = _contiguous(slots)
    C = _settings([q, pairs], plan, 0.0, CONFIGS[0])
    _kernels().move[(-(-plan.slots // C.BN), pairs.shape[3], len(q))](
        forward.pairs_of(pairs), merge.due, forward.pairs_of(slots), C, **device.FUSED
    )
    return slots


def _contiguous(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.contiguous()


def _kernels() -> Any:
    """The device functions; loading them imports Triton."""
    from solomonic.kernels.attention import triton_step

    return triton_step
