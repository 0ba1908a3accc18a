"""Predictors of bytes that work bit by bit: what slow definitions share with native ones."""

import copy
import math
from typing import Self

import numpy as np

from solomonic.induction.numbers import ONE, quantise


class BitCore:
    """The interface of the native byte predictors, on top of `bit`, `learn` and `chance_at`.

    A definition's state is what it has read: loading reads it again.
    """

    partial: int = 1  # the bits of this byte so far behind a leading one

    def __init__(self) -> None:
        self._read = bytearray()

    def bit(self) -> float:
        """Probability that the next bit is a one."""
        raise NotImplementedError

    def learn(self, bit: int) -> None:
        """Read one bit; calls `remember`."""
        raise NotImplementedError

    def chance_at(self, partial: int) -> float:
        """`bit` as it would be after other bits of this byte."""
        raise NotImplementedError

    def remember(self, bit: int) -> None:
        """Take down a bit that was read."""
        self._read.append(bit)

    def distribution(self) -> np.ndarray:
        """Probabilities of the 256 next bytes."""
        if self.partial != 1:
            raise ValueError("a byte has begun; read the rest of its bits.")
        reach = np.ones(512)
        for partial in range(1, 256):
            one = self.chance_at(partial)
            reach[2 * partial] = reach[partial] * (1 - one)
            reach[2 * partial + 1] = reach[partial] * one
        return reach[256:].copy()

    def costs(self, data: bytes) -> np.ndarray:
        """Bits that each byte costs."""
        found = []
        for byte in data:
            chance = 1.0
            for k in range(7, -1, -1):
                bit, one = (byte >> k) & 1, quantise(self.bit()) * (1.0 / ONE)
                chance *= one if bit else 1 - one
                self.learn(bit)
            found.append(-math.log2(chance))
        return np.array(found)

    def copy(self) -> Self:
        """A copy that goes its own way."""
        return copy.deepcopy(self)

    def state(self) -> bytes:
        """What was read."""
        return bytes(self._read)

    def load(self, data: bytes) -> None:
        """Read it again, as a new one."""
        if any(bit > 1 for bit in data):
            raise ValueError("the state of a predictor is damaged.")
        for bit in data:
            self.learn(bit)
