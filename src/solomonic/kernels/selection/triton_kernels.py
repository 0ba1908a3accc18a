"""Triton kernels of the eidetic selection: ranks instead of sorts. Importing this imports Triton.

The order is total, so the place of a token in the sorted set is the number of tokens before it, and
counting needs no exchange between threads. A comparison is between integers that order as the
floats do (NaN included), so that the ranks are a permutation whatever the innovations hold.
"""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def order(eps):
    """int32 that compare as float32 do; -0.0 is 0.0."""
    bits = (eps.to(tl.float32) + 0.0).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def load_keys(p, at, count):
    """Keys of entries `at` of a list of `count`, the least possible behind the end."""
    return order(tl.load(p + at, mask=at < count, other=-float("inf")))


@triton.jit
def before(keys, places, p, count, BLOCK: tl.constexpr, TIES: tl.constexpr):
    """How many of the `count` entries at p come before each key.

    Ties: "place" = those at smaller places do, "all" = all do, "none" = none does.
    """
    found = tl.zeros(keys.shape, tl.int32)
    for first in range(0, count, BLOCK):
        at = first + tl.arange(0, BLOCK)
        other = load_keys(p, at, count)
        wins = other[None, :] > keys[:, None]
        same = other[None, :] == keys[:, None]
        if TIES == "place":
            wins = wins | (same & (at[None, :] < places[:, None]))
        if TIES == "all":
            wins = wins | same
        found += tl.sum((wins & (at < count)[None, :]).to(tl.int32), 1)
    return found


@triton.jit
def best_of_block(eps, index, best, names, size, BLOCK: tl.constexpr):
    """The m best of one block of R candidates, in order, into list n + 1 of (B, n + 1, m).

    size = (n, R, m). Lists longer than R are filled with -inf.
    """
    block, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    source = (row * size[0] + block) * size[1]
    to = (row * (size[0] + 1) + block + 1) * size[2]
    here = place < size[1]
    keys = load_keys(eps + source, place, size[1])
    rank = before(keys, place, eps + source, size[1], BLOCK, "place")
    kept = here & (rank < size[2])
    tl.store(best + to + rank, tl.load(eps + source + place, mask=here, other=0.0), mask=kept)
    tl.store(names + to + rank, tl.load(index + source + place, mask=here, other=0), mask=kept)
    empty = (place >= size[1]) & (place < size[2])
    tl.store(best + to + place, -float("inf"), mask=empty)
    tl.store(names + to + place, tl.zeros((BLOCK,), tl.int64), mask=empty)


@triton.jit
def merge(source, target, distance, lists, slots, BLOCK: tl.constexpr):
    """List e becomes the best of lists e - distance (earlier) and e; others are copied.

    source, target = (eps, names), both (B, lists, slots).
    """
    number, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = place < slots
    mine = (row * lists + number) * slots
    other = mine - distance * slots
    eps = tl.load(source[0] + mine + place, mask=here, other=-float("inf"))
    name = tl.load(source[1] + mine + place, mask=here, other=0)
    rank = place
    if number >= distance:
        old = tl.load(source[0] + other + place, mask=here, other=-float("inf"))
        old_name = tl.load(source[1] + other + place, mask=here, other=0)
        old_rank = place + before(order(old), place, source[0] + mine, slots, BLOCK, "none")
        tl.store(target[0] + mine + old_rank, old, mask=here & (old_rank < slots))
        tl.store(target[1] + mine + old_rank, old_name, mask=here & (old_rank < slots))
        rank = place + before(order(eps), place, source[0] + other, slots, BLOCK, "all")
    tl.store(target[0] + mine + rank, eps, mask=here & (rank < slots))
    tl.store(target[1] + mine + rank, name, mask=here & (rank < slots))
