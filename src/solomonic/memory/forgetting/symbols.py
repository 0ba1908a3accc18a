"""Change points of symbols, and a predictor that follows them: `SymbolChangePoints`.

follower = SymbolChangePoints(SymbolChangePointsConfig(alphabet=4))
cost = bits(follower, symbols)  # a `Predictor`: mixes all segmentations, revives old regimes
"""

import math
from typing import Self

import numpy as np

from solomonic.core import CheckpointError
from solomonic.induction.base import check_symbol
from solomonic.memory.forgetting import base, frames
from solomonic.memory.forgetting.config import SymbolChangePointsConfig
from solomonic.memory.forgetting.runs import Runs
from solomonic.memory.forgetting.statistics import SymbolCounts


class SymbolChangePoints:
    """Markov chains that change now and then and may return: a `Forgetting` and a `Predictor`.

    What came before the first symbol counts as zeros.
    """

    kind = "symbol-changes"

    def __init__(self, config: SymbolChangePointsConfig | None = None) -> None:
        self.config = config or SymbolChangePointsConfig()
        self.alphabet = self.config.alphabet
        self._counts = SymbolCounts(self.config, self.config.regimes + self.config.runs)
        self.runs = Runs(self.config, self._counts)
        self._context = 0
        self._contexts = self.alphabet**self.config.order

    @property
    def step(self) -> int:
        return self.runs.step

    def observe(self, value: int) -> None:
        self.update(value)

    def update(self, symbol: int) -> float:
        check_symbol(symbol, self.alphabet)
        gained = self.runs.observe((self._context, symbol))
        self._context = (self._context * self.alphabet + symbol) % self._contexts
        return -gained / math.log(2)

    def predict(self) -> np.ndarray:
        runs = self.runs
        found = self._counts.all(self._context, runs.n) @ runs.weights()
        return found / found.sum()

    def survival(self, written: np.ndarray) -> np.ndarray:
        return self.runs.survival(np.asarray(written))

    def changes(self) -> list[int]:
        return self.runs.segments.changes()

    def to_bytes(self) -> bytes:
        facts = {"context": self._context, **self.runs.facts()}
        return frames.pack(self.kind, self.config.to_json(), facts, self.runs.arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        settings, facts, arrays = base.opened(cls.kind, data)
        found = cls(SymbolChangePointsConfig.from_json(settings))
        found.runs.take(facts, arrays)
        found._context = facts["context"]
        return found

    def fork(self) -> Self:
        return type(self).from_bytes(self.to_bytes())

    def state(self) -> bytes:
        return self.to_bytes()

    def load(self, data: bytes) -> Self:
        found = type(self).from_bytes(data)
        if found.config != self.config:
            raise CheckpointError(
                f"the state is of a predictor with {found.config}, this one has {self.config}."
            )
        return found
