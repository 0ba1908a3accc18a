"""Predictors whose state is what they have read: they come back by reading it again."""

import copy
from typing import Any, Self

import numpy as np

from solomonic.core import CheckpointError
from solomonic.induction import base


class Replayed:
    """Gives all other methods to a class with `predict`, `_learn`, `_settings` and `_fresh`."""

    kind = ""

    def __init__(self, alphabet: int) -> None:
        self.alphabet = alphabet
        self.seen: list[int] = []

    def predict(self) -> np.ndarray:
        raise NotImplementedError

    def _learn(self, symbol: int) -> None:
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def _fresh(self) -> Any:
        """One like this that has read nothing."""
        raise NotImplementedError

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, self.alphabet)
        paid = base.cost(self.predict(), symbol)
        self._read(symbol)
        return paid

    def _read(self, symbol: int) -> None:
        self._learn(symbol)
        self.seen.append(symbol)

    def fork(self) -> Self:
        return copy.deepcopy(self)

    def state(self) -> bytes:
        return base.wrap_state(self.kind, self._settings(), bytes(self.seen))

    def load(self, data: bytes) -> Self:
        symbols = base.unwrap_state(self.kind, self._settings(), data)
        if any(symbol >= self.alphabet for symbol in symbols):
            raise CheckpointError("the state of a predictor is damaged.")
        other = self._fresh()
        for symbol in symbols:
            other._read(symbol)
        return other
