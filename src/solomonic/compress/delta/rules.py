"""Updates of a matrix by a rule: few numbers that move all its levels, in whole numbers alone.

hash      level i moves by sign(i) * numbers[bucket(i)]; bucket and sign come from a fixed hash
low rank  level (n, k) moves by the sum of left[n, r] * right[k, r]

A sum is divided by 2^shift, rounded to the nearest (halves up), and levels stay within their bits.
Scales and zeros are kept: what is movable is decided by the old matrix alone.
"""

import dataclasses
import struct

import numpy as np

from solomonic.compress.delta.tables import read_symbols, write_symbols
from solomonic.compress.matrix import VECTOR, QuantisedMatrix, by_vectors
from solomonic.core import CheckpointError, require

_HEAD = struct.Struct("<BBIII")  # kind, shift, seed or rank, length of the numbers, bytes of them
_MOST_SHIFT = 24
FIXED_ZEROS = ("2:4", "unstructured")
"""Patterns in which no weight becomes zero either: a zero more would be a place to tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class HashRule:
    """numbers: (size,) int8; a level moves by a number of steps in units of 2^-shift."""

    numbers: np.ndarray
    seed: int
    shift: int

    def change(self, shape: tuple[int, int]) -> np.ndarray:
        """(N, K) int64, in units of 2^-shift levels."""
        buckets, signs = places(shape, len(self.numbers), self.seed)
        return self.numbers.astype(np.int64)[buckets] * signs


@dataclasses.dataclass(frozen=True, eq=False)
class LowRankRule:
    """left (N, R) and right (K, R), int8; a level moves by their product times 2^-shift."""

    left: np.ndarray
    right: np.ndarray
    shift: int

    def change(self, shape: tuple[int, int]) -> np.ndarray:
        """(N, K) int64, in units of 2^-shift levels."""
        if (len(self.left), len(self.right)) != shape:
            raise CheckpointError(f"its low-rank rule does not fit a matrix {shape}")
        return self.left.astype(np.int64) @ self.right.astype(np.int64).T


Rule = HashRule | LowRankRule


def movable(matrix: QuantisedMatrix) -> np.ndarray:
    """(N, K) bool: which levels may change so that the zeros keep their pattern and place."""
    kept = matrix.values != 0
    if matrix.pattern == "dense":
        return np.ones_like(kept)
    if matrix.pattern == "vec16":
        return np.repeat(by_vectors(kept).any(axis=1), VECTOR, axis=0)[: len(kept)]
    return kept


def moved(matrix: QuantisedMatrix, rule: Rule) -> QuantisedMatrix:
    """The matrix after the rule.

    Raises:
        CheckpointError: the rule does not fit it.
    """
    if not 0 <= rule.shift <= _MOST_SHIFT or matrix.codebook is not None:
        raise CheckpointError("its rule does not fit the matrix")
    half = 1 << rule.shift >> 1
    steps = (rule.change(matrix.levels.shape) + half) >> rule.shift
    levels = np.clip(matrix.levels + steps, -matrix.largest, matrix.largest)
    stays = ~movable(matrix)
    if matrix.pattern in FIXED_ZEROS:
        stays |= levels == 0
    levels = np.where(stays, matrix.levels, levels).astype(np.int8)
    return dataclasses.replace(matrix, levels=levels)


def places(shape: tuple[int, int], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(bucket (N, K) int64 below `size`, sign (N, K) int64 -1 or 1) of every weight.

    The hash is the finaliser of MurmurHash3 (public domain), 32 bits, of index + seed * 2654435769.
    """
    count = shape[0] * shape[1]
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 2654435769 & 0xFFFFFFFF)) & mask
    x ^= x >> np.uint64(16)
    x = x * np.uint64(0x85EBCA6B) & mask
    x ^= x >> np.uint64(13)
    x = x * np.uint64(0xC2B2AE35) & mask
    x ^= x >> np.uint64(16)
    signs = 1 - 2 * (x & np.uint64(1)).astype(np.int64)
    buckets = ((x >> np.uint64(1)) * np.uint64(size) >> np.uint64(31)).astype(np.int64)
    return buckets.reshape(shape), signs.reshape(shape)


def write_rule(rule: Rule) -> bytes:
    """A rule's bytes: its numbers in as many bits as they hold."""
    if isinstance(rule, HashRule):
        kind, number, values = 0, rule.seed, rule.numbers
    else:
        require(rule.left.shape[1] == rule.right.shape[1], "a low-rank rule has one rank.")
        kind, number = 1, rule.left.shape[1]
        values = np.concatenate([rule.left.ravel(), rule.right.ravel()])
    values = values.astype(np.int8)
    body, _ = write_symbols(values.view(np.uint8), np.zeros(len(values), np.int64), 1)
    return _HEAD.pack(kind, rule.shift, number, len(values), len(body)) + body


def read_rule(data: bytes, at: int, shape: tuple[int, int]) -> tuple[Rule, int]:
    """The rule at byte `at` for a matrix of this shape, and where it ends.

    Raises:
        CheckpointError: it is damaged or does not fit.
    """
    if at + _HEAD.size > len(data):
        raise CheckpointError("its rules are cut short")
    kind, shift, number, count, size = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    most = shape[0] * shape[1] + sum(shape)
    if kind > 1 or not 1 <= count <= most or at + size > len(data):
        raise CheckpointError("it holds an impossible rule")
    symbols = read_symbols(data[at : at + size], np.zeros(count, np.int64), 1)
    values = symbols.view(np.int8)
    if kind == 0:
        return HashRule(values, number, shift), at + size
    if count != number * sum(shape):
        raise CheckpointError("its low-rank rule does not fit the matrix")
    cut = number * shape[0]
    left, right = values[:cut].reshape(-1, number), values[cut:].reshape(-1, number)
    return LowRankRule(left, right, shift), at + size
