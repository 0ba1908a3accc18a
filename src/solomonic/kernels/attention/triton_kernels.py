"""Triton kernels of B'MOJO attention: forward, and the gradient of the queries. Importing this
imports Triton; `triton.py` beside it launches.

One program takes a tile of queries of one refresh block, row and group of heads, and walks over the
keys they may read with an online softmax: the block's slots, gathered from wherever they lie, the
window, the fading tokens. Nothing is concatenated and no mask is stored: tokens are addressed by
i, counted from the first new token, so that i < 0 was carried from before.

    rows (B, 3) int32: phase (time mod R), oldest i that exists, number of new tokens
    ref (B, n + 1, m) int32: where a slot's token lies: i, or below -ring in the carried slots
    rel (B, n + 1, m) int32: when it was read, counted like i; NEVER when the slot is empty

C (`triton.Settings`): BM rows of a tile hold BQ queries of HPG heads each; BN keys a tile; D the
head size, padded to BD; BH a half of it when ROPE turns pairs (d, d + D/2), else all of it; W, R,
M, F, LAG, CHUNK, DUP the sets (AttentionSpec); PAST whether anything was carried.
"""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from solomonic.kernels.triton_math import dot, narrow

NEVER = tl.constexpr(1 << 30)


@triton.jit
def load_row(m, base, j, ok, first, C: tl.constexpr):
    """(len(j), BH) entries from column `first` of the vectors at `base` + j, 0 where not ok."""
    d = tl.arange(0, C.BH)
    at = m.p + base + j.to(tl.int64)[:, None] * m.st + first + d[None, :]
    return tl.load(at, mask=ok[:, None] & (d < C.H)[None, :], other=0.0)


@triton.jit
def load_halves(m, base, j, ok, C: tl.constexpr):
    """Both halves of vectors; without positions the first is everything and the second a copy."""
    left = load_row(m, base, j, ok, 0, C)
    if C.ROPE:
        return left, load_row(m, base, j, ok, C.H, C)
    else:
        return left, left


@triton.jit
def load_values(m, base, j, ok, C: tl.constexpr):
    """(len(j), BD) whole vectors."""
    d = tl.arange(0, C.BD)
    at = m.p + base + j.to(tl.int64)[:, None] * m.st + d[None, :]
    return tl.load(at, mask=ok[:, None] & (d < C.D)[None, :], other=0.0)


@triton.jit
def turn(x, place, table, back, C: tl.constexpr):
    """Halves x turned by angles place * theta^(-2d/D) (`back`: by their negatives)."""
    d = tl.arange(0, C.BH)
    at = (place + C.MARGIN)[:, None] * C.H + d[None, :]
    cos = tl.load(table[0] + at, mask=(d < C.H)[None, :], other=0.0)
    sin = tl.load(table[1] + at, mask=(d < C.H)[None, :], other=0.0) * back
    a, b = x[0].to(tl.float32), x[1].to(tl.float32)
    return a * cos - b * sin, b * cos + a * sin


@triton.jit
def aim(x, place, table, C: tl.constexpr):
    """Halves turned by `place` and rounded to the type of products; as they are without ROPE."""
    if C.ROPE:
        a, b = turn(x, place, table, 1.0, C)
        return narrow(a, x[0].dtype, C), narrow(b, x[0].dtype, C)
    else:
        return x


@triton.jit
def similarity(q, k, C: tl.constexpr):
    """(BM, BN) products of halves."""
    s = dot(q[0], tl.trans(k[0]), C)
    if C.ROPE:
        s += dot(q[1], tl.trans(k[1]), C)
    return s


@triton.jit
def sees(i, j, base, KIND: tl.constexpr, C: tl.constexpr):
    """Whether query i reads token j: "window", or the fading "band" or "chunk" before `base`."""
    gap = i[:, None] - j[None, :]
    if KIND == "window":
        return (gap >= 0) & (gap < C.W)
    elif KIND == "band":
        return (gap >= C.LAG) & (gap < C.LAG + C.F)
    else:
        return (gap > -NEVER) & (j[None, :] < base) & (j[None, :] >= base - C.F)


@triton.jit
def locate(rows, steps, C: tl.constexpr):
    """Where this tile's queries are: (who, which of them to write, block).

    who = (i (BM,), whether it exists (BM,), the block's first i, (oldest token, length), the
    tile's first i, (row, group))."""
    rows += tl.program_id(2) * 3
    phase, oldest, length = tl.load(rows), tl.load(rows + 1), tl.load(rows + 2)
    block = tl.program_id(0) // C.TPB
    place = tl.arange(0, C.BM) // C.HPG
    within = (tl.program_id(0) % C.TPB) * C.BQ + place
    base = block * C.R - phase
    i = base + within
    write = (place < C.BQ) & (within < C.R) & (i >= 0) & (i < steps)
    exist = write & (i < length)
    low = tl.min(tl.where(exist, i, NEVER), 0)
    head = (tl.program_id(2).to(tl.int64), tl.program_id(1))
    return (i, exist, base, (oldest, length), low, head), write, block


@triton.jit
def load_pair(m, j, head, ok, C: tl.constexpr):
    """Keys (halves) and values of tokens j of a tensor (B, L, 2, G, D)."""
    base = head[0] * m.sb + head[1] * m.sg
    return load_halves(m, base, j, ok, C), load_values(m, base + m.sv, j, ok, C)


@triton.jit
def load_carried(source, j, head, RING, C: tl.constexpr):
    """The same of tokens j < 0 that a ring of RING tokens carried here."""
    return load_pair(source[1], j + RING, head, (j < 0) & (j >= -RING), C)


@triton.jit
def gather(source, ref, head, ok, C: tl.constexpr):
    """Keys and values of slots, each from new tokens, carried ones or carried slots."""
    k, v = load_pair(source[0], ref, head, ok & (ref >= 0), C)
    if C.PAST:
        k2, v2 = load_carried(source, tl.where(ok, ref, 0), head, C.RING, C)
        k3, v3 = load_pair(source[2], ref + C.RING + C.M, head, ok & (ref < -C.RING), C)
        new, old = (ref >= 0)[:, None], (ref >= -C.RING)[:, None]
        left = tl.where(new, k[0], tl.where(old, k2[0], k3[0]))
        right = tl.where(new, k[1], tl.where(old, k2[1], k3[1]))
        k, v = (left, right), tl.where(new, v, tl.where(old, v2, v3))
    return k, v


@triton.jit
def load_query(q, i, head, ok, C: tl.constexpr):
    """Halves of the queries i of a tile, (BM, BH)."""
    h = head[1] * C.HPG + tl.arange(0, C.BM) % C.HPG
    d = tl.arange(0, C.BH)
    at = q.p + head[0] * q.sb + (i.to(tl.int64) * q.st + h * q.sh)[:, None] + d[None, :]
    inside = ok[:, None] & (d < C.H)[None, :]
    left = tl.load(at, mask=inside, other=0.0)
    right = left
    if C.ROPE:
        right = tl.load(at + C.H, mask=inside, other=0.0)
    return left, right


@triton.jit
def load_output(m, i, head, ok, C: tl.constexpr):
    """Outputs of the queries of a tile, or their gradient, (BM, BD)."""
    h = head[1] * C.HPG + tl.arange(0, C.BM) % C.HPG
    d = tl.arange(0, C.BD)
    at = m.p + head[0] * m.sb + (i.to(tl.int64) * m.st + h * m.sh)[:, None] + d[None, :]
    return tl.load(at, mask=ok[:, None] & (d < C.D)[None, :], other=0.0)


@triton.jit
def reach(who, KIND: tl.constexpr, C: tl.constexpr):
    """First and last + 1 token that any query of the tile reads."""
    low = who[4]
    high = tl.max(tl.where(who[1], who[0], -NEVER), 0)
    if KIND == "window":
        first, last = low - C.W + 1, high + 1
    elif KIND == "band":
        first, last = low - C.LAG - C.F + 1, high - C.LAG + 1
    else:
        first, last = who[2] - C.F, tl.where(low < NEVER, who[2], -NEVER)
    return tl.maximum(first, who[3][0]), tl.minimum(last, who[3][1])


@triton.jit
def absorb(s, k, v, state, goal, C: tl.constexpr):
    """One tile of keys; s (BM, BN) in units of log 2, -inf where nothing is read.

    Forward: state = (largest s, sum, outputs), a step of the online softmax. C.BACK: state = the
    gradient of the query's halves, goal = (gradient of the outputs, log-sum-exp, its products)."""
    if C.BACK:
        p = tl.exp2(s - goal[1][:, None])
        ds = narrow(p * (dot(goal[0], tl.trans(v), C) - goal[2][:, None]), v.dtype, C)
        left, right = state[0] + dot(ds, k[0], C), state[1]
        if C.ROPE:
            right += dot(ds, k[1], C)
        return left, right
    else:
        top = tl.maximum(state[0], tl.max(s, 1))
        safe = tl.where(top == -float("inf"), 0.0, top)
        p = tl.exp2(s - safe[:, None])
        fade = tl.exp2(state[0] - safe)
        acc = state[2] * fade[:, None] + dot(narrow(p, v.dtype, C), v, C)
        return top, state[1] * fade + tl.sum(p, 1), acc


@triton.jit
def read_tile(query, pair, seen, state, goal, C: tl.constexpr):
    """Scores of one tile of keys, and what follows from them."""
    s = tl.where(seen, similarity(query, pair[0], C) * C.SCALE, -float("inf"))
    return absorb(s, pair[0], pair[1], state, goal, C)


@triton.jit
def keeps(rel, i, C: tl.constexpr):
    """Whether query i reads a slot whose token was read at `rel`."""
    if C.DUP:
        return (rel < NEVER)[None, :] & (i > -NEVER)[:, None]
    else:
        return rel[None, :] <= (i - C.W)[:, None]


@triton.jit
def read_slots(query, source, slots, who, state, goal, C: tl.constexpr):
    """The eidetic tokens of the block; slots = (ref, rel) where its list begins."""
    for first in range(0, C.M, C.BN):
        slot = first + tl.arange(0, C.BN)
        ref = tl.load(slots[0] + slot, mask=slot < C.M, other=0)
        rel = tl.load(slots[1] + slot, mask=slot < C.M, other=NEVER)
        pair = gather(source, ref, who[5], rel < NEVER, C)
        seen = who[1][:, None] & keeps(rel, who[0], C)
        state = read_tile(query, pair, seen, state, goal, C)
    return state


@triton.jit
def read_run(query, source, who, table, state, goal, KIND: tl.constexpr, C: tl.constexpr):
    """The tokens that the window or the fading memory shows."""
    first, last = reach(who, KIND, C)
    exist = who[1][:, None]
    if C.PAST:
        for start in range(first, tl.minimum(last, 0), C.BN):
            j = start + tl.arange(0, C.BN)
            k, v = load_carried(source, j, who[5], C.RING if KIND == "window" else C.FRING, C)
            if KIND == "window":
                k = aim(k, j - who[4], table, C)
            seen = sees(who[0], j, who[2], KIND, C) & exist & (j < 0)[None, :]
            state = read_tile(query, (k, v), seen, state, goal, C)
    for start in range(tl.maximum(first, 0), last, C.BN):
        j = start + tl.arange(0, C.BN)
        k, v = load_pair(source[0], j, who[5], j < last, C)
        if KIND == "window":
            k = aim(k, j - who[4], table, C)
        seen = sees(who[0], j, who[2], KIND, C) & exist
        state = read_tile(query, (k, v), seen, state, goal, C)
    return state


@triton.jit
def lists(book, block, head, count, C: tl.constexpr):
    """Where the block's slots are listed."""
    at = (head[0] * count + block) * C.M
    return book[1] + at, book[2] + at


@triton.jit
def forward(q, source, faded, book, out, table, size, C: tl.constexpr):
    """q (B, T, H, D); source = (new, carried, slots) and faded = (new, carried), (B, L, 2, G, D);
    book = (rows, ref, rel); out = (outputs (B, T, H, D), log-sum-exp (B, H, T)); table = (cos,
    sin); size = (T, n + 1, H)."""
    who, write, block = locate(book[0], size[0], C)
    head = who[5]
    query = load_query(q, who[0], head, who[1], C)
    near = aim(query, tl.where(who[1], who[0] - who[4], 0), table, C)
    far = aim(query, tl.zeros((C.BM,), tl.int32) + C.W, table, C)
    state = (
        tl.full((C.BM,), -float("inf"), tl.float32),
        tl.zeros((C.BM,), tl.float32),
        tl.zeros((C.BM, C.BD), tl.float32),
    )
    if C.M:
        slots = lists(book, block, head, size[1], C)
        state = read_slots(far, source, slots, who, state, state, C)
    if C.W:
        state = read_run(near, source, who, table, state, state, "window", C)
    if C.F:
        state = read_run(far, faded, who, table, state, state, C.KIND, C)
    m, total, acc = state[0], state[1], state[2]
    empty = total == 0.0  # a query without keys: its output is 0
    total = tl.where(empty, 1.0, total)
    h = head[1] * C.HPG + tl.arange(0, C.BM) % C.HPG
    to = out[1] + (head[0] * size[2] + h) * size[0] + who[0]
    tl.store(to, tl.where(empty, 0.0, m + tl.log2(total)), mask=write)
    d = tl.arange(0, C.BD)
    at = head[0] * out[0].sb + who[0].to(tl.int64) * out[0].st + h * out[0].sh
    inside = write[:, None] & (d < C.D)[None, :]
    result = narrow(acc / total[:, None], out[0].p.dtype.element_ty, C)
    tl.store(out[0].p + at[:, None] + d[None, :], result, mask=inside)
