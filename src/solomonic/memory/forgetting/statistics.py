"""What hypotheses know of their segments, a column each: counts of symbols, or normal losses.

Columns are those of `runs.Runs`. A summary of one segment is a flat float64 vector that adds: the
summary of two pieces is the sum of theirs.
"""

import math
from typing import Any, Protocol

import numpy as np
from scipy.special import gammaln

from solomonic.memory.forgetting.config import ChangePointsConfig, SymbolChangePointsConfig


class Statistics(Protocol):
    """Sufficient statistics of all hypotheses side by side."""

    def likelihood(self, value: Any, n: int) -> tuple[np.ndarray, float]:
        """Of the value under columns 0 .. n - 1, (n,), and the logarithm of a common factor."""
        ...

    def learn(self, value: Any, shares: np.ndarray) -> None:
        """Add the value to the first columns, each by its share (n,)."""
        ...

    def clear(self, column: int) -> None:
        """Back to the prior."""
        ...

    def keep(self, first: int, columns: np.ndarray) -> None:
        """Move `columns` (ascending, none below `first`) to first, first + 1, ..."""
        ...

    def get(self, column: int) -> np.ndarray:
        """Its summary."""
        ...

    def put(self, column: int, summary: np.ndarray) -> None:
        """Make the column know exactly this."""
        ...

    def evidence(self, summary: np.ndarray) -> float:
        """Log marginal likelihood (nats) of a segment with this summary."""
        ...

    def arrays(self, n: int) -> dict[str, np.ndarray]:
        """The first n columns, for the state."""
        ...

    def take(self, arrays: dict[str, np.ndarray], n: int) -> None:
        """The opposite of `arrays`.

        Raises:
            ValueError, KeyError: they do not fit.
        """
        ...


class SymbolCounts:
    """Dirichlet-Markov: `counts` (contexts, alphabet, columns); values are (context, symbol).

    With `pooled` p above 0, the prior of a segment is not uniform but the average of all that was
    ever read, worth p symbols in each context; `pool` (contexts, alphabet) counts that.
    """

    def __init__(self, config: SymbolChangePointsConfig, columns: int) -> None:
        contexts = config.alphabet**config.order
        self.alpha, self.pooled = config.alpha, config.pooled
        self.mass = config.pooled or config.alpha * config.alphabet
        self.counts = np.zeros((contexts, config.alphabet, columns))
        self.totals = np.zeros((contexts, columns))
        self.pool = np.zeros((contexts, config.alphabet))

    def prior(self, context: int | slice = slice(None)) -> np.ndarray:
        """What is added to counts in a context, (alphabet,), or in all, (contexts, alphabet)."""
        pool = self.pool[context]
        if not self.pooled:
            return np.full(pool.shape, self.alpha)
        total = pool.sum(axis=-1, keepdims=True) + self.alpha * pool.shape[-1]
        return self.pooled * (pool + self.alpha) / total

    def likelihood(self, value: tuple[int, int], n: int) -> tuple[np.ndarray, float]:
        context, symbol = value
        added = self.prior(context)[symbol] if self.pooled else self.alpha
        found = self.counts[context, symbol, :n] + added
        found /= self.totals[context, :n] + self.mass
        return found, 0.0

    def all(self, context: int, n: int) -> np.ndarray:
        """Probabilities of every symbol under every column, (alphabet, n)."""
        counts = self.counts[context, :, :n] + self.prior(context)[:, None]
        return counts / (self.totals[context, :n] + self.mass)

    def learn(self, value: tuple[int, int], shares: np.ndarray) -> None:
        context, symbol = value
        self.counts[context, symbol, : len(shares)] += shares
        self.totals[context, : len(shares)] += shares
        self.pool[context, symbol] += 1

    def clear(self, column: int) -> None:
        self.counts[:, :, column] = 0
        self.totals[:, column] = 0

    def keep(self, first: int, columns: np.ndarray) -> None:
        end = first + len(columns)
        self.counts[:, :, first:end] = self.counts[:, :, columns]
        self.totals[:, first:end] = self.totals[:, columns]

    def get(self, column: int) -> np.ndarray:
        return self.counts[:, :, column].ravel().copy()

    def put(self, column: int, summary: np.ndarray) -> None:
        counts = np.maximum(summary, 0.0).reshape(self.pool.shape)
        self.counts[:, :, column] = counts
        self.totals[:, column] = counts.sum(axis=1)

    def evidence(self, summary: np.ndarray) -> float:
        counts, prior = np.maximum(summary, 0.0).reshape(self.pool.shape), self.prior()
        cells = (gammaln(counts + prior) - gammaln(prior)).sum(axis=1)
        rows = gammaln(self.mass) - gammaln(counts.sum(axis=1) + self.mass)
        return float((cells + rows).sum())

    def arrays(self, n: int) -> dict[str, np.ndarray]:
        return {
            "counts": self.counts[:, :, :n],
            "totals": self.totals[:, :n],
            "pool": self.pool,
        }

    def take(self, arrays: dict[str, np.ndarray], n: int) -> None:
        counts, totals, pool = arrays["counts"], arrays["totals"], arrays["pool"]
        good = counts.shape == (*self.pool.shape, n) and totals.shape == (len(self.pool), n)
        if not good or pool.shape != self.pool.shape or not (counts >= 0).all():
            raise ValueError("counts")
        self.counts[:, :, :n] = counts
        # Stored too: of archived regimes, a new sum of shares could differ in its last bit.
        self.totals[:, :n] = totals
        self.pool[:] = pool


class NormalLosses:
    """Normal-inverse-gamma: of each column how many values, their sums and their sums of squares
    about the prior mean, arrays (1 + 2 width, columns); values are (width,)."""

    def __init__(self, config: ChangePointsConfig, columns: int) -> None:
        self.width, self.mean, self.temper = config.width, config.mean, config.temper
        self.strength, self.shape = config.strength, config.shape
        self.spread = config.shape * config.scale**2
        self.sums = np.zeros((1 + 2 * config.width, columns))

    def likelihood(self, value: np.ndarray, n: int) -> tuple[np.ndarray, float]:
        kappa, alpha, centre, beta = self._posterior(self.sums[:, :n])
        # Student's t with 2 alpha degrees of freedom; `wide` is those times its squared scale.
        wide = beta * (2 + 2 / kappa)
        away = (value - self.mean)[:, None] - centre
        logs = (alpha + 0.5) * np.log1p(away * away / wide) + 0.5 * np.log(wide)
        factor = gammaln(alpha + 0.5) - gammaln(alpha) - 0.5 * math.log(math.pi)
        logs = self.temper * (self.width * factor - logs.sum(axis=0))
        top = float(logs.max())
        return np.exp(logs - top), top

    def _posterior(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """kappa and alpha (n,), mean less the prior's and beta (width, n)."""
        count, first, second = sums[0], sums[1 : 1 + self.width], sums[1 + self.width :]
        kappa = self.strength + count
        centre = first / kappa
        beta = self.spread + 0.5 * np.maximum(second - first * centre, 0.0)
        return kappa, self.shape + 0.5 * count, centre, beta

    def learn(self, value: np.ndarray, shares: np.ndarray) -> None:
        away = value - self.mean
        powers = np.concatenate(([1.0], away, away * away))
        self.sums[:, : len(shares)] += powers[:, None] * shares

    def clear(self, column: int) -> None:
        self.sums[:, column] = 0

    def keep(self, first: int, columns: np.ndarray) -> None:
        self.sums[:, first : first + len(columns)] = self.sums[:, columns]

    def get(self, column: int) -> np.ndarray:
        return self.sums[:, column].copy()

    def put(self, column: int, summary: np.ndarray) -> None:
        self.sums[:, column] = summary
        self.sums[0, column] = max(summary[0], 0.0)

    def evidence(self, summary: np.ndarray) -> float:
        kappa, alpha, _, beta = self._posterior(np.array(summary)[:, None])
        each = (
            gammaln(alpha)
            - gammaln(self.shape)
            + self.shape * math.log(self.spread)
            - alpha * np.log(beta)
            + 0.5 * np.log(self.strength / kappa)
            - 0.5 * max(float(summary[0]), 0.0) * math.log(2 * math.pi)
        )
        return float(each.sum())

    def arrays(self, n: int) -> dict[str, np.ndarray]:
        return {"sums": self.sums[:, :n]}

    def take(self, arrays: dict[str, np.ndarray], n: int) -> None:
        if arrays["sums"].shape != (len(self.sums), n) or not np.isfinite(arrays["sums"]).all():
            raise ValueError("sums")
        self.sums[:, :n] = arrays["sums"]
