"""Checked float64 arrays and the few matrix functions that everything else uses."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization.errors import IndefiniteNoiseError, UnstableError

Array: TypeAlias = NDArray[np.floating[Any]]
"""Always float64; numpy's own hints promise no more than this."""

NOISE_TOLERANCE = 1e-8
"""How negative, relative to the largest, an eigenvalue of a covariance may be by rounding."""


def as_array(name: str, value: ArrayLike) -> Array:
    """`value` as a finite float64 array of its own, or a ShapeError that names it."""
    try:
        array = np.array(value)
    except ValueError as error:
        raise ShapeError(f"{name} is not a rectangular array of numbers ({error}).") from error
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"{name} must hold real numbers, not {array.dtype}; convert it first.")
    return np.ascontiguousarray(array, dtype=np.float64)


def matrix(
    name: str, value: ArrayLike, rows: int | None = None, columns: int | None = None
) -> Array:
    """`value` as a finite matrix of that size (None: any).

    Raises:
        ShapeError: it is no matrix, or of another size.
        DataError: it holds NaN or infinity.
    """
    array = as_array(name, value)
    if array.ndim != 2:
        raise ShapeError(f"{name} must be a matrix; it has {array.ndim} dimensions.")
    for what, size, wanted in zip(("rows", "columns"), array.shape, (rows, columns), strict=True):
        if wanted is not None and size != wanted:
            raise ShapeError(f"{name} must have {wanted} {what}; it has {size}.")
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds NaN or infinity.")
    return array


def square(name: str, value: ArrayLike, size: int | None = None) -> Array:
    """`value` as a square matrix."""
    array = matrix(name, value, size, size)
    if array.shape[0] != array.shape[1]:
        raise ShapeError(f"{name} must be square; it is {array.shape[0]} by {array.shape[1]}.")
    return array


def series(
    name: str, value: ArrayLike, channels: int | None = None, missing: bool = False
) -> Array:
    """A time series as (T, channels): one dimension is one channel; NaN only if `missing`.

    Raises:
        ShapeError: more than two dimensions, or another number of channels.
        DataError: NaN where none is allowed, or infinity.
    """
    array = as_array(name, value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ShapeError(f"{name} must be (time, channels); it has {array.ndim} dimensions.")
    if channels is not None and array.shape[1] != channels:
        raise ShapeError(f"{name} must have {channels} channels; it has {array.shape[1]}.")
    bad = np.isinf(array) if missing else ~np.isfinite(array)
    if bad.any():
        row = int(np.argwhere(bad)[0, 0])
        raise DataError(
            f"{name} is not finite at sample {row}; remove or interpolate what is missing."
        )
    return array


def symmetric(value: Array) -> Array:
    """The symmetric part."""
    return (value + value.T) / 2


def spectral_radius(value: Array) -> float:
    """The largest modulus of an eigenvalue; 0 of the empty matrix."""
    return float(np.abs(np.linalg.eigvals(value)).max(initial=0.0))


def require_stable(value: Array, what: str) -> float:
    """The spectral radius, if it is below one.

    Raises:
        UnstableError: it is not, with the radius.
    """
    radius = spectral_radius(value)
    if not radius < 1:
        raise UnstableError(
            f"{what} needs a stable system, and the largest eigenvalue of A has modulus "
            f"{radius:.6g}; difference the series, or fit with fewer states."
        )
    return radius


def least_eigenvalue(covariance: Array) -> float:
    """The least eigenvalue after scaling every variance to one.

    Variances below 1e-9 of the largest count as that much: below it lies rounding.
    """
    if not covariance.size:
        return 0.0
    variances = np.diag(covariance)
    floor = 1e-9 * float(variances.max())
    scale = np.sqrt(np.maximum(variances, floor)) if floor > 0 else np.ones(len(variances))
    return float(np.linalg.eigvalsh(symmetric(covariance / np.outer(scale, scale)))[0])


def require_covariance(value: Array, what: str) -> Array:
    """The symmetric part of `value`, if no eigenvalue is negative beyond rounding.

    Raises:
        IndefiniteNoiseError: one is; the message has it.
    """
    if not np.allclose(value, value.T, rtol=1e-6, atol=1e-9 * np.abs(value).max(initial=0.0)):
        raise IndefiniteNoiseError(f"{what} is not symmetric, so it is no covariance.")
    value = symmetric(value)
    least = least_eigenvalue(value)
    if least < -NOISE_TOLERANCE:
        raise IndefiniteNoiseError(
            f"{what} is indefinite (least eigenvalue {least:.3g} with variances scaled to one): no "
            "process has that noise."
        )
    return value


def root(covariance: Array) -> Array:
    """F (n, n) with F Fᵀ = covariance, which may be singular; rounding below zero is cut."""
    values, vectors = np.linalg.eigh(symmetric(covariance))
    return vectors * np.sqrt(np.maximum(values, 0.0))


def lyapunov(A: Array, Q: Array) -> Array:
    """X = A X Aᵀ + Q for stable A, by doubling (squared Smith): symmetric, never negative.

    Exact in finitely many steps for nilpotent A, where eigenvalue methods lose digits.
    """
    require_stable(A, "A stationary covariance")
    X, power = symmetric(Q), A
    for _ in range(64):
        step = power @ X @ power.T
        X = symmetric(X + step)
        if np.abs(step).max(initial=0.0) <= 1e-17 * np.abs(X).max(initial=0.0):
            break
        power = power @ power
    return X


def positive_int(name: str, value: Any, least: int = 1) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ShapeError(f"{name} must be a whole number of at least {least}; it is {value!r}.")
    return int(value)
