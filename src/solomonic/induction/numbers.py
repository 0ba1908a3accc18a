"""Arithmetic that is the same on every machine (native/src/induction/numbers.h, in Python)."""

import functools
import math

import numpy as np

MASK = 2**64 - 1
ONE = 1 << 16  # probabilities of the coder are in these parts


def plain_log(x: float) -> float:
    """The natural logarithm of x > 0 by sums and products alone."""
    m, exponent = math.frexp(x)
    z = (m - 1) / (m + 1)
    square, total, power = z * z, 0.0, z
    for k in range(1, 80, 2):
        total += power / k
        power *= square
    return 2 * total + exponent * 0.6931471805599453


def plain_exp(x: float) -> float:
    """e^x by sums and products alone."""
    y = x / 1024
    term = total = 1.0
    for k in range(1, 16):
        term = term * y / k
        total += term
    for _ in range(10):
        total *= total
    return total


def scramble(x: int) -> int:
    """A mixing of 64 bits."""
    for _ in range(2):
        x ^= x >> 32
        x = x * 0xD6E8FEB86659FD93 & MASK
    return x ^ (x >> 32)


def quantise(p: float) -> int:
    """The probability of a one as the coder takes it: in 65536ths, never 0, never 1."""
    return min(max(int(p * ONE + 0.5), 1), ONE - 1)


class SplitMix:
    """The generator of machines and sources: the same numbers here and in the native core."""

    def __init__(self, seed: int) -> None:
        self.state = seed & MASK

    def next(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """A number in 0 .. n - 1."""
        return ((self.next() >> 32) * n) >> 32


@functools.cache
def stretch_table() -> np.ndarray:
    """ln(p / (1 - p)) of 4096 probabilities, float32."""
    chances = [(i + 0.5) / 4096 for i in range(4096)]
    return np.array([plain_log(p / (1 - p)) for p in chances], dtype=np.float32)


@functools.cache
def squash_table() -> np.ndarray:
    """1 / (1 + e^-x) from -12 to 12, float32."""
    xs = [12.0 - i * (24.0 / 4096) for i in range(4097)]
    return np.array([1 / (1 + plain_exp(x)) for x in xs], dtype=np.float32)
