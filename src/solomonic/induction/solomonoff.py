"""The universal predictor, bounded: what all programs, weighed by their length, say comes next.

M(x b) is bracketed for every symbol b by opening the same number of states (`bracket`), and the
next symbol has the normalised middle of its bracket: programs that print no more are left out, as
they predict nothing. `bounds` gives what is certain.
"""

from typing import Any

import numpy as np

from solomonic.core import require
from solomonic.induction.bracket import Bracket
from solomonic.induction.replayed import Replayed


class Solomonoff(Replayed):
    """For short sequences: the brackets widen as they grow.

    Args:
        alphabet: of symbols and cells.
        cells: of the machine's ring.
        opened: states opened for each prediction and symbol.
    """

    kind = "solomonoff"

    def __init__(
        self,
        alphabet: int = 2,
        *,
        cells: int = 10,
        opened: int = 20_000,
        native: bool | None = None,
    ) -> None:
        require(opened >= 1, f"opened = {opened} must be at least 1.")
        super().__init__(alphabet)
        self._sizes = {"cells": cells, "opened": opened}
        self._native = native
        self._answer: tuple[np.ndarray, np.ndarray] | None = None
        Bracket(b"", alphabet=alphabet, cells=cells, native=native)  # refuses impossible sizes

    def _settings(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, **self._sizes}

    def _fresh(self) -> "Solomonoff":
        return Solomonoff(self.alphabet, **self._sizes, native=self._native)

    def brackets(self) -> tuple[np.ndarray, np.ndarray]:
        """M(x b) for every b: low and high, (alphabet,) each."""
        if self._answer is None:
            low, high = np.empty(self.alphabet), np.empty(self.alphabet)
            for symbol in range(self.alphabet):
                one = Bracket(
                    bytes([*self.seen, symbol]),
                    alphabet=self.alphabet,
                    cells=self._sizes["cells"],
                    native=self._native,
                )
                one.work(self._sizes["opened"])
                low[symbol], high[symbol] = one.low[-1], one.high[-1]
            self._answer = low, high
        return self._answer

    def predict(self) -> np.ndarray:
        low, high = self.brackets()
        middle = np.maximum((low + high) / 2, 1e-300)
        return middle / middle.sum()

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The normalised probability of each symbol certainly lies between these."""
        low, high = self.brackets()
        least = low / np.maximum(low + (high.sum() - high), 1e-300)
        most = high / np.maximum(high + (low.sum() - low), 1e-300)
        return least, most

    def _learn(self, symbol: int) -> None:
        self._answer = None
