"""B'MOJO attention, one refresh block at a time: the parallel form for any segment of a stream.

Within a refresh block the eidetic set is constant, so R queries share it:
[m_e slots | previous w - 1 tokens | the block | fading tokens] under one mask. Cost and memory are
linear in T. A single token is a block of one query and needs no grid.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from solomonic.kernels.attention.grid import Grid, lay, neighbourhood, span
from solomonic.kernels.attention.recalled import Recalled, attend_recalled, merge
from solomonic.kernels.attention.rotary import rotate
from solomonic.kernels.attention.softmax import attend, attend_parts
from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.segments import padding_mask, tail, take
from solomonic.kernels.selection.blocks import select, top


class _Buffers(NamedTuple):
    """[carried | new] buffers of one call: raw (B, w-1+T, 2, G, D), eps (B, w-1+T), faded."""

    raw: Tensor
    eps: Tensor | None
    faded: Tensor | None


class _Slots(NamedTuple):
    """The eidetic memory after a call, and its history for those who ask."""

    pairs: Tensor
    eps: Tensor
    time: Tensor
    kept: Tensor | None


def attention(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
    recalled: Recalled | None = None,
) -> AttentionOutput:  # fmt: skip
    """Same function as `reference.attention`; `fresh` promises that `carry` is empty."""
    if q.shape[1] == 0:
        return AttentionOutput(q, carry, carry.slot_time[:, None] if spec.slots else None)
    if eps is not None:
        eps = eps.to(carry.raw_eps.dtype)
        if lengths is not None:
            eps = eps.masked_fill(~padding_mask(q.shape[1], lengths), -torch.inf)
    buffers = _Buffers(
        torch.cat((carry.raw.to(kv.dtype), kv), dim=1),
        None if eps is None else torch.cat((carry.raw_eps, eps), dim=1),
        None if faded is None else torch.cat((carry.faded.to(faded.dtype), faded), dim=1),
    )
    carry = carry._replace(slots=carry.slots.to(kv.dtype))
    parts = None if recalled is None else []
    if q.shape[1] == 1:
        out, slots = _single(q, buffers, carry, spec, lengths, parts)
    else:
        out, slots = _many(q, buffers, carry, spec, lengths, fresh, parts)
    if recalled is not None and parts is not None:
        out = merge(out, parts[0], *attend_recalled(q, recalled, carry.time, spec))
    following = Carry(
        time=carry.time + (q.shape[1] if lengths is None else lengths),
        raw=tail(buffers.raw, spec.ring, lengths, spec.ring),
        raw_eps=_tail_or(buffers.eps, carry.raw_eps, spec.ring, lengths),
        faded=_tail_or(buffers.faded, carry.faded, spec.fading_ring, lengths),
        slots=slots.pairs,
        slot_eps=slots.eps,
        slot_time=slots.time,
    )
    return AttentionOutput(out, following, slots.kept)


def _tail_or(buffer: Tensor | None, carried: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    return carried if buffer is None else tail(buffer, size, lengths, size)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, size: int, parts: list | None):
    """`attend`; who merges with another part gives a list, to which log-sum-exps are appended."""
    if parts is None:
        return attend(q, k, v, mask, size)
    bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, -torch.inf)
    out, lse = attend_parts(q, k, v, bias, size)
    parts.append(lse)
    return out


def _many(q, buffers: _Buffers, carry: Carry, spec: AttentionSpec, lengths, fresh: bool, parts):
    """Two tokens or more: every row on the grid of its own refresh boundaries."""
    rows, steps, _, head = q.shape
    grid = lay(carry.time, steps, spec.refresh, fresh)
    size, context = grid.size, -(-spec.ring // grid.size) * grid.size
    raw = grid.place(buffers.raw, spec.ring, -context, context + grid.blocks * size)
    slots = _Slots(carry.slots, carry.slot_eps, carry.slot_time, None)
    sources, masks = [], []
    if buffers.eps is not None:
        slots, chosen = _choose(raw, buffers.eps, carry, spec, grid)
        sources.append(chosen)
        masks.append(_slot_mask(slots.time[:, :-1], grid, spec))
        slots = _after(slots, carry.time, steps if lengths is None else lengths, grid)
    if spec.window:
        sources.append(neighbourhood(raw, grid, context + size))
        masks.append(_window_mask(grid, spec, context, q.device))
    if buffers.faded is not None:
        near, mask = _fading(buffers.faded, grid, spec)
        sources.append(near)
        masks.append(mask)

    queries = grid.place(q, 0, 0, grid.blocks * size).unflatten(1, (grid.blocks, size))
    queries = queries.flatten(0, 1)
    mask = torch.cat([m.expand(rows, grid.blocks, size, -1) for m in masks], dim=-1).flatten(0, 1)
    k, v = torch.cat(sources, dim=1).unbind(2)
    if spec.rope_theta is not None:
        place = torch.arange(-context, size, device=q.device)
        queries, k = _rotate(queries, k, place[context:], place, spec)
    out = _attend(queries, k, v, mask, head, parts)
    if parts is not None:
        parts[0] = grid.unshift(parts[0].unflatten(0, (rows, grid.blocks)).flatten(1, 2), steps)
    return grid.unshift(out.unflatten(0, (rows, grid.blocks)).flatten(1, 2), steps), slots


def _choose(raw: Tensor, eps: Tensor, carry: Carry, spec: AttentionSpec, grid: Grid):
    """Run the selection over all blocks.

    Returns:
        The whole history as slots (B, n + 1, m_e, ...) and the keys and values each block reads,
        (B * n, m_e, 2, G, D), with gradient to the tokens chosen.
    """
    rows, shape = len(raw), (grid.blocks, grid.size)
    total = grid.blocks * grid.size
    context = raw.shape[1] - total
    places = torch.arange(-context, total, device=raw.device)
    pool = torch.cat((carry.slots, raw), dim=1)
    pool_time = torch.cat((carry.slot_time, grid.start[:, None] + places), dim=1)
    names = torch.arange(spec.slots + context, pool.shape[1], device=raw.device)
    eps_seq, name_seq = select(
        grid.place(eps, spec.ring, 0, total, fill=-torch.inf).unflatten(1, shape),
        names.expand(rows, -1).unflatten(1, shape),
        carry.slot_eps,
        torch.arange(spec.slots, device=raw.device).expand(rows, -1),
    )
    flat = name_seq.flatten(1)
    times = pool_time.gather(1, flat).view_as(name_seq).masked_fill(eps_seq == -torch.inf, -1)
    pairs = take(pool, flat).unflatten(1, name_seq.shape[1:])
    return _Slots(pairs, eps_seq, times, times), pairs[:, :-1].flatten(0, 1)


def _after(history: _Slots, time: Tensor, steps: int | Tensor, grid: Grid) -> _Slots:
    """The slots each row is left with: those after the last block it has completed."""
    done = torch.div(time - grid.start + steps, grid.size, rounding_mode="floor")
    row = torch.arange(len(time), device=time.device)
    # The history counts the tokens of an unfinished block as kept; nothing is, before its end.
    known = torch.arange(grid.blocks + 1, device=time.device).minimum(done[:, None])
    kept = take(history.time, known)
    return _Slots(history.pairs[row, done], history.eps[row, done], history.time[row, done], kept)


def _slot_mask(kept: Tensor, grid: Grid, spec: AttentionSpec) -> Tensor:
    """(B, blocks, R, m_e): filled slots, without those the window still shows."""
    filled = (kept >= 0)[:, :, None]
    if spec.keep_duplicates:
        return filled.expand(-1, -1, grid.size, -1)
    now = grid.start[:, None] + torch.arange(grid.blocks * grid.size, device=kept.device)
    oldest = (now - spec.window).unflatten(1, (grid.blocks, grid.size))
    return filled & (kept[:, :, None] <= oldest[..., None])


def _window_mask(grid: Grid, spec: AttentionSpec, context: int, device: torch.device) -> Tensor:
    """(B or 1, blocks, R, context + R): the last w tokens that exist."""
    query = torch.arange(grid.size, device=device)[:, None]
    key = torch.arange(-context, grid.size, device=device)
    return (key <= query) & (key > query - spec.window) & _exists(grid, key)


def _exists(grid: Grid, key: Tensor) -> Tensor:
    """(B or 1, blocks, 1, S): keys at places `key` (S,) of each block whose time is not below 0."""
    base = torch.arange(grid.blocks, device=key.device) * grid.size
    start = base[None] if grid.fresh else grid.start[:, None] + base
    return (start[..., None] + key >= 0)[:, :, None]


def _fading(history: Tensor, grid: Grid, spec: AttentionSpec) -> tuple[Tensor, Tensor]:
    """Keys, values (B * blocks, S, 2, G, D) and mask (B or 1, blocks, R, S) of fading tokens."""
    if spec.chunked_fading:  # the same tokens s - m_f .. s - 1 for the whole block
        first, count = -spec.fading, spec.fading
    else:  # query r reads r - l - m_f + 1 .. r - l
        first, count = 1 - spec.lag - spec.fading, grid.size + spec.fading - 1
    key = torch.arange(first, first + count, device=history.device)
    gap = torch.arange(grid.size, device=history.device)[:, None] - key
    near = torch.ones_like(gap, dtype=torch.bool)
    if not spec.chunked_fading:
        near = (gap >= spec.lag) & (gap < spec.lag + spec.fading)
    aligned = grid.place(history, spec.fading_ring, first, span(grid, count))
    return neighbourhood(aligned, grid, count), near & _exists(grid, key)


def _single(q, buffers: _Buffers, carry: Carry, spec: AttentionSpec, lengths, parts):
    """One token a row: decoding."""
    rows, head, device = len(q), q.shape[-1], q.device
    now = carry.time[:, None]
    sources, masks = [], []
    if spec.slots:
        old = carry.slot_time >= 0
        masks.append(old if spec.keep_duplicates else old & (carry.slot_time <= now - spec.window))
        sources.append(carry.slots)
    if spec.window:
        sources.append(buffers.raw)
        masks.append(now + torch.arange(-spec.ring, 1, device=device) >= 0)
    if buffers.faded is not None:
        young = torch.arange(spec.fading, device=device) - spec.fading_ring
        when = now + young  # band: t - l - m_f + 1 .. t - l stand first in the buffer
        faded = buffers.faded[:, : spec.fading]
        if spec.chunked_fading:
            phase = now % spec.refresh
            when = now - phase + torch.arange(-spec.fading, 0, device=device)
            faded = take(buffers.faded, when - now + spec.fading_ring)
        sources.append(faded)
        masks.append(when >= 0)
    k, v = torch.cat(sources, dim=1).unbind(2)
    if spec.rope_theta is not None:
        place = torch.arange(-spec.ring, 1, device=device)
        q, k = _rotate(q, k, place[-1:], place, spec)
    mask = torch.cat([m.expand(rows, -1) for m in masks], dim=1)[:, None]
    out = _attend(q, k, v, mask, head, parts)
    slots = _insert(buffers, carry, spec, lengths)
    if spec.slots:
        slots = slots._replace(kept=torch.stack((carry.slot_time, slots.time), dim=1))
    return out, slots


def _insert(buffers: _Buffers, carry: Carry, spec: AttentionSpec, lengths) -> _Slots:
    """Commit the tokens since the last refresh in the rows that just reached a boundary."""
    slots = _Slots(carry.slots, carry.slot_eps, carry.slot_time, None)
    if buffers.eps is None:
        return slots
    due = (carry.time + 1) % spec.refresh == 0
    if lengths is not None:
        due = due & (lengths > 0)
    if not bool(due.any()):
        return slots
    last, device = spec.refresh, due.device
    pool = torch.cat((carry.slots, buffers.raw[:, -last:]), dim=1)
    when = carry.time[:, None] + torch.arange(1 - last, 1, device=device)
    when = torch.cat((carry.slot_time, when), dim=1)
    names = torch.arange(pool.shape[1], device=device).expand(len(pool), -1)
    with torch.no_grad():
        eps = torch.cat((carry.slot_eps, buffers.eps[:, -last:]), dim=1)
        eps, names = top(eps, names, spec.slots)
    new = _Slots(
        take(pool, names), eps, when.gather(1, names).masked_fill(eps == -torch.inf, -1), None
    )

    def choose(fresh: Tensor, old: Tensor) -> Tensor:
        return torch.where(due.view(-1, *[1] * (fresh.dim() - 1)), fresh, old)

    return _Slots(
        choose(new.pairs, slots.pairs),
        choose(new.eps, slots.eps),
        choose(new.time, slots.time),
        None,
    )


def _rotate(q: Tensor, k: Tensor, q_place: Tensor, k_place: Tensor, spec: AttentionSpec):
    """Double the head: window keys meet the query at their distance, memories at distance w."""
    theta = spec.rope_theta
    assert theta is not None
    first, count = spec.slots, len(k_place) if spec.window else 0
    far = torch.full((1,), spec.window, device=q.device)
    q = torch.cat((rotate(q, q_place, theta), rotate(q, far, theta)), dim=-1)
    size = k.shape[-1]
    slots, window, faded = k[:, :first], k[:, first : first + count], k[:, first + count :]
    parts = [pad(slots, (size, 0)), pad(faded, (size, 0))]
    if count:
        parts.insert(1, pad(rotate(window, k_place, theta), (0, size)))
    return q, torch.cat(parts, dim=1)
