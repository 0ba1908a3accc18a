"""A predictor of many symbols asked for a few: a text model that reads digits, for instance."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from solomonic.core import Predictor, require
from solomonic.induction import base


class Restricted:
    """Symbol i is symbol `names[i]` of `inner`; probabilities are renormalised over them."""

    def __init__(self, inner: Predictor, names: Sequence[int]) -> None:
        require(len(set(names)) == len(names) > 0, "names must be different symbols.")
        for name in names:
            base.check_symbol(name, inner.alphabet)
        self._inner, self._names, self.alphabet = inner, list(names), len(names)

    def predict(self) -> np.ndarray:
        found = self._inner.predict()[self._names]
        return found / found.sum()

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, self.alphabet)
        paid = base.cost(self.predict(), symbol)
        self._inner.update(self._names[symbol])
        return paid

    def fork(self) -> Self:
        return type(self)(self._inner.fork(), self._names)

    def state(self) -> bytes:
        return base.wrap_state("restricted", {"names": self._names}, self._inner.state())

    def load(self, data: bytes) -> Self:
        payload = base.unwrap_state("restricted", {"names": self._names}, data)
        return type(self)(self._inner.load(payload), self._names)
