"""B'MOJO attention, the slow definition: every row, every token, the three sets spelled out.

Source: Zancato et al., arXiv 2407.06324, section 3, fixed in bmojo.md.
"""

import torch
from torch import Tensor

from solomonic.kernels.attention.recalled import Recalled
from solomonic.kernels.attention.rotary import rotate
from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.segments import tail
from solomonic.kernels.selection.reference import select


def attention(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
    recalled: Recalled | None = None,
) -> AttentionOutput:  # fmt: skip
    """out_t = softmax over z in W_t U M_t U F_t U C_t of q_t.K_z / sqrt(D), times V_z.

    Args:
        q: (B, T, H, D) queries.
        kv: (B, T, 2, G, D) keys and values of the raw tokens.
        faded: (B, T, 2, G, D) keys and values of the fading memory, None when m_f = 0.
        eps: (B, T) innovations, None when m_e = 0.
        carry: what earlier calls left.
        spec: the sets.
        lengths: (B,) real tokens of right-padded rows; outputs behind them are undefined.
        fresh: ignored here.
        recalled: slots of a long-term memory for each chunk (C_t), with biases; None: none.

    Returns:
        Outputs and the next carry; the history of the slots is left out here.
    """
    rows, steps = q.shape[:2]
    lengths = torch.full((rows,), steps, device=q.device) if lengths is None else lengths
    outs, carries = [], []
    for row in range(rows):
        mine = Carry(*(part[row : row + 1] for part in carry))
        out_row = [torch.zeros_like(q[row, 0])] * steps
        for t in range(int(lengths[row])):
            now = slice(t, t + 1)
            mine, out_row[t] = _token(
                q[row, t], kv[row : row + 1, now],
                None if faded is None else faded[row : row + 1, now],
                None if eps is None else eps[row : row + 1, now], mine, spec,
                _chunk(recalled, row, int(mine.time[0])),
            )  # fmt: skip
        outs.append(torch.stack(out_row) if steps else q[row])
        carries.append(mine)
    joined = Carry(*(torch.cat(parts) for parts in zip(*carries, strict=True)))
    return AttentionOutput(torch.stack(outs), joined, None)


def _chunk(recalled: Recalled | None, row: int, t: int) -> list[tuple[Tensor, None, Tensor]]:
    """What was recalled for the token at time t."""
    if recalled is None:
        return []
    chunk = (t - int(recalled.begin[row])) // recalled.period
    if not 0 <= chunk < recalled.pairs.shape[1]:
        return []
    pairs, bias = recalled.pairs[row, chunk], recalled.bias[row, chunk]
    return [(pairs[i], None, bias[i]) for i in range(len(bias)) if bias[i] > -torch.inf]


def _token(q, kv, faded, eps, carry: Carry, spec: AttentionSpec, more: list):
    """One token of one row: q (H, D), the others (1, 1, ...). Returns (carry, out)."""
    t = int(carry.time[0])
    boundary = spec.refresh * (t // spec.refresh)
    raw = torch.cat((carry.raw.to(kv.dtype), kv), dim=1)[0]
    raw_time = [t - len(raw) + 1 + i for i in range(len(raw))]
    sets: list[tuple[Tensor, int | None, Tensor | None]] = [
        (raw[i], t - j, None)
        for i, j in enumerate(raw_time)
        if max(0, t - spec.window + 1) <= j <= t
    ]
    for slot, when in zip(carry.slots[0].to(kv.dtype), carry.slot_time[0].tolist(), strict=True):
        if when >= 0 and (spec.keep_duplicates or when <= t - spec.window):
            sets.append((slot, None, None))
    history = carry.faded if faded is None else torch.cat((carry.faded.to(kv.dtype), faded), dim=1)
    for j in range(spec.fading):
        when = boundary - 1 - j if spec.chunked_fading else t - spec.lag - j
        if when >= 0:
            sets.append((history[0, when - t - 1], None, None))
    out = _softmax(q, sets + more, spec)

    fresh = carry._replace(
        time=carry.time + 1,
        raw=tail(raw[None], spec.ring, None, spec.ring),
        faded=history[:, history.shape[1] - spec.fading_ring :],
    )
    if eps is None or spec.slots == 0:
        return fresh, out
    eps_ring = torch.cat((carry.raw_eps, eps.to(carry.raw_eps.dtype)), dim=1)
    fresh = fresh._replace(raw_eps=eps_ring[:, 1:] if spec.ring else eps_ring[:, :0])
    if (t + 1) % spec.refresh:
        return fresh, out
    return _commit(fresh, raw, eps_ring[0], t, spec), out


def _softmax(q: Tensor, sets: list, spec: AttentionSpec) -> Tensor:
    """q (H, D); sets of ((2, G, D), distance or None for a memory, bias of its score or None)."""
    if not sets:
        return torch.zeros_like(q)
    repeat = q.shape[0] // sets[0][0].shape[1]
    scores, values = [], []
    for pair, distance, bias in sets:
        key, value = pair.to(q.dtype).repeat_interleave(repeat, dim=1)
        query = q
        if spec.rope_theta is not None:
            place = torch.tensor([spec.window if distance is None else distance], device=q.device)
            query = rotate(q[None], place, spec.rope_theta)[0]
        score = (query * key).sum(dim=-1) / q.shape[-1] ** 0.5
        scores.append(score if bias is None else score + bias)
        values.append(value)
    weights = torch.softmax(torch.stack(scores), dim=0)
    return (weights[..., None] * torch.stack(values)).sum(dim=0)


def _commit(carry: Carry, raw: Tensor, eps: Tensor, t: int, spec: AttentionSpec) -> Carry:
    """The tokens since the last refresh compete for the slots."""
    last = spec.refresh
    names = torch.arange(t + 1 - last, t + 1, device=raw.device)
    slot_eps, slot_time = select(
        eps[-last:][None, None], names[None, None], carry.slot_eps, carry.slot_time
    )
    held = {int(when): carry.slots[0, i] for i, when in enumerate(carry.slot_time[0])}
    for place in range(last):
        held[int(names[place])] = raw[len(raw) - last + place]
    slots = torch.stack([held[int(when)].to(raw.dtype) for when in slot_time[0, -1]])[None]
    return carry._replace(slots=slots, slot_eps=slot_eps[:, -1], slot_time=slot_time[:, -1])
