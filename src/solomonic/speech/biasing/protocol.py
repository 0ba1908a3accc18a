"""What a decoder sees of biasing: an automaton over word pieces that pays and takes back.

Every score is a multiple of `QUANTUM` nats, so sums of float64 are exact in whatever order they
are taken: what a hypothesis was paid depends on its pieces alone, not on how the audio was cut.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

QUANTUM = 2.0**-16  # nats
PHRASE_QUANTUM = 2.0**-10  # of a phrase; what is left is for the factors of carriers


class Bias(Protocol):
    """Scores the pieces of a hypothesis, one after the other; blanks are never passed.

    For any pieces the sum of the steps' scores and of `final` is exactly what the completed
    occurrences of the phrases are worth. On the way a beginning is paid ahead, so that it survives
    pruning, and taken back when the phrase does not come. An object is read by one thread.
    """

    @property
    def start(self) -> int:
        """The state before any piece."""
        ...

    def step(self, state: int, token: int) -> tuple[int, float]:
        """The next state and the score to add, nats."""
        ...

    def final(self, state: int) -> float:
        """The score to add at the end: takes back what an unfinished phrase was paid, nats."""
        ...

    def next_tokens(self, state: int) -> Iterable[int]:
        """The pieces that begin or continue a phrase here; every other one is paid nothing new."""
        ...

    def scores(self, state: int) -> np.ndarray:
        """(V,) float64, read-only: the score of `step` for every piece; entry 0 (blank) is 0."""
        ...


class Scaled:
    """A `Bias` whose scores are `factor` times those of another."""

    def __init__(self, bias: Bias, factor: float) -> None:
        self._bias, self._factor = bias, factor
        self._rows = Rows()

    @property
    def start(self) -> int:
        return self._bias.start

    def step(self, state: int, token: int) -> tuple[int, float]:
        after, score = self._bias.step(state, token)
        return after, self._factor * score

    def final(self, state: int) -> float:
        return self._factor * self._bias.final(state)

    def next_tokens(self, state: int) -> Iterable[int]:
        return self._bias.next_tokens(state)

    def scores(self, state: int) -> np.ndarray:
        row = self._rows.get(state)
        if row is None:
            row = self._rows.put(state, self._factor * self._bias.scores(state))
        return row


class Rows:
    """A bounded store of what `scores` and `next_tokens` answered, by state."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._rows: dict[int, np.ndarray] = {}

    def get(self, state: int) -> np.ndarray | None:
        return self._rows.get(state)

    def put(self, state: int, row: np.ndarray) -> np.ndarray:
        """Keep `row` (made read-only) and return it; the oldest goes when the store is full."""
        if len(self._rows) >= self._most:
            del self._rows[next(iter(self._rows))]
        row.setflags(write=False)
        self._rows[state] = row
        return row
