"""A system from its impulse response (Ho and Kalman), a process from its autocovariances (Faurre).

Both are exact when what they are given is: the rank of the block Hankel matrix is the order.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization.errors import (
    IndefiniteNoiseError,
    NotMinimalError,
    TooFewSamplesError,
)
from solomonic.realization.linear import Linear
from solomonic.realization.matrices import Array, as_array, positive_int, symmetric
from solomonic.realization.stochastic import StateSpace, from_innovations


def hankel(blocks: Array, rows: int, columns: int) -> Array:
    """The block Hankel matrix (rows m, columns i) of blocks[0], blocks[1], ... each (m, i)."""
    index = np.arange(rows)[:, None] + np.arange(columns)
    _, m, i = blocks.shape
    return blocks[index].swapaxes(1, 2).reshape(rows * m, columns * i)


def ho_kalman(markov: ArrayLike, order: int | None = None, *, tolerance: float = 1e-10) -> Linear:
    """The minimal system with the impulse response `markov` (count, m, i): D, CB, CAB, ...

    A one-dimensional `markov` is of one input and one output. The order is the rank of the Hankel
    matrix, singular values below `tolerance` times the largest counting as zero, unless it is
    given. The result is balanced on the window: equally far from both ends.

    Raises:
        TooFewSamplesError: the response is too short to show its rank.
        NotMinimalError: `order` is more than the rank.
    """
    blocks = as_array("markov", markov)
    if blocks.ndim == 1:
        blocks = blocks[:, None, None]
    if blocks.ndim != 3:
        raise ShapeError(
            f"markov must be (count, outputs, inputs); it has {blocks.ndim} dimensions."
        )
    if not np.isfinite(blocks).all():
        raise DataError("markov holds NaN or infinity.")
    left, right, A = _factors(blocks, order, tolerance)
    _, m, i = blocks.shape
    return Linear(A, right[:, :i], left[:m], blocks[0])


def _factors(blocks: Array, order: int | None, tolerance: float) -> tuple[Array, Array, Array]:
    """Observability (rows m, n), controllability (n, columns i) and A of blocks[1:]."""
    count, m, i = blocks.shape
    if count < 3:
        raise TooFewSamplesError(f"Realization needs at least 3 blocks; there are {count}.")
    rows = max(1, min(count - 2, round((count - 1) * i / (m + i))))
    columns = count - 1 - rows
    H = hankel(blocks[1:], rows, columns)
    U, s, Vt = np.linalg.svd(H, full_matrices=False)
    rank = int((s > tolerance * s[0]).sum()) if s[0] > 0 else 0
    if order is None and rank == min(H.shape):
        raise TooFewSamplesError(
            f"The Hankel matrix of {count} blocks has full rank {rank}, so the order may be "
            "more; give "
            "more blocks, a larger tolerance for noisy ones, or the order."
        )
    n = rank if order is None else positive_int("order", order, least=0)
    if n > rank:
        raise NotMinimalError(
            f"The order asked for is {n}, but what is given has only {rank} states."
        )
    half = np.sqrt(s[:n])
    left, right = U[:, :n] * half, half[:, None] * Vt[:n]
    shifted = hankel(blocks[2:], rows, columns)
    A = (U[:, :n] / half).T @ shifted @ (Vt[:n].T / half)
    return left, right, A


def from_autocovariances(
    covariances: ArrayLike, order: int | None = None, *, tolerance: float = 1e-10
) -> StateSpace:
    """The innovations form of the process with these autocovariances (lags, m, m), lag 0 first.

    covariances[k] = E[y_{t+k} y_tᵀ], as `StateSpace.autocovariance` gives them.

    Raises:
        IndefiniteNoiseError: no process has these autocovariances (they are not positive real).
    """
    blocks = as_array("covariances", covariances)
    if blocks.ndim == 1:
        blocks = blocks[:, None, None]
    system = ho_kalman(blocks, order, tolerance=tolerance)
    return spectral_factor(system.A, system.C, system.B, symmetric(blocks[0]))


def spectral_factor(A: Array, C: Array, G: Array, variance: Array) -> StateSpace:
    """The innovations form with E[y_{t+k} y_tᵀ] = C A^{k-1} G and E[y yᵀ] = variance.

    Raises:
        IndefiniteNoiseError: the spectrum these make is not positive.
    """
    try:
        zero = np.zeros_like(A)
        P = -scipy.linalg.solve_discrete_are(A.T, C.T, zero, variance, s=G) if len(A) else zero
        covariance = symmetric(variance - C @ P @ C.T)
        np.linalg.cholesky(covariance)
        gain = np.linalg.solve(covariance, (G - A @ P @ C.T).T).T
        rest = P - A @ P @ A.T - gain @ covariance @ gain.T
        if np.abs(rest).max(initial=0.0) > 1e-6 * np.abs(P).max(initial=0.0):
            raise np.linalg.LinAlgError("the Riccati equation has no solution")
        return from_innovations(A, C, gain, covariance)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise IndefiniteNoiseError(
            "These autocovariances are of no process: their spectrum is not positive everywhere. "
            "If they were estimated, use identify() on the series instead."
        ) from error
