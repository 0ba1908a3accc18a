"""The same process run backwards (Lindquist and Picci 1979), and at another speed.

The backward model generates y in the opposite order of time with its own causal noise: it is not
the forward model with an inverse matrix, which would be unstable.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from solomonic.core.errors import ConfigError
from solomonic.realization.errors import IndefiniteNoiseError, NotMinimalError, UnstableError
from solomonic.realization.matrices import (
    NOISE_TOLERANCE,
    Array,
    least_eigenvalue,
    require_stable,
    symmetric,
)
from solomonic.realization.stochastic import StateSpace


def reverse(model: StateSpace) -> StateSpace:
    """The process in reversed time: E[z_{t+k} z_tᵀ] of the result is E[y_t y_{t+k}ᵀ] of `model`.

    Its state is P⁻¹ x_{t+1}; reversing twice gives A, C and the noise back, in the same basis.

    Raises:
        UnstableError: the process is not stationary.
        NotMinimalError: the noise does not reach all states (P is singular).
    """
    P = model.state_covariance()
    if model.order and np.linalg.cond(_scaled(P)) > 1e13:
        raise NotMinimalError(
            "The noise does not reach every state, so the backward model does not exist; call "
            "minimal() first."
        )
    inverse = symmetric(np.linalg.inv(P))
    output = model.backward_output(P)
    Q = symmetric(inverse - model.A.T @ inverse @ model.A)
    S = model.C.T - model.A.T @ inverse @ output.T
    R = symmetric(model.C @ P @ model.C.T + model.R - output @ inverse @ output.T)
    return StateSpace(model.A.T, output, Q, R, S, model.mean)


def _scaled(P: Array) -> Array:
    """With variances one."""
    scale = np.sqrt(np.maximum(np.diag(P), 1e-300))
    return P / np.outer(scale, scale)


def change_speed(model: StateSpace, factor: float, *, project: bool = False) -> StateSpace:
    """The process seen `factor` times as fast: A becomes A^factor, the state keeps its covariance.

    A whole factor is exact, the process at every factor-th sample. Any other needs a real power of
    A and noise that makes up the difference; neither need exist.

    Args:
        model: a stationary process.
        factor: above 0; 2 is twice as fast, 0.5 half as fast.
        project: cut the negative part of the noise instead of raising; the variances then change.

    Raises:
        UnstableError: the process is not stationary, or A has no real power.
        IndefiniteNoiseError: no noise keeps the statistics at that speed, and not `project`.
    """
    if not (isinstance(factor, int | float | np.number) and 0 < factor < np.inf):
        raise ConfigError(f"The factor of speed must be a number above 0; it is {factor!r}.")
    require_stable(model.A, "A change of speed")
    if float(factor).is_integer():
        before = np.linalg.matrix_power(model.A, int(factor) - 1)
        A = before @ model.A
    else:
        A = _real_power(model.A, float(factor))
        before = np.linalg.solve(model.A.T, A.T).T
    P = model.state_covariance()
    Q, S = symmetric(P - A @ P @ A.T), before @ model.S
    joint = symmetric(np.block([[Q, S], [S.T, model.R]]))
    least = least_eigenvalue(joint)
    if least < -NOISE_TOLERANCE:
        if not project:
            raise IndefiniteNoiseError(
                f"At speed {factor:g} the noise would be indefinite (least eigenvalue "
                f"{least:.3g} with "
                "variances scaled to one): no process has these statistics. Take a whole "
                "factor, or "
                "project=True to change the statistics."
            )
        joint = _positive_part(joint)
    n = model.order
    return StateSpace(A, model.C, joint[:n, :n], joint[n:, n:], joint[:n, n:], model.mean)


def _positive_part(joint: Array) -> Array:
    """The nearest covariance."""
    values, vectors = np.linalg.eigh(joint)
    return symmetric((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _real_power(A: Array, factor: float) -> Array:
    """A^factor, the principal power.

    Raises:
        UnstableError: an eigenvalue is zero or negative, where the power is not real or not unique.
    """
    values = np.linalg.eigvals(A)
    real = np.abs(values.imag) <= 1e-12 * np.abs(values)
    bad = values[(real & (values.real < 0)) | (np.abs(values) < 1e-8)]
    if len(bad):
        worst = complex(bad[0]).real
        raise UnstableError(
            f"A has the eigenvalue {worst:.4g}, whose power {factor:g} is not a real "
            "number; such a "
            "mode changes sign (or is forgotten) every step and has no in-between. Take a "
            "whole factor."
        )
    power = scipy.linalg.expm(factor * np.asarray(scipy.linalg.logm(A)))
    return np.ascontiguousarray(np.real(power), np.float64)
