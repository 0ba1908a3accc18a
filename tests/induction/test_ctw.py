"""Context-tree weighting against the exact recursion, in rational numbers and in C++."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.induction import ByteTree, ContextTree, bits

CORES = [False, pytest.param(True, marks=needs_core)]


def estimator(counts: list[int], alpha: Fraction) -> Fraction:
    """Block probability of a Dirichlet(alpha) estimator."""
    out, total = Fraction(1), 0
    for count in counts:
        for i in range(count):
            out *= (i + alpha) / (total + len(counts) * alpha)
            total += 1
    return out


def weighted(
    sequence: list[int], alphabet: int, depth: int, alpha: Fraction, context: tuple[int, ...] = ()
) -> Fraction:
    """P_w of the node `context` (newest first): (P_e + the product of its children's P_w) / 2."""
    past = [0] * depth + sequence
    counts = [0] * alphabet
    for t, symbol in enumerate(sequence):
        before = tuple(past[t + depth - 1 - k] for k in range(len(context)))
        counts[symbol] += before == context
    if not any(counts):
        return Fraction(1)
    own = estimator(counts, alpha)
    if len(context) == depth:
        return own
    below = math.prod(
        weighted(sequence, alphabet, depth, alpha, (*context, child)) for child in range(alphabet)
    )
    return (own + below) / 2


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("alphabet", "depth", "count", "alpha"),
    [(2, 4, 30, Fraction(1, 2)), (2, 0, 9, Fraction(1, 2)), (3, 3, 16, Fraction(1, 4))],
)
def test_it_is_the_exact_recursion(
    core: bool, alphabet: int, depth: int, count: int, alpha: Fraction
) -> None:
    sequence = np.random.default_rng(depth).integers(0, alphabet, count).tolist()
    tree = ContextTree(alphabet, depth, float(alpha), native=core)
    for t in range(count):
        before = weighted(sequence[:t], alphabet, depth, alpha)
        exact = [
            float(weighted([*sequence[:t], s], alphabet, depth, alpha) / before)
            for s in range(alphabet)
        ]
        assert np.abs(tree.predict() - exact).max() < 1e-15
        tree.update(sequence[t])


@needs_core
def test_the_native_tree_is_the_definition() -> None:
    sequence = np.random.default_rng(1).integers(0, 3, 200)
    one, other = ContextTree(3, 5, native=True), ContextTree(3, 5, native=False)
    assert bits(one, sequence) == bits(other, sequence)
    assert (one.predict() == other.predict()).all()
    assert one.state() == other.state()
    assert other.load(one.state()).state() == one.state()


@pytest.mark.parametrize("native", CORES)
def test_a_core_refuses_a_state_that_is_not_its_own(native: bool) -> None:
    tree = ContextTree(3, 5, native=native)
    bits(tree, np.random.default_rng(1).integers(0, 3, 50))
    whole, like = tree._core.state(), tree._core.copy()
    foreign = ContextTree(4, 5, native=native)._core.state()
    nodes = np.frombuffer(whole, "<i4", count=3, offset=8)
    lost = whole[:8] + (nodes + 10**6).tobytes() + whole[20:]
    for damaged in (b"", whole[:3], whole[:-1], whole + b"\0", foreign, lost):
        with pytest.raises(ValueError, match="state of a"):
            like.load(damaged)
    assert like.state() == whole


TEXT = b"It was the best of times, it was the worst of times, it was the age of wisdom, " * 3


@needs_core
@pytest.mark.parametrize("bits_kept", [8, 20])
def test_the_native_byte_tree_is_the_definition(bits_kept: int) -> None:
    """With 2^8 nodes they push each other out all the time."""
    one, other = (ByteTree(4, bits_kept, native=core) for core in (True, False))
    assert (one.costs(TEXT) == other.costs(TEXT)).all()
    assert (one.predict() == other.predict()).all()


def test_bytes_are_weighed_like_one_tree_for_each_partial_byte() -> None:
    """Volf: each of the 255 binary trees is context-tree weighting with contexts of bytes."""
    text, depth = b"abracadabra", 2
    alpha = Fraction(1, 16)
    total = Fraction(1)
    for partial in range(1, 256):
        events = []  # (context bytes newest first, bit)
        for t, byte in enumerate(text):
            past = (b"\0" * depth + text)[t : t + depth][::-1]
            marked = byte | 256
            for k in range(8):
                if marked >> (8 - k) == partial:
                    events.append((tuple(past), marked >> (7 - k) & 1))
        total *= _node(events, (), depth, alpha)
    assert bits(ByteTree(depth, 16, native=False), text) == pytest.approx(
        -math.log2(total.numerator) + math.log2(total.denominator), abs=1e-9
    )


def _node(events: list, context: tuple, depth: int, alpha: Fraction) -> Fraction:
    seen = [(past, bit) for past, bit in events if past[: len(context)] == context]
    if not seen:
        return Fraction(1)
    ones = sum(bit for _, bit in seen)
    own = estimator([len(seen) - ones, ones], alpha)
    if len(context) == depth:
        return own
    nexts = sorted({past[len(context)] for past, _ in seen})
    return (own + math.prod(_node(seen, (*context, c), depth, alpha) for c in nexts)) / 2


def test_settings_out_of_range_are_refused() -> None:
    cases: list[dict[str, Any]] = [
        {"alphabet": 1},
        {"alphabet": 257},
        {"depth": 65},
        {"alpha": 0.0},
    ]
    for wrong in cases:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ContextTree(**wrong)
    with pytest.raises(ConfigError, match="depth"):
        ByteTree(17)
