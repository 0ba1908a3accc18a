"""A state from outputs alone: canonical variate analysis and N4SID, with the order selected.

Past and future of the series are two long vectors; the singular values of what the past says about
the future (canonical correlations) show how many numbers carry it, and those numbers are the state
(Larimore; Van Overschee and De Moor; Lindquist and Picci). Everything after the sums of products of
samples is done on small matrices, so the cost beyond one pass does not grow with the series.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from solomonic.core.errors import ConfigError, DataError
from solomonic.realization.errors import TooFewSamplesError, UnstableError
from solomonic.realization.kalman import innovations_form
from solomonic.realization.matrices import Array, positive_int, series, spectral_radius, symmetric
from solomonic.realization.stochastic import StateSpace, from_innovations

LEAST_LAGS = 6
MOST_LAGS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Identified:
    """What `identify` found.

    Attributes:
        model: the innovations form.
        order: its number of states.
        correlations: of past and future, largest first, all of them; canonical (at most 1) with
            "cva", in units of the outputs with "n4sid".
        criterion: the value of each order 0, 1, ... that was tried; the least one chooses. Empty
            when the order was given.
        lags: length of the past and of the future.
        samples: length of the series.
    """

    model: StateSpace
    order: int
    correlations: Array
    criterion: Array
    lags: int
    samples: int

    @property
    def parameters(self) -> int:
        """Numbers that the one-step prediction depends on: 2 n m (a basis of the state is free)."""
        return 2 * self.order * self.model.outputs


def identify(
    y: ArrayLike,
    order: int | None = None,
    *,
    lags: int | None = None,
    weighting: str = "cva",
    most_order: int | None = None,
) -> Identified:
    """The innovations form of a stationary series (T, m) from its samples alone.

    Args:
        order: number of states; None selects it by Bayes' criterion on the one-step loss of the
            model of each order: ln det R + 2 n m ln(T) / T.
        lags: length of past and future; None takes twice the order of the best autoregression (by
            Akaike's criterion), at least 6, so that nothing is left in the residuals.
        weighting: "cva" (canonical correlations; efficient), or "n4sid" (covariances; does not
            scale the future, so loud channels count more).
        most_order: upper end of the search.

    Raises:
        TooFewSamplesError: the series is too short for the lags and the order.
        DataError: a channel is constant, or some combination is predicted without error.
        UnstableError: the model found is not stationary, as of a series with a trend.
    """
    if weighting not in ("cva", "n4sid"):
        raise ConfigError(f"weighting must be 'cva' or 'n4sid', not {weighting!r}.")
    rows = series("y", y)
    samples, m = rows.shape
    least = 0 if order is None else -(-positive_int("order", order, least=0) // m) + 1
    if samples < 20 * max(m, 1) or samples < 4 * m * max(least, 2):
        raise TooFewSamplesError(
            f"{samples} samples of {m} channels are too few"
            + (f" for order {order}" if order else "")
            + f"; identify needs at least {max(20 * m, 4 * m * max(least, 2))}."
        )
    _require_variation(rows)
    mean = rows.mean(0)
    rows = rows - mean
    p = _lags(rows, least) if lags is None else positive_int("lags", lags)
    if p < least:
        raise ConfigError(
            f"{p} lags of {m} channels hold no {order} states; give at least {least}."
        )
    if samples < 2 * p * (m + 1) + 1:
        raise TooFewSamplesError(
            f"{samples} samples are too few for {p} lags of past and future; identify needs "
            "at least "
            f"{2 * p * (m + 1) + 1}, or fewer lags."
        )
    correlations, map_ = _past_to_state(rows, p, weighting)
    fit = _Fit(rows, map_, mean, p)
    criterion = np.empty(0)
    if order is None:
        criterion = fit.search(most_order)
    n = int(np.argmin(criterion)) if order is None else order
    return Identified(fit.stable(n), n, correlations, criterion, p, samples)


def window_gram(rows: Array, depth: int) -> Array:
    """Mean outer product of the windows (y_t, ..., y_{t+depth-1}), oldest first: (depth m)².

    One product of whole series a lag; the rest follows by what enters and leaves the window.
    """
    samples, m = rows.shape
    count = samples - depth + 1
    gram = np.empty((depth, m, depth, m))
    for lag in range(depth):
        first = rows[:count].T @ rows[lag : lag + count]
        k = depth - lag
        left = rows[: k - 1, :, None] * rows[lag : lag + k - 1, None, :]
        came = rows[count : samples - lag, :, None] * rows[count + lag :, None, :]
        blocks = first + np.concatenate([np.zeros((1, m, m)), np.cumsum(came - left, 0)])
        index = np.arange(k)
        gram[index, :, index + lag, :] = blocks
        gram[index + lag, :, index, :] = blocks.swapaxes(1, 2)
    return gram.reshape(depth * m, depth * m) / count


def autoregression_losses(rows: Array, most: int) -> Array:
    """ln det of the residual covariance of autoregressions of order 0 ... most, on equal samples.

    All orders are read off one Cholesky factor: the lags are taken in one after another.
    """
    m = rows.shape[1]
    order = [*range(most - 1, -1, -1), most]
    gram = window_gram(rows, most + 1).reshape(most + 1, m, most + 1, m)
    gram = gram[order][:, :, order].reshape((most + 1) * m, -1)
    last = cholesky(gram)[-m:]
    pieces = last.reshape(m, most + 1, m).swapaxes(0, 1)
    terms = pieces @ pieces.swapaxes(1, 2)
    return np.linalg.slogdet(np.cumsum(terms[::-1], 0)[::-1])[1]


def cholesky(gram: Array) -> Array:
    """The lower factor, or a DataError that says why there is none."""
    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        factor = np.zeros_like(gram)
    diagonal = np.diag(factor)
    if diagonal.min() <= 1e-7 * np.sqrt(np.diag(gram)).max(initial=1e-300) * 1e-3:
        raise DataError(
            "The series predicts some combination of its channels without error, so its "
            "noise cannot "
            "be found; leave out dependent channels, or use ho_kalman or a texture."
        )
    return factor


def _require_variation(rows: Array) -> None:
    spread = rows.std(0)
    flat = np.flatnonzero(spread <= 1e-12 * np.abs(rows).max(0))
    if len(flat):
        raise DataError(f"channel {flat[0]} of y is constant; leave it out.")


def _lags(rows: Array, least: int) -> int:
    """Twice the order of the autoregression with the least AIC, within what the samples allow."""
    samples, m = rows.shape
    room = max((samples - 1) // (4 * (m + 1)), 1)
    room = min(room, max(int(10 * samples ** (1 / 3)), LEAST_LAGS), MOST_LAGS)
    most, best = min(16, room), 0
    while True:
        losses = autoregression_losses(rows, most)
        orders = np.arange(most + 1)
        best = int(np.argmin((samples - most) * losses + 2 * m * m * orders))
        if best <= 0.75 * most or most >= room:
            break
        most = min(2 * most, room)
    return max(min(max(2 * best, LEAST_LAGS), 2 * room), least)


def _past_to_state(rows: Array, p: int, weighting: str) -> tuple[Array, Array]:
    """Singular values, and the map (p m, p m) from the past, newest first, to states."""
    m = rows.shape[1]
    gram = window_gram(rows, 2 * p)
    newest = _newest_first(p, m)
    L_past = cholesky(gram[np.ix_(newest, newest)])
    cross = gram[p * m :][:, newest]
    said = scipy.linalg.solve_triangular(L_past, cross.T, lower=True).T
    if weighting == "cva":
        L_future = cholesky(gram[p * m :, p * m :])
        said = scipy.linalg.solve_triangular(L_future, said, lower=True)
    _, s, Vt = np.linalg.svd(said)
    if weighting == "cva":
        s = np.minimum(s, 1.0)
    weighted = scipy.linalg.solve_triangular(L_past, Vt.T, lower=True, trans=1).T
    return s, np.sqrt(s)[:, None] * weighted


def _newest_first(p: int, m: int) -> np.ndarray:
    """Where y_{t-1}, ..., y_{t-p} stand in a window that begins with y_{t-p}."""
    return np.arange(p)[::-1].repeat(m) * m + np.tile(np.arange(m), p)


class _Fit:
    """Models of every order from one state map, by regressions on sums of products."""

    def __init__(self, rows: Array, map_: Array, mean: Array, p: int) -> None:
        self.samples, self.m = rows.shape
        self.map, self.mean, self.p = map_, mean, p
        self.gram = window_gram(rows, p + 1)
        newest = _newest_first(p, self.m)
        self.now = map_ @ self.gram[np.ix_(newest, newest)] @ map_.T
        self.next = map_ @ self.gram[np.ix_(newest + self.m, newest)] @ map_.T
        self.y = self.gram[p * self.m :, newest] @ map_.T
        self.next_y = map_ @ self.gram[newest + self.m, p * self.m :]
        self.variance = self.gram[p * self.m :, p * self.m :]

    def matrices(self, n: int) -> tuple[Array, Array, Array, Array]:
        """A, C, K, R: regressions of y on the state, of the next state on state and innovation."""
        X, y = self.now[:n, :n], self.y[:, :n]
        C = np.linalg.solve(X, y.T).T
        R = symmetric(self.variance - C @ X @ C.T)
        A = np.linalg.solve(X, self.next[:n, :n].T).T
        K = np.linalg.solve(R, (self.next_y[:n] - self.next[:n, :n] @ C.T).T).T
        return A, C, K, R

    def search(self, most: int | None) -> Array:
        """Bayes' criterion of the orders 0, 1, ... until it has long ceased to fall."""
        values: list[float] = []
        limit = len(self.map) if most is None else positive_int("most_order", most, least=0)
        patience = max(6, 3 * self.m)
        for n in range(min(limit, len(self.map)) + 1):
            penalty = 2 * n * self.m * math.log(self.samples) / self.samples
            values.append(self._loss(n) + penalty)
            if n - int(np.argmin(values)) >= patience:
                break
        return np.array(values)

    def _loss(self, n: int) -> float:
        """ln det of the covariance of the errors that the model of order n makes.

        Its predictions are a sum over the past, whose products with y are known.
        """
        A, C, K, _ = self.matrices(n)
        closed = A - K @ C
        if spectral_radius(A) >= 1 or spectral_radius(closed) >= 1:
            return math.inf
        weights, column = [np.eye(self.m)], K
        for _ in range(self.p):
            weights.append(-C @ column)
            column = closed @ column
        filter_ = np.hstack(weights[::-1])
        return float(np.linalg.slogdet(filter_ @ self.gram @ filter_.T)[1])

    def stable(self, n: int) -> StateSpace:
        """The model of order n in innovations form; UnstableError if it is not stationary."""
        A, C, K, R = self.matrices(n)
        radius = spectral_radius(A)
        if radius >= 1:
            raise UnstableError(
                f"The model found has an eigenvalue of modulus {radius:.6g}: the series does not "
                "look stationary. Remove trends (see Stack), difference it, or ask for a lower "
                "order."
            )
        if spectral_radius(A - K @ C) < 1:
            return from_innovations(A, C, K, R, self.mean)
        return innovations_form(StateSpace(A, C, K @ R @ K.T, R, K @ R, self.mean))
