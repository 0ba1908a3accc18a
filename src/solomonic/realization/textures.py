"""Dynamic textures: moving images (or spectrograms) as the output of a small stationary process.

Doretto, Chiuso, Wu and Soatto (IJCV 2003): the frames span few directions, and the coordinates in
them follow a linear system driven by white noise. About 20 states make water, smoke or foliage that
goes on for ever, at other speeds, and backwards.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization.errors import NotMinimalError, TooFewSamplesError
from solomonic.realization.matrices import (
    Array,
    as_array,
    positive_int,
    spectral_radius,
    symmetric,
)
from solomonic.realization.reversal import change_speed, reverse
from solomonic.realization.stochastic import StateSpace

LARGEST_RADIUS = 0.999
"""To which an unstable estimate is pulled in: its slowest mode lives about 1,000 frames."""


@dataclasses.dataclass(frozen=True, eq=False)
class Texture:
    """frame = mean + basis · c, where c is a stationary process of n coordinates.

    Attributes:
        dynamics: the process of the coordinates (its outputs), in the order of time of the frames.
        basis: (pixels, n) orthonormal images.
        mean: (pixels,) the mean frame.
        shape: of a frame.
        first: (n,) coordinates of the first frame given.
        residual: root mean square of what the basis leaves out, in the units of the frames.
        psnr: of the frames rebuilt from their coordinates, dB, the peak being their range.
        scaled: 1, or the least factor by which an unstable eigenvalue of the estimate was shrunk.
    """

    dynamics: StateSpace
    basis: Array
    mean: Array
    shape: tuple[int, ...]
    first: Array
    residual: float
    psnr: float
    scaled: float

    @property
    def order(self) -> int:
        """The number of states."""
        return self.dynamics.order

    def poles(self) -> np.ndarray:
        """Eigenvalues of the dynamics."""
        return self.dynamics.poles()

    def frames(self, coordinates: ArrayLike) -> Array:
        """Coordinates (T, n) as frames (T, *shape)."""
        coordinates = as_array("coordinates", coordinates)
        if coordinates.ndim != 2 or coordinates.shape[1] != self.basis.shape[1]:
            raise ShapeError(f"coordinates must be (time, {self.basis.shape[1]}).")
        return (self.mean + coordinates @ self.basis.T).reshape(-1, *self.shape)

    def coordinates(self, frames: ArrayLike) -> Array:
        """Frames (T, *shape) as coordinates (T, n)."""
        pixels = _pixels(frames, self.shape)[0]
        return (pixels - self.mean) @ self.basis

    def backwards(self) -> Texture:
        """The same texture with time reversed: a process of its own, with its own noise."""
        return dataclasses.replace(self, dynamics=reverse(self.dynamics))

    def speed(self, factor: float, *, project: bool = False) -> Texture:
        """The texture `factor` times as fast; see `change_speed` for what that may refuse."""
        dynamics = change_speed(self.dynamics, factor, project=project)
        return dataclasses.replace(self, dynamics=dynamics)

    def synthesize(self, count: int, seed: int | np.random.Generator = 0) -> Array:
        """`count` new frames (count, *shape), from the stationary state on."""
        return self.frames(self.dynamics.sample(count, seed))


def fit_texture(frames: ArrayLike, order: int = 20) -> Texture:
    """A texture of `order` states from frames (T, height, width[, colours]) or (T, bands).

    Eigenvalues of the estimate on or outside the unit circle are pulled in to 0.999; `scaled` says
    by how much.

    Raises:
        TooFewSamplesError: fewer than order + 2 frames.
        NotMinimalError: the frames vary in fewer than `order` directions.
        DataError: frames hold NaN, or do not change.
    """
    order = positive_int("order", order)
    pixels, shape = _pixels(frames)
    if len(pixels) < order + 2:
        raise TooFewSamplesError(
            f"{len(pixels)} frames are too few for {order} states; give at least {order + 2}."
        )
    mean = pixels.mean(0)
    basis, coordinates, rest = _principal(pixels - mean, order)
    now, then = coordinates[:-1], coordinates[1:]
    A = np.linalg.lstsq(now, then, rcond=None)[0].T
    A, scaled = _stabilised(A)
    errors = then - now @ A.T
    Q = symmetric(errors.T @ errors / len(errors))
    dynamics = StateSpace(A, np.eye(order), Q, np.zeros((order, order)))
    residual = math.sqrt(rest / pixels.size)
    peak = float(np.ptp(pixels))
    psnr = 20 * math.log10(peak / residual) if residual > 0 else math.inf
    return Texture(dynamics, basis, mean, shape, coordinates[0], residual, psnr, scaled)


def _stabilised(A: Array) -> tuple[Array, float]:
    """A with no eigenvalue beyond the largest radius allowed, and the least factor applied.

    Only unstable modes are touched, unless the modes cannot be told apart: then all of A is.
    """
    radius = spectral_radius(A)
    if radius < 1:
        return A, 1.0
    values, vectors = np.linalg.eig(A)
    size = np.abs(values)
    factors = np.where(size >= 1, LARGEST_RADIUS / np.maximum(size, 1e-300), 1.0)
    if np.linalg.cond(vectors) > 1e8:
        return A * (LARGEST_RADIUS / radius), LARGEST_RADIUS / radius
    changed = (vectors * (values * factors)) @ np.linalg.inv(vectors)
    return np.ascontiguousarray(np.real(changed), np.float64), float(factors.min())


def _pixels(
    frames: ArrayLike, shape: tuple[int, ...] | None = None
) -> tuple[Array, tuple[int, ...]]:
    """Frames as (T, pixels), and the shape of one."""
    array = as_array("frames", frames)
    if array.ndim < 2 or not array.size:
        raise ShapeError("frames must be (time, height, width), (time, bands) or the like.")
    if shape is not None and array.shape[1:] != shape:
        raise ShapeError(f"frames must each be {shape}; they are {array.shape[1:]}.")
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise DataError(f"frame {bad} holds NaN or infinity.")
    return array.reshape(len(array), -1), array.shape[1:]


def _principal(pixels: Array, order: int) -> tuple[Array, Array, float]:
    """The first directions (pixels, n), coordinates (T, n), and the sum of squares left out.

    By the smaller of the two matrices of products; directions are made orthonormal afterwards.
    """
    wide = pixels.shape[1] > len(pixels)
    products = pixels @ pixels.T if wide else pixels.T @ pixels
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1], vectors[:, ::-1][:, :order]
    if values[0] <= 0:
        raise DataError("The frames do not change, so there is no texture in them.")
    rank = int((values > 1e-12 * values[0]).sum())
    if rank < order:
        raise NotMinimalError(
            f"The frames vary in only {rank} directions; ask for at most {rank} states, not "
            f"{order}."
        )
    basis = np.linalg.qr(pixels.T @ vectors)[0] if wide else vectors
    coordinates = pixels @ basis
    rest = float((pixels**2).sum() - (coordinates**2).sum())
    return basis, coordinates, max(rest, 0.0)
