"""The innovations form, the Kalman filter, the smoother, forecasts and the likelihood.

Time in the index of a state is the time of the output that it predicts: `states[t]` is what
y[0] ... y[t-1] say about x_t. Missing samples are NaN, whole rows or single channels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization.errors import IndefiniteNoiseError, NotMinimalError
from solomonic.realization.matrices import (
    Array,
    as_array,
    positive_int,
    require_covariance,
    series,
    spectral_radius,
    square,
    symmetric,
)
from solomonic.realization.stochastic import StateSpace, from_innovations

Start = tuple[ArrayLike, ArrayLike]
"""Mean (n,) and covariance (n, n) of the state before the first sample."""


@dataclasses.dataclass(frozen=True, eq=False)
class Steady:
    """What the Kalman filter settles to: gain (n, m), cov e (m, m), cov(x - x̂) (n, n)."""

    gain: Array
    innovation_covariance: Array
    error_covariance: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Filtered:
    """One pass of the filter over T samples.

    Attributes:
        states: (T + 1, n) predictions of x_t from what came before t; the last is the next state.
        innovations: (T, m) y_t minus its prediction, NaN where y is.
        innovation_covariances: T matrices (m, m); equal ones are one object.
        state_covariances: T + 1 matrices (n, n) of x_t - states[t].
        log_likelihood: of all samples that are there, in nats.
    """

    states: Array
    innovations: Array
    innovation_covariances: Sequence[Array]
    state_covariances: Sequence[Array]
    log_likelihood: float


@dataclasses.dataclass(frozen=True, eq=False)
class Smoothed:
    """States given the whole series: means (T, n) and T covariances (n, n)."""

    states: Array
    state_covariances: Sequence[Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """Means (h, m) and covariances (h, m, m) of the next h outputs."""

    mean: Array
    covariance: Array


def steady_state(model: StateSpace) -> Steady:
    """The gain and the covariances that the filter settles to (discrete Riccati equation).

    Raises:
        NotMinimalError: there is none, as some unstable or undamped state is never seen.
        IndefiniteNoiseError: an output (or a sum of outputs) is known without error.
    """
    if model.gain is not None:
        return Steady(model.gain, model.R, np.zeros((model.order, model.order)))
    if not model.order:
        return Steady(np.zeros((0, model.outputs)), model.R, np.zeros((0, 0)))
    error = _riccati(model)
    covariance = symmetric(model.C @ error @ model.C.T + model.R)
    gain = (model.A @ error @ model.C.T + model.S) @ np.linalg.inv(covariance)
    return Steady(gain, covariance, error)


def _riccati(model: StateSpace) -> Array:
    """cov(x - x̂) of the settled filter."""
    try:
        if np.linalg.cond(model.R) < 1e12:
            return symmetric(
                scipy.linalg.solve_discrete_are(model.A.T, model.C.T, model.Q, model.R, s=model.S)
            )
    except (np.linalg.LinAlgError, ValueError):
        pass
    return _iterated(model)


def _iterated(model: StateSpace) -> Array:
    """The same by running the filter's own recursion: for singular R and undamped states."""
    scale = max(float(np.trace(model.noise())), 1e-300)
    P = model.state_covariance() if model.radius < 1 else scale * np.eye(model.order)
    for _ in range(20000):
        covariance = symmetric(model.C @ P @ model.C.T + model.R)
        if np.linalg.eigvalsh(covariance)[0] <= 1e-13 * np.trace(covariance):
            raise IndefiniteNoiseError(
                "Some combination of outputs is predicted without error, so there is no "
                "innovations "
                "form; leave out dependent outputs or add measurement noise R."
            )
        cross = model.A @ P @ model.C.T + model.S
        new = model.A @ P @ model.A.T + model.Q - cross @ np.linalg.solve(covariance, cross.T)
        new = symmetric(new)
        if np.abs(new - P).max() <= 1e-15 * max(float(np.abs(P).max()), 1e-300):
            return new
        P = new
    if not np.isfinite(P).all() or np.abs(P).max() > 1e12 * scale:
        raise NotMinimalError(
            "The Kalman filter does not settle: an unstable state is not seen in the outputs; "
            "remove it with minimal()."
        )
    return P


def innovations_form(model: StateSpace) -> StateSpace:
    """The same process with its prediction error as the only noise.

    Its state is the prediction of the old state from the past outputs; A, C and every
    autocovariance stay.
    """
    steady = steady_state(model)
    covariance = steady.innovation_covariance
    return from_innovations(model.A, model.C, steady.gain, covariance, model.mean)


def kalman_filter(model: StateSpace, y: ArrayLike, start: Start | None = None) -> Filtered:
    """Filter a series (T, m); NaN marks what is missing.

    Without `start` the state before the first sample is the stationary one, so the model must be
    stable. Once the covariance has settled to rounding it is kept, which changes no digit.

    Raises:
        UnstableError: no start is given and the model has no stationary state.
    """
    rows = series("y", y, model.outputs, missing=True) - model.mean
    x, P = _start(model, start)
    pass_ = _Pass(model, P)
    states = np.empty((len(rows) + 1, model.order))
    states[0] = x
    errors = np.empty_like(rows)
    covariances, errors_of_state, likelihood = [], [pass_.P], 0.0
    present = np.asarray(~np.isnan(rows))
    whole = np.asarray(present.all(axis=1))
    for t, row in enumerate(rows):
        error = row - model.C @ states[t]
        errors[t] = error
        covariances.append(pass_.update(None if whole[t] else present[t]))
        known = error if whole[t] else error[present[t]]
        likelihood -= 0.5 * (pass_.log_determinant + known @ pass_.inverse @ known)
        states[t + 1] = model.A @ states[t] + pass_.gain @ known
        errors_of_state.append(pass_.P)
    return Filtered(states, errors, covariances, errors_of_state, float(likelihood))


class _Pass:
    """The covariance half of the filter; it does not depend on the values of y."""

    def __init__(self, model: StateSpace, P: Array) -> None:
        self.model, self.P = model, P
        self.scale = max(float(np.abs(P).max(initial=0.0)), float(np.trace(model.Q)), 1e-300)
        self.settled = False

    def update(self, present: Array | None) -> Array:
        """Take in one sample of which `present` channels are there (None: all); its cov e."""
        if self.settled and present is None:
            return self.covariance
        model, P = self.model, self.P
        keep = np.arange(model.outputs) if present is None else np.flatnonzero(present)
        C, S = model.C[keep], model.S[:, keep]
        covariance = symmetric(model.C @ P @ model.C.T + model.R)
        seen = covariance[np.ix_(keep, keep)]
        try:
            factor = np.linalg.cholesky(seen)
        except np.linalg.LinAlgError:
            raise IndefiniteNoiseError(
                "Some combination of outputs is predicted without error, so its likelihood is not "
                "finite; leave out dependent outputs or add measurement noise R."
            ) from None
        half = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True)
        self.inverse = half.T @ half
        self.log_determinant = 2 * float(np.log(np.diag(factor)).sum()) + len(factor) * math.log(
            2 * math.pi
        )
        cross = model.A @ P @ C.T + S
        self.gain = cross @ self.inverse
        self.P = symmetric(model.A @ P @ model.A.T + model.Q - self.gain @ cross.T)
        change = np.abs(self.P - P).max(initial=0.0)
        self.settled = present is None and change <= 1e-15 * self.scale
        self.covariance = covariance
        return covariance


def _start(model: StateSpace, start: Start | None) -> tuple[Array, Array]:
    if start is None:
        return np.zeros(model.order), model.state_covariance()
    mean = as_array("The mean of the start", start[0])
    if mean.shape != (model.order,):
        raise ShapeError(f"The mean of the start must be ({model.order},); it is {mean.shape}.")
    covariance = square("The covariance of the start", start[1], model.order)
    return mean, require_covariance(covariance, "The covariance of the start")


def kalman_smoother(model: StateSpace, y: ArrayLike, start: Start | None = None) -> Smoothed:
    """The states given all of the series (the disturbance form: P may be singular).

    In the innovations form the past determines the state, so smoothing changes only the first few.
    """
    found = kalman_filter(model, y, start)
    steps = len(found.innovations)
    states = np.empty((steps, model.order))
    covariances: list[Array] = []
    pull, weight = np.zeros(model.order), np.zeros((model.order, model.order))
    for t in reversed(range(steps)):
        error = found.innovations[t]
        keep = ~np.isnan(error)
        C, P = model.C[keep], found.state_covariances[t]
        inverse = np.linalg.inv(found.innovation_covariances[t][np.ix_(keep, keep)])
        gain = (model.A @ P @ C.T + model.S[:, keep]) @ inverse
        left = model.A - gain @ C
        pull = C.T @ inverse @ error[keep] + left.T @ pull
        weight = symmetric(C.T @ inverse @ C + left.T @ weight @ left)
        states[t] = found.states[t] + P @ pull
        covariances.append(symmetric(P - P @ weight @ P))
    return Smoothed(states, covariances[::-1])


def forecast(model: StateSpace, y: ArrayLike, steps: int, start: Start | None = None) -> Forecast:
    """The next `steps` outputs given the series, with the covariance of each."""
    steps = positive_int("steps", steps)
    found = kalman_filter(model, y, start)
    x, P = found.states[-1], found.state_covariances[-1]
    means = np.empty((steps, model.outputs))
    covariances = np.empty((steps, model.outputs, model.outputs))
    for h in range(steps):
        means[h] = model.mean + model.C @ x
        covariances[h] = symmetric(model.C @ P @ model.C.T + model.R)
        x, P = model.A @ x, symmetric(model.A @ P @ model.A.T + model.Q)
    return Forecast(means, covariances)


def one_step_loss(model: StateSpace, y: ArrayLike, start: Start | None = None) -> float:
    """Mean negative log-likelihood, nats a sample (all channels together)."""
    rows = series("y", y, model.outputs, missing=True)
    if not len(rows):
        raise DataError("y is empty: there is nothing to predict.")
    return -kalman_filter(model, rows, start).log_likelihood / len(rows)


def expected_loss(model: StateSpace, truth: StateSpace) -> float:
    """The one-step loss of `model` on infinitely many samples of `truth`, in closed form.

    Nats a sample. `expected_loss(truth, truth)` is the entropy rate; the difference of the two is
    the price of not knowing the truth.
    """
    guess, real = innovations_form(model), innovations_form(truth)
    if guess.outputs != real.outputs:
        raise ShapeError("The two models have different numbers of outputs.")
    assert guess.gain is not None
    assert real.gain is not None
    closed = guess.A - guess.gain @ guess.C
    A = np.block([[real.A, np.zeros((real.order, guess.order))], [guess.gain @ real.C, closed]])
    B = np.vstack([real.gain, guess.gain])
    C = np.hstack([real.C, -guess.C])
    both = StateSpace(A, C, B @ real.R @ B.T, real.R)
    shift = _mean_error(guess, closed, real.mean - guess.mean)
    errors = C @ both.state_covariance() @ C.T + real.R + np.outer(shift, shift)
    log_determinant = np.linalg.slogdet(2 * math.pi * guess.R)[1]
    return 0.5 * float(log_determinant + np.trace(np.linalg.solve(guess.R, errors)))


def _mean_error(guess: StateSpace, closed: Array, offset: Array) -> Array:
    """The constant part of the innovations when the mean is off by `offset`."""
    assert guess.gain is not None
    settled = np.linalg.solve(np.eye(guess.order) - closed, guess.gain @ offset)
    return offset - guess.C @ settled


def is_invertible(model: StateSpace) -> bool:
    """Whether the settled filter forgets its start: A - K C is stable."""
    return spectral_radius(model.A - steady_state(model).gain @ model.C) < 1
