"""Triton kernels of one decoding step of B'MOJO attention. Importing this imports Triton.

One program takes a row and a group of heads: it reads the rings once, attends to what it reads and
writes it back one place further, so that a step moves each ring through memory once. The rings may
be moved in place. Names and letters as in `triton_kernels.py`; the new token has i = 0.
"""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from solomonic.kernels.attention.triton_kernels import (
    aim,
    keeps,
    load_pair,
    load_query,
    read_tile,
    sees,
)
from solomonic.kernels.triton_math import narrow


@triton.jit
def store_pair(m, j, head, ok, pair, C: tl.constexpr):
    """The inverse of `load_pair`."""
    half, whole = tl.arange(0, C.BH), tl.arange(0, C.BD)
    at = m.p + head[0] * m.sb + head[1] * m.sg + j.to(tl.int64)[:, None] * m.st
    to, mask = at + half[None, :], ok[:, None] & (half < C.H)[None, :]
    tl.store(to, pair[0][0], mask=mask)
    if C.ROPE:
        tl.store(to + C.H, pair[0][1], mask=mask)
    tl.store(at + m.sv + whole[None, :], pair[1], mask=ok[:, None] & (whole < C.D)[None, :])


@triton.jit
def load_either(first, second, j, k, head, which, C: tl.constexpr):
    """Entries j of `first` where `which` is 1, entries k of `second` where it is 2."""
    a, v = load_pair(first, j, head, which == 1, C)
    b, w = load_pair(second, k, head, which == 2, C)
    one = (which == 1)[:, None]
    return (tl.where(one, a[0], b[0]), tl.where(one, a[1], b[1])), tl.where(one, v, w)


@triton.jit
def read_ring(query, source, who, table, state, KIND: tl.constexpr, C: tl.constexpr):
    """Attend to [ring | new token] and move it one place on; source = (new, ring, next ring)."""
    RING: tl.constexpr = C.RING if KIND == "window" else C.FRING
    head, length = who[5], who[3][1]
    for start in range(0, RING + 1, C.BN):
        x = start + tl.arange(0, C.BN)
        which = tl.where(x < RING, 1, tl.where((x == RING) & (length > 0), 2, 0))
        k, v = load_either(source[1], source[0], x, tl.zeros((C.BN,), tl.int32), head, which, C)
        tl.debug_barrier()  # in place, every lane must have read before one writes
        to = x - tl.minimum(length, 1)
        store_pair(source[2], to, head, (which > 0) & (to >= 0) & (to < RING), (k, v), C)
        j = x - RING
        seen = sees(who[0], j, who[2], KIND, C) & who[1][:, None]
        seen = seen & ((which > 0) & (j >= who[3][0]))[None, :]
        if KIND == "window":
            k = aim(k, tl.where(which > 0, j, 0), table, C)
        state = read_tile(query, (k, v), seen, state, state, C)
    return state


@triton.jit
def read_kept(query, slots, times, now, who, state, C: tl.constexpr):
    """Attend to the slots; times (B, m), now: tokens read before this one."""
    for first in range(0, C.M, C.BN):
        slot = first + tl.arange(0, C.BN)
        when = tl.load(times + who[5][0] * C.M + slot, mask=slot < C.M, other=-1)
        rel = tl.where(when < 0, 1 << 30, tl.maximum(when - now, -(1 << 30))).to(tl.int32)
        pair = load_pair(slots, slot, who[5], slot < C.M, C)
        seen = keeps(rel, who[0], C) & who[1][:, None]
        state = read_tile(query, pair, seen, state, state, C)
    return state


@triton.jit
def step(q, source, faded, times, rows, out, table, C: tl.constexpr):
    """q (B, 1, H, D); source = (new, ring, next ring, slots); faded = (new, ring, next ring);
    times = (slot times, time); rows (B, 3)."""
    head = (tl.program_id(1).to(tl.int64), tl.program_id(0))
    rows += head[0] * 3
    r = tl.arange(0, C.BM)
    i, exist = tl.zeros((C.BM,), tl.int32), r < C.HPG
    bounds = (tl.load(rows + 1), tl.load(rows + 2))
    who = (i, exist, -tl.load(rows), bounds, 0, head)
    query = load_query(q, i, head, exist, C)
    near, far = aim(query, i, table, C), aim(query, i + C.W, table, C)
    state = (
        tl.full((C.BM,), -float("inf"), tl.float32),
        tl.zeros((C.BM,), tl.float32),
        tl.zeros((C.BM, C.BD), tl.float32),
    )
    if C.M:
        state = read_kept(far, source[3], times[0], tl.load(times[1] + head[0]), who, state, C)
    if C.W:
        state = read_ring(near, source, who, table, state, "window", C)
    if C.F:
        state = read_ring(far, faded, who, table, state, C.KIND, C)
    total = tl.where(state[1] == 0.0, 1.0, state[1])  # a query without keys: its output is 0
    d = tl.arange(0, C.BD)
    h = head[1] * C.HPG + r % C.HPG
    at = out.p + head[0] * out.sb + (h * out.sh)[:, None] + d[None, :]
    result = narrow(state[2] / total[:, None], out.p.dtype.element_ty, C)
    tl.store(at, result, mask=exist[:, None] & (d < C.D)[None, :])


@triton.jit
def commit(slots, source, names, due, out, ALWAYS: tl.constexpr, C: tl.constexpr):
    """Slot s becomes entry names[s] of [slots | the R tokens up to now], where a row is due.

    source = (new, ring). ALWAYS: also where it is not, when `names` keeps every slot."""
    head = (tl.program_id(2).to(tl.int64), tl.program_id(1))
    if ALWAYS or tl.load(due + head[0]) != 0:
        slot = tl.program_id(0) * C.BN + tl.arange(0, C.BN)
        ok = slot < C.M
        name = tl.load(names + head[0] * C.M + slot, mask=ok, other=0).to(tl.int32)
        place = name - C.M + C.RING + 1 - C.R
        pair = load_pair(slots, name, head, ok & (name < C.M), C)
        if C.RING:
            which = tl.where(ok & (name >= C.M), tl.where(place < C.RING, 1, 2), 0)
            recent = load_either(
                source[1], source[0], place, tl.zeros((C.BN,), tl.int32), head, which, C
            )
        else:
            recent = load_pair(source[0], slot * 0, head, ok & (name >= C.M), C)
        old = (name < C.M)[:, None]
        left = tl.where(old, pair[0][0], recent[0][0])
        right = tl.where(old, pair[0][1], recent[0][1])
        store_pair(out, slot, head, ok, ((left, right), tl.where(old, pair[1], recent[1])), C)


@triton.jit
def move(source, due, out, C: tl.constexpr):
    """Copy slots of the rows that are due."""
    head = (tl.program_id(2).to(tl.int64), tl.program_id(1))
    if tl.load(due + head[0]) != 0:
        slot = tl.program_id(0) * C.BN + tl.arange(0, C.BN)
        store_pair(out, slot, head, slot < C.M, load_pair(source, slot, head, slot < C.M, C), C)
