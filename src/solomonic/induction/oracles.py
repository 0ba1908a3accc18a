"""The exact Bayes predictors of the sources in `sources`, where they are not context trees."""

import math
from typing import Any

import numpy as np

from solomonic.induction.replayed import Replayed


class HmmFilter(Replayed):
    """The forward filter of a hidden Markov model whose parameters are known.

    Args:
        start: (S,) chances of the first state; moves: (S, S) from row to column;
        emits: (S, A) of symbols.
    """

    kind = "hmm-filter"

    def __init__(self, start: np.ndarray, moves: np.ndarray, emits: np.ndarray) -> None:
        super().__init__(emits.shape[1])
        self.start, self.moves, self.emits = start, moves, emits
        self._state = start.copy()

    def _settings(self) -> dict[str, Any]:
        parts = (self.start, self.moves, self.emits)
        return {"parameters": [[x.hex() for x in part.ravel().tolist()] for part in parts]}

    def _fresh(self) -> "HmmFilter":
        return HmmFilter(self.start, self.moves, self.emits)

    def predict(self) -> np.ndarray:
        found = self._state @ self.emits
        return found / found.sum()

    def _learn(self, symbol: int) -> None:
        after = self._state * self.emits[:, symbol]
        self._state = (after / after.sum()) @ self.moves


class SwitchingBayes(Replayed):
    """Symbols drawn from a Dirichlet(1/2) draw that is drawn anew before each with chance `hazard`.

    Exact: one estimator for every time at which the last change may have been, weighed by its
    posterior (Bayesian online change-point detection).
    """

    kind = "switching-bayes"

    def __init__(self, alphabet: int, hazard: float) -> None:
        super().__init__(alphabet)
        self.hazard = hazard
        self._weights = np.ones(1)
        self._counts = np.zeros((1, alphabet))

    def _settings(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "hazard": self.hazard}

    def _fresh(self) -> "SwitchingBayes":
        return SwitchingBayes(self.alphabet, self.hazard)

    def _estimates(self) -> np.ndarray:
        totals = self._counts.sum(axis=1, keepdims=True)
        return (self._counts + 0.5) / (totals + self.alphabet / 2)

    def predict(self) -> np.ndarray:
        found = self._weights @ self._estimates()
        return found / found.sum()

    def _learn(self, symbol: int) -> None:
        after = self._weights * self._estimates()[:, symbol]
        after /= after.sum()
        self._counts[:, symbol] += 1
        self._weights = np.append(after * (1 - self.hazard), self.hazard)
        self._counts = np.vstack([self._counts, np.zeros(self.alphabet)])


class PeriodicBayes(Replayed):
    """A uniform pattern of uniform period 1 .. longest, repeated; with chance `noise` a symbol is
    replaced by a uniform one. Exact: every period with the posterior of each place of its pattern.
    """

    kind = "periodic-bayes"

    def __init__(self, alphabet: int, longest: int, noise: float) -> None:
        super().__init__(alphabet)
        self.longest, self.noise = longest, noise
        self._logs = np.full(longest, -math.log(longest))
        # Of period p, place j, symbol a: log-likelihood of what was seen there if it is a.
        self._places = [np.zeros((p, alphabet)) for p in range(1, longest + 1)]

    def _settings(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "longest": self.longest, "noise": self.noise}

    def _fresh(self) -> "PeriodicBayes":
        return PeriodicBayes(self.alphabet, self.longest, self.noise)

    def _asked(self) -> np.ndarray:
        """Prediction of each period, (longest, alphabet)."""
        rows = []
        for period, places in enumerate(self._places, start=1):
            seen = places[len(self.seen) % period]
            belief = np.exp(seen - seen.max())
            belief /= belief.sum()
            rows.append((1 - self.noise) * belief + self.noise / self.alphabet)
        return np.stack(rows)

    def predict(self) -> np.ndarray:
        weights = np.exp(self._logs - self._logs.max())
        found = weights @ self._asked()
        return found / found.sum()

    def _learn(self, symbol: int) -> None:
        self._logs = self._logs + np.log(self._asked()[:, symbol])
        wrong = math.log(self.noise / self.alphabet)
        right = math.log(1 - self.noise + self.noise / self.alphabet)
        for period, places in enumerate(self._places, start=1):
            place = places[len(self.seen) % period]
            place += wrong
            place[symbol] += right - wrong
