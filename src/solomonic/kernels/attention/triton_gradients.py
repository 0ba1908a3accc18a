"""Triton kernels of the gradients of B'MOJO attention. Importing this imports Triton.

Three kinds of program: a tile of queries walks over the keys it read; a tile of tokens of the
window or of the fading memory over the queries that read it; a tile of slots over the queries of
its refresh block, adding to wherever its tokens lie. Names and letters as in `triton_kernels.py`.
"""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from solomonic.kernels.attention.triton_kernels import (
    NEVER,
    aim,
    gather,
    keeps,
    lists,
    load_carried,
    load_output,
    load_pair,
    load_query,
    locate,
    read_run,
    read_slots,
    sees,
    similarity,
    turn,
)
from solomonic.kernels.triton_math import dot, narrow

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def queries(q, source, faded, book, grads, table, size, C: tl.constexpr):
    """The gradient of q, and for the other kernels the product of every output and its gradient.

    grads = (gradient of the outputs, outputs, log-sum-exp, products (B, H, T), gradient of q)."""
    who, write, block = locate(book[0], size[0], C)
    i, exist, head = who[0], who[1], who[5]
    query = load_query(q, i, head, exist, C)
    place, distance = tl.where(exist, i - who[4], 0), tl.zeros((C.BM,), tl.int32) + C.W
    near, far = aim(query, place, table, C), aim(query, distance, table, C)
    slope = load_output(grads[0], i, head, exist, C)
    output = load_output(grads[1], i, head, exist, C)
    product = tl.sum(slope.to(tl.float32) * output.to(tl.float32), 1)
    h = head[1] * C.HPG + tl.arange(0, C.BM) % C.HPG
    at = (head[0] * size[2] + h) * size[0] + i
    tl.store(grads[3] + at, product, mask=write)
    goal = (slope, tl.load(grads[2] + at, mask=exist, other=0.0), product)
    close = (tl.zeros((C.BM, C.BH), tl.float32), tl.zeros((C.BM, C.BH), tl.float32))
    wide = (tl.zeros((C.BM, C.BH), tl.float32), tl.zeros((C.BM, C.BH), tl.float32))
    if C.M:
        slots = lists(book, block, head, size[1], C)
        wide = read_slots(far, source, slots, who, wide, goal, C)
    if C.W:
        close = read_run(near, source, who, table, close, goal, "window", C)
    if C.F:
        wide = read_run(far, faded, who, table, wide, goal, C.KIND, C)
    if C.ROPE:
        close = turn(close, place, table, -1.0, C)
        wide = turn(wide, distance, table, -1.0, C)
    d = tl.arange(0, C.BH)
    to = grads[4].p + head[0] * grads[4].sb
    to += (i.to(tl.int64) * grads[4].st + h * grads[4].sh)[:, None] + d[None, :]
    inside = write[:, None] & (d < C.H)[None, :]
    kind: tl.constexpr = grads[4].p.dtype.element_ty
    tl.store(to, narrow((close[0] + wide[0]) * (C.SCALE * LN2), kind, C), mask=inside)
    if C.ROPE:
        right = (close[1] + wide[1]) * (C.SCALE * LN2)
        tl.store(to + C.H, narrow(right, kind, C), mask=inside)


@triton.jit
def blame(query, grads, i, head, ok, count, C: tl.constexpr):
    """A tile of queries with what they pass back: (query, slope, log-sum-exp, products)."""
    slope = load_output(grads[0], i, head, ok, C)
    h = head[1] * C.HPG + tl.arange(0, C.BM) % C.HPG
    at = (head[0] * count[1] + h) * count[0] + i
    lse = tl.load(grads[1] + at, mask=ok, other=0.0)
    return query, slope, lse, tl.load(grads[2] + at, mask=ok, other=0.0)


@triton.jit
def charge(asked, pair, seen, slopes, C: tl.constexpr):
    """Add one tile of queries to slopes = (halves of dk, dv) of a tile of keys."""
    query, slope, lse, product = asked
    s = similarity(query, pair[0], C) * C.SCALE
    p = tl.where(seen, tl.exp2(s - lse[:, None]), 0.0)
    left, right, values = slopes
    values += dot(tl.trans(narrow(p, slope.dtype, C)), slope, C)
    ds = p * (dot(slope, tl.trans(pair[1]), C) - product[:, None])
    ds = tl.trans(narrow(ds, slope.dtype, C))
    left += dot(ds, query[0], C)
    if C.ROPE:
        right += dot(ds, query[1], C)
    return left, right, values


@triton.jit
def nothing(C: tl.constexpr):
    """Slopes of a tile of keys before any query."""
    left, right = tl.zeros((C.BN, C.BH), tl.float32), tl.zeros((C.BN, C.BH), tl.float32)
    return left, right, tl.zeros((C.BN, C.BD), tl.float32)


@triton.jit
def settle(m, at, slopes, ok, ADD: tl.constexpr, C: tl.constexpr):
    """Write the slopes of keys and values at offsets `at` of m, or add them there."""
    half, whole = tl.arange(0, C.BH), tl.arange(0, C.BD)
    kind: tl.constexpr = m.p.dtype.element_ty
    scale: tl.constexpr = C.SCALE * LN2
    to, mask = m.p + at[:, None] + half[None, :], ok[:, None] & (half < C.H)[None, :]
    into, inside = m.p + m.sv + at[:, None] + whole[None, :], ok[:, None] & (whole < C.D)[None, :]
    if ADD:
        tl.atomic_add(to, slopes[0] * scale, mask=mask, sem="relaxed")
        if C.ROPE:
            tl.atomic_add(to + C.H, slopes[1] * scale, mask=mask, sem="relaxed")
        tl.atomic_add(into, slopes[2], mask=inside, sem="relaxed")
    else:
        tl.store(to, narrow(slopes[0] * scale, kind, C), mask=mask)
        if C.ROPE:
            tl.store(to + C.H, narrow(slopes[1] * scale, kind, C), mask=mask)
        tl.store(into, narrow(slopes[2], kind, C), mask=inside)


@triton.jit
def readers(start, length, C: tl.constexpr):
    """First and last + 1 query that reads any token of the tile that begins at `start`."""
    if C.KIND == "window":
        first, last = start, start + C.BN - 1 + C.W
    elif C.KIND == "band":
        first, last = start + C.LAG, start + C.BN - 1 + C.LAG + C.F
    else:
        first, last = start + 1, start + C.BN - 1 + C.F + C.R
    return tl.maximum(first, 0), tl.minimum(last, length)


@triton.jit
def tokens(q, source, rows, grads, out, table, count, C: tl.constexpr):
    """Gradients of a tile of tokens that the window or the fading memory shows (C.KIND).

    source = (new, carried), out their gradients; grads = (gradient of the outputs, log-sum-exp,
    products); count = (T, H)."""
    head = (tl.program_id(2).to(tl.int64), tl.program_id(1))
    phase, oldest = tl.load(rows + 3 * head[0]), tl.load(rows + 3 * head[0] + 1)
    length = tl.load(rows + 3 * head[0] + 2)
    RING: tl.constexpr = C.RING if C.KIND == "window" else C.FRING
    before = (RING + C.BN - 1) // C.BN if C.PAST else 0
    tile = tl.program_id(0)
    start = tl.where(tile < before, tile * C.BN - RING, (tile - before) * C.BN)
    j = start + tl.arange(0, C.BN)
    late = tl.zeros((C.BN,), tl.int32) + tile >= before
    mine = j < length
    k, v = load_pair(source[0], j, head, late & mine, C)
    if C.PAST:
        mine = tl.where(late, mine, (j < 0) & (j >= oldest))
        k2, v2 = load_carried(source, tl.where(late, 0, j), head, RING, C)
        new = late[:, None]
        k = (tl.where(new, k[0], k2[0]), tl.where(new, k[1], k2[1]))
        v = tl.where(new, v, v2)
    if C.KIND == "window":
        k = aim(k, j - start, table, C)
    slopes = nothing(C)
    first, last = readers(start, length, C)
    r = tl.arange(0, C.BM) // C.HPG
    for begin in range(first, last, C.BQ):
        i = begin + r
        ok = (r < C.BQ) & (i < last)
        query = load_query(q, i, head, ok, C)
        place = i - start if C.KIND == "window" else tl.zeros((C.BM,), tl.int32) + C.W
        query = aim(query, tl.where(ok, place, 0), table, C)
        base = ((i + phase) // C.R) * C.R - phase
        seen = sees(i, j, base[:, None], C.KIND, C) & ok[:, None] & mine[None, :]
        slopes = charge(blame(query, grads, i, head, ok, count, C), (k, v), seen, slopes, C)
    if C.ROPE and C.KIND == "window":
        left, right = turn((slopes[0], slopes[1]), j - start, table, -1.0, C)
        slopes = (left, right, slopes[2])
    fixed = head[0] * out[0].sb + head[1] * out[0].sg
    settle(out[0], fixed + j.to(tl.int64) * out[0].st, slopes, late & (j < count[0]), False, C)
    if C.PAST:
        fixed = head[0] * out[1].sb + head[1] * out[1].sg
        at = fixed + (j + RING).to(tl.int64) * out[1].st
        settle(out[1], at, slopes, (j < 0) & (late == 0), False, C)


@triton.jit
def slots(q, source, book, grads, out, table, size, C: tl.constexpr):
    """Gradients of a tile of slots of one block.

    C.ATOMIC: added where their tokens lie in the pool [slots | carried | new] ([new] without a
    past); else written to (B, n, m, 2, G, D). size = (T, n + 1, H)."""
    head = (tl.program_id(2).to(tl.int64), tl.program_id(1))
    tiles: tl.constexpr = (C.M + C.BN - 1) // C.BN
    block = tl.program_id(0) // tiles
    slot = (tl.program_id(0) % tiles) * C.BN + tl.arange(0, C.BN)
    rows = book[0] + 3 * head[0]
    base = block * C.R - tl.load(rows)
    listed = lists(book, block, head, size[1], C)
    ref = tl.load(listed[0] + slot, mask=slot < C.M, other=0)
    rel = tl.load(listed[1] + slot, mask=slot < C.M, other=NEVER)
    pair = gather(source, ref, head, rel < NEVER, C)
    slopes = nothing(C)
    r = tl.arange(0, C.BM) // C.HPG
    last = tl.minimum(base + C.R, tl.load(rows + 2))
    first = tl.maximum(base, 0)
    if not C.DUP:  # before this query the window shows all of them
        first = tl.maximum(first, tl.min(rel, 0) + C.W)
    for begin in range(first, last, C.BQ):
        i = begin + r
        ok = (r < C.BQ) & (i < last)
        query = load_query(q, i, head, ok, C)
        query = aim(query, tl.zeros((C.BM,), tl.int32) + C.W, table, C)
        seen = keeps(rel, i, C) & ok[:, None]
        asked = blame(query, grads, i, head, ok, (size[0], size[2]), C)
        slopes = charge(asked, pair, seen, slopes, C)
    if C.ATOMIC:
        place = ref + (C.M + C.RING if C.PAST else 0)
        at = head[0] * out.sb + head[1] * out.sg + place.to(tl.int64) * out.st
        settle(out, at, slopes, (slot < C.M) & (rel < NEVER), True, C)
    else:
        place = block * C.M + slot
        at = head[0] * out.sb + head[1] * out.sg + place.to(tl.int64) * out.st
        settle(out, at, slopes, slot < C.M, False, C)
