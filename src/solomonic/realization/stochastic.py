"""Stationary processes with a finite state: x⁺ = A x + w, y = mean + C x + v, white noise (w, v).

One class for every Markovian representation. The innovations form is the one whose noise is the
prediction error itself, w = K e and v = e: its state is what the past of y says about the future.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import ShapeError
from solomonic.realization.errors import UnstableError
from solomonic.realization.linear import Linear, Recursion, invertible
from solomonic.realization.matrices import (
    NOISE_TOLERANCE,
    Array,
    as_array,
    least_eigenvalue,
    lyapunov,
    matrix,
    positive_int,
    require_covariance,
    root,
    spectral_radius,
    square,
    symmetric,
)


@dataclasses.dataclass(frozen=True, eq=False)
class StateSpace(Recursion):
    """x⁺ = A x + w, y = mean + C x + v; cov (w, v) = [[Q, S], [Sᵀ, R]]; n states, m outputs.

    Attributes:
        A: (n, n).
        C: (m, n).
        Q: (n, n), covariance of w.
        R: (m, m), covariance of v.
        S: (n, m), cov(w, v); zero when not given.
        mean: (m,) of y; zero when not given.
        gain: (n, m) Kalman gain K if this is the innovations form (`from_innovations`), else None.

    Raises:
        ShapeError, DataError: sizes that do not fit, NaN.
        IndefiniteNoiseError: the joint noise covariance has a negative eigenvalue.
    """

    A: Array
    C: Array
    Q: Array
    R: Array
    S: Array = None  # pyright: ignore[reportAssignmentType] (set below)
    mean: Array = None  # pyright: ignore[reportAssignmentType] (set below)
    gain: Array | None = None

    def __post_init__(self) -> None:
        A = square("A", self.A)
        n = len(A)
        C = matrix("C", self.C, columns=n)
        m = len(C)
        Q, R = square("Q", self.Q, n), square("R", self.R, m)
        S = np.zeros((n, m)) if self.S is None else matrix("S", self.S, n, m)
        mean = np.zeros(m) if self.mean is None else as_array("mean", self.mean)
        if mean.shape != (m,):
            raise ShapeError(f"mean must be ({m},); it is {mean.shape}.")
        joint = _noise(np.block([[Q, S], [S.T, R]]), A, C)
        values = {"A": A, "C": C, "Q": joint[:n, :n], "R": joint[n:, n:], "S": S, "mean": mean}
        if self.gain is not None:
            values["gain"] = matrix("gain", self.gain, n, m)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def noise(self) -> Array:
        """The joint covariance of (w, v), (n + m, n + m)."""
        return np.block([[self.Q, self.S], [self.S.T, self.R]])

    def state_covariance(self) -> Array:
        """P = A P Aᵀ + Q of the stationary state. UnstableError if there is none."""
        return lyapunov(self.A, self.Q)

    def backward_output(self, covariance: Array | None = None) -> Array:
        """C̄ = C P Aᵀ + Sᵀ (m, n): E[y_t x_{t+1}ᵀ], the output map of the reversed process."""
        P = self.state_covariance() if covariance is None else covariance
        return self.C @ P @ self.A.T + self.S.T

    def autocovariance(self, lags: int) -> Array:
        """E[(y_{t+k} - mean)(y_t - mean)ᵀ] for k = 0 ... lags - 1: (lags, m, m)."""
        lags = positive_int("lags", lags)
        P = self.state_covariance()
        out = np.empty((lags, self.outputs, self.outputs))
        out[0] = self.C @ P @ self.C.T + self.R
        column = self.backward_output(P).T
        for k in range(1, lags):
            out[k] = self.C @ column
            column = self.A @ column
        return out

    def spectrum(self, frequencies: ArrayLike) -> np.ndarray:
        """The spectral density Σ_k Λ_k exp(-ikω) at ω in radians a sample: (F, m, m), complex."""
        both = Linear(
            self.A,
            np.hstack([np.eye(self.order), np.zeros((self.order, self.outputs))]),
            self.C,
            np.hstack([np.zeros((self.outputs, self.order)), np.eye(self.outputs)]),
        ).response(frequencies)
        return both @ self.noise() @ both.conj().swapaxes(1, 2)

    def transform(self, change: ArrayLike) -> StateSpace:
        """The same process with the state z = change · x."""
        change = invertible(change, self.order)
        back = np.linalg.inv(change)
        A, C = change @ self.A @ back, self.C @ back
        if self.gain is not None:
            return from_innovations(A, C, change @ self.gain, self.R, self.mean)
        Q = change @ self.Q @ change.T
        return StateSpace(A, C, Q, self.R, change @ self.S, self.mean)

    def sample(
        self, steps: int, seed: int | np.random.Generator = 0, start: ArrayLike | None = None
    ) -> Array:
        """A path of the process, (steps, m), with Gaussian noise.

        `start` (n,) is the first state; without it one is drawn from the stationary distribution.
        """
        return self.sample_states(steps, seed, start)[0]

    def sample_states(
        self, steps: int, seed: int | np.random.Generator = 0, start: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """A path (steps, m) and its states, (steps + 1, n)."""
        steps = positive_int("steps", steps, least=0)
        random = np.random.default_rng(seed)
        if start is None:
            x = root(self.state_covariance()) @ random.standard_normal(self.order)
        else:
            x = as_array("start", start)
        if x.shape != (self.order,):
            raise ShapeError(f"start must be ({self.order},); it is {x.shape}.")
        drawn = random.standard_normal((steps, self.order + self.outputs)) @ root(self.noise()).T
        states = np.empty((steps + 1, self.order))
        states[0] = x
        for t in range(steps):
            states[t + 1] = self.A @ states[t] + drawn[t, : self.order]
        return self.mean + states[:-1] @ self.C.T + drawn[:, self.order :], states


def _noise(joint: Array, A: Array, C: Array) -> Array:
    """The joint covariance, checked; what is negative below the rounding of the signal passes.

    Noise may be all but cancelled, as in a process that was reversed twice: then the variances of
    the states and outputs are the measure, not those of the noise.
    """
    n = len(A)
    if least_eigenvalue(joint) < -NOISE_TOLERANCE and spectral_radius(A) < 1:
        P = lyapunov(A, joint[:n, :n])
        variances = np.concatenate([np.diag(P), np.diag(C @ P @ C.T + joint[n:, n:])])
        if (variances > 0).all():
            scale = np.sqrt(variances)
            values = np.linalg.eigvalsh(symmetric(joint / np.outer(scale, scale)))
            if values[0] > -1e-12:
                return symmetric(joint)
    return require_covariance(joint, "The noise covariance")


def from_innovations(
    A: ArrayLike, C: ArrayLike, K: ArrayLike, R: ArrayLike, mean: ArrayLike | None = None
) -> StateSpace:
    """The innovations form x⁺ = A x + K e, y = mean + C x + e with cov e = R.

    K must be the Kalman gain: the one with which A - K C has no eigenvalue outside the unit circle
    (any other belongs to a `StateSpace` given by Q, R and S; `innovations_form` finds its gain).

    Raises:
        ShapeError: sizes that do not fit.
        UnstableError: A - K C would not forget its start.
    """
    A, C = square("A", A), matrix("C", C)
    K, R = matrix("K", K, len(A), len(C)), square("R", R, len(C))
    radius = spectral_radius(A - K @ C)
    if radius > 1 + 1e-9:
        raise UnstableError(
            f"The largest eigenvalue of A - K C has modulus {radius:.6g}, so K is not the "
            "gain of an "
            "innovations form; give Q = K R Kᵀ, R and S = K R to StateSpace and call "
            "innovations_form."
        )
    centre = np.zeros(len(C)) if mean is None else as_array("mean", mean)
    return StateSpace(A, C, K @ R @ K.T, R, K @ R, centre, K)
