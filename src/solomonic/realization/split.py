"""Eidetic and fading memory of a linear map: nilpotent part ⊕ invertible part (Fitting's lemma).

What the nilpotent part holds is there exactly and then gone after `deadbeat` steps; what the
invertible part holds fades by its eigenvalues. Ranks of powers decide where the cut is: rounding
moves the eigenvalues of a nilpotent block of size k to about eps^(1/k), which is 3e-3 for 4 states
and no longer small for 10, while the ranks stay as they are.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from solomonic.realization.balanced import hankel_singular_values
from solomonic.realization.errors import UnstableError
from solomonic.realization.linear import Linear, sorted_poles
from solomonic.realization.matrices import Array, square
from solomonic.realization.stochastic import StateSpace


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """map · A · map⁻¹ = diag(nilpotent, invertible).

    Attributes:
        map: (n, n), new state = map · old state.
        nilpotent: (k, k) with nilpotent^deadbeat = 0.
        invertible: (n - k, n - k).
        ranks: rank of A⁰, A¹, ... until it stays.
    """

    map: Array
    nilpotent: Array
    invertible: Array
    ranks: tuple[int, ...]

    @property
    def deadbeat(self) -> int:
        """Steps after which nothing of the nilpotent part is left; 0 if there is none."""
        return len(self.ranks) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """How long a system remembers.

    Attributes:
        deadbeat: window, in steps, of what is held exactly and then dropped.
        deadbeat_states: how many states that takes.
        half_lives: steps until each fading mode has halved, longest first (infinite on the unit
            circle).
        periods: steps of one turn of each of these modes, infinite for those that do not turn.
        singular_values: Hankel singular values, what each balanced state carries; None unless the
            system is stable.
    """

    deadbeat: int
    deadbeat_states: int
    half_lives: Array
    periods: Array
    singular_values: Array | None


def split_memory(A: ArrayLike, tolerance: float = 1e-10) -> Split:
    """Split the state into what is forgotten in finitely many steps and what fades.

    A singular value below `tolerance` times ‖A‖ counts as zero.
    """
    A = square("A", A)
    n = len(A)
    image, ranks = _last_image(A, tolerance)
    other, _ = _last_image(A.T, tolerance)
    kernel = np.linalg.svd(other, full_matrices=True)[0][:, other.shape[1] :]
    basis = np.hstack([kernel[:, : n - image.shape[1]], image])
    change = np.linalg.inv(basis)
    k = n - image.shape[1]
    blocks = change @ A @ basis
    return Split(change, blocks[:k, :k], blocks[k:, k:], ranks)


def _last_image(A: Array, tolerance: float) -> tuple[Array, tuple[int, ...]]:
    """Orthonormal basis of the image of A^n, and the ranks of A⁰, A¹, ... until they stay.

    The image of a power is the image under A of the one before, so no power is ever formed.
    """
    basis = np.eye(len(A))
    scale = float(np.linalg.norm(A, 2)) if A.size else 0.0
    ranks = [len(A)]
    while basis.shape[1]:
        U, s, _ = np.linalg.svd(A @ basis, full_matrices=False)
        rank = int((s > tolerance * scale).sum()) if scale else 0
        if rank == ranks[-1]:
            break
        ranks.append(rank)
        basis = U[:, :rank]
    return basis, tuple(ranks)


def memory(system: Linear | StateSpace, tolerance: float = 1e-10) -> Memory:
    """Deadbeat window, half-lives, periods and Hankel singular values of a system or process.

    Raises:
        UnstableError: a mode grows, so it has no half-life.
    """
    split = split_memory(system.A, tolerance)
    poles = sorted_poles(split.invertible)
    radius = np.abs(poles)
    if radius.max(initial=0.0) > 1 + 1e-9:
        raise UnstableError(
            f"A mode grows by {radius.max():.6g} a step, so it has no half-life; memory() needs no "
            "eigenvalue outside the unit circle."
        )
    with np.errstate(divide="ignore"):
        rates = -np.log(np.minimum(radius, 1.0))
        rates[rates < 1e-12] = 0.0
        half_lives = math.log(2) / rates
        angles = np.abs(np.angle(poles))
        periods = 2 * math.pi / np.where(angles < 1e-12, 0.0, angles)
    singular = hankel_singular_values(system) if system.radius < 1 else None
    return Memory(split.deadbeat, len(split.nilpotent), half_lives, periods, singular)
