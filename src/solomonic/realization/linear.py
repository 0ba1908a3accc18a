"""Linear systems x⁺ = A x + B u, y = C x + D u: impulse response, simulation, change of basis."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import ShapeError
from solomonic.realization.matrices import (
    Array,
    as_array,
    matrix,
    positive_int,
    series,
    spectral_radius,
    square,
)


class Recursion:
    """What x⁺ = A x + ..., y = C x + ... says by itself, whatever drives it.

    Attributes:
        A: (n, n), from state to state.
        C: (m, n), from state to output.
    """

    A: Array
    C: Array

    @property
    def order(self) -> int:
        """The number of states."""
        return len(self.A)

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.C)

    @property
    def radius(self) -> float:
        """The spectral radius of A; below one the system is stable, a process stationary."""
        return spectral_radius(self.A)

    def poles(self) -> np.ndarray:
        """The eigenvalues of A, largest modulus first."""
        return sorted_poles(self.A)


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(Recursion):
    """x⁺ = A x + B u, y = C x + D u, with n states, i inputs and m outputs.

    Attributes:
        A: (n, n).
        B: (n, i).
        C: (m, n).
        D: (m, i); zero when not given.
    """

    A: Array
    B: Array
    C: Array
    D: Array = None  # pyright: ignore[reportAssignmentType] (set below)

    def __post_init__(self) -> None:
        A = square("A", self.A)
        B = matrix("B", self.B, rows=len(A))
        C = matrix("C", self.C, columns=len(A))
        shape = len(C), B.shape[1]
        D = np.zeros(shape) if self.D is None else matrix("D", self.D, *shape)
        for name, value in zip("ABCD", (A, B, C, D), strict=True):
            object.__setattr__(self, name, value)

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return self.B.shape[1]

    def markov(self, count: int) -> Array:
        """The impulse response (count, m, i): D, CB, CAB, CA²B, ..."""
        count = positive_int("count", count)
        out = np.empty((count, self.outputs, self.inputs))
        out[0] = self.D
        column = self.B
        for k in range(1, count):
            out[k] = self.C @ column
            column = self.A @ column
        return out

    def response(self, frequencies: ArrayLike) -> np.ndarray:
        """The transfer function C (zI - A)⁻¹ B + D at z = exp(iω): (F, m, i), complex.

        `frequencies` are ω in radians a sample.
        """
        z = np.exp(1j * as_array("frequencies", frequencies).reshape(-1))
        if not self.order:
            return np.broadcast_to(self.D.astype(complex), (len(z), *self.D.shape)).copy()
        resolvent = z[:, None, None] * np.eye(self.order) - self.A
        columns = np.linalg.solve(resolvent, np.broadcast_to(self.B, (len(z), *self.B.shape)))
        return self.C @ columns + self.D

    def transform(self, change: ArrayLike) -> Linear:
        """The same system in the coordinates z = change · x; impulse responses stay."""
        change = invertible(change, self.order)
        back = np.linalg.inv(change)
        return Linear(change @ self.A @ back, change @ self.B, self.C @ back, self.D)


def simulate(
    system: Linear, inputs: ArrayLike, start: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Outputs (T, m) for inputs (T, i) from the state `start` (n,), and the state after them.

    A longer run may be cut anywhere: the state returned is the start of the next piece.
    """
    u = series("inputs", inputs, system.inputs)
    x = np.zeros(system.order) if start is None else as_array("start", start)
    if x.shape != (system.order,):
        raise ShapeError(f"start must be ({system.order},); it is {x.shape}.")
    states = np.empty((len(u), system.order))
    drive = u @ system.B.T
    for t in range(len(u)):
        states[t] = x
        x = system.A @ x + drive[t]
    return states @ system.C.T + u @ system.D.T, x


def sorted_poles(A: Array) -> np.ndarray:
    """Eigenvalues, largest modulus first, of a pair the one above the real axis first."""
    poles = np.linalg.eigvals(A).astype(np.complex128)
    return poles[by_size(poles)]


def by_size(values: np.ndarray) -> np.ndarray:
    """The order of complex numbers: modulus falling, then real part falling, then upper first."""
    return np.lexsort((-np.imag(values), -np.real(values).round(12), -np.abs(values).round(12)))


def invertible(change: ArrayLike, size: int) -> Array:
    """A change of coordinates.

    Raises:
        ShapeError: it cannot be undone.
    """
    change = square("The change of coordinates", change, size)
    if size and np.linalg.cond(change) > 1e14:
        raise ShapeError("The change of coordinates is singular; it must have full rank.")
    return change
