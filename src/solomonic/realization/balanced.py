"""Gramians, balancing and balanced truncation with Glover's bound.

The Hankel singular values say what each state carries from past inputs to future outputs. Dropping
the small ones changes the transfer function by at most twice their sum, at every frequency
(Enns; Glover 1984; discrete time: Hinrichsen and Pritchard). For a process the same is done on the
canonical correlations of past and future, which keeps the spectrum positive (Desai and Pal).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from solomonic.realization.errors import NotMinimalError
from solomonic.realization.hokalman import spectral_factor
from solomonic.realization.kalman import innovations_form, steady_state
from solomonic.realization.linear import Linear
from solomonic.realization.matrices import Array, lyapunov, positive_int, require_stable, root
from solomonic.realization.reversal import reverse
from solomonic.realization.stochastic import StateSpace


@dataclasses.dataclass(frozen=True, eq=False)
class Gramians:
    """What the inputs reach, X = A X Aᵀ + B Bᵀ, and what the outputs see, Y = Aᵀ Y A + CᵀC."""

    reached: Array
    seen: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Balanced:
    """A system whose two Gramians are the same diagonal matrix.

    Attributes:
        system: in these coordinates.
        map: new state = map · old state.
        singular_values: the diagonal, largest first.
    """

    system: Linear
    map: Array
    singular_values: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Reduced:
    """A smaller system and what it costs.

    Attributes:
        system: `Linear` or `StateSpace`, as the one given.
        singular_values: of the system given: Hankel singular values, or canonical correlations of a
            process.
        bound: of a `Linear`: the largest error of the transfer function at any frequency (H∞ norm)
            is at most this. None for a process.
    """

    system: Linear | StateSpace
    singular_values: Array
    bound: float | None


def as_linear(system: Linear | StateSpace) -> Linear:
    """A process as the system from its innovations, of variance one, to its outputs."""
    if isinstance(system, Linear):
        return system
    model = innovations_form(system)
    assert model.gain is not None
    factor = np.linalg.cholesky(model.R)
    return Linear(model.A, model.gain @ factor, model.C, factor)


def gramians(system: Linear | StateSpace) -> Gramians:
    """Reachability and observability Gramians.

    Raises:
        UnstableError: they are infinite.
    """
    system = as_linear(system)
    require_stable(system.A, "A Gramian")
    reached = lyapunov(system.A, system.B @ system.B.T)
    return Gramians(reached, lyapunov(system.A.T, system.C.T @ system.C))


def _factors(system: Linear) -> tuple[Array, Array, Array, Array, Array]:
    """Roots of both Gramians and the SVD between them: reached, seen, U, s, Vᵀ."""
    both = gramians(system)
    reached, seen = root(both.reached), root(both.seen)
    U, s, Vt = np.linalg.svd(seen.T @ reached)
    return reached, seen, U, s, Vt


def truncation(reached: Array, seen: Array, order: int) -> tuple[Array, Array, Array]:
    """The balanced truncation that two Gramians (n, n) ask for, of a system of any kind.

    Returns:
        change (order, n) and back (n, order), whose product change @ back is the identity, and all
        n singular values. The truncated state is change · x, and is read by C · back.

    Raises:
        NotMinimalError: more states are asked for than carry anything.
    """
    into, out = root(reached), root(seen)
    U, s, Vt = np.linalg.svd(out.T @ into)
    n = _choose(s, order, None, None)
    change = (U[:, :n] / np.sqrt(s[:n])).T @ out.T
    return change, into @ (Vt[:n].T / np.sqrt(s[:n])), s


def hankel_singular_values(system: Linear | StateSpace) -> Array:
    """Largest first; of a process those of its innovations form."""
    return _factors(as_linear(system))[3]


def balance(system: Linear) -> Balanced:
    """The system in balanced coordinates.

    Raises:
        UnstableError: it has no Gramians.
        NotMinimalError: some state is not driven or not seen.
    """
    reached, seen, U, s, Vt = _factors(system)
    if len(s) and s[-1] <= 1e-13 * s[0]:
        known = int((s > 1e-13 * s[0]).sum())
        raise NotMinimalError(
            f"Only {known} of {len(s)} states are both driven and seen, so the others cannot be "
            "balanced; call minimal() or reduce() first."
        )
    change = (U / np.sqrt(s)).T @ seen.T
    back = reached @ (Vt.T / np.sqrt(s))
    balanced = Linear(change @ system.A @ back, change @ system.B, system.C @ back, system.D)
    return Balanced(balanced, change, s)


def reduce(
    system: Linear | StateSpace, order: int | None = None, *, tolerance: float | None = None
) -> Reduced:
    """The system with fewer states: `order` of them, or as few as keep the error within a limit.

    Args:
        system: a `Linear` is truncated in balanced coordinates; a `StateSpace` is truncated in the
            basis of canonical correlations and returned in innovations form.
        order: number of states to keep.
        tolerance: instead of `order`: of a `Linear` the largest allowed error of the transfer
            function, relative to twice the sum of all singular values; of a process the largest
            canonical correlation that may be dropped.

    Raises:
        UnstableError: the system is not stable.
        NotMinimalError: `order` is more than there are states that carry anything.
    """
    if isinstance(system, StateSpace):
        return _reduce_process(system, order, tolerance)
    reached, seen, U, s, Vt = _factors(system)
    tails = np.append(2 * np.cumsum(s[::-1])[::-1], 0.0)
    limit = None if tolerance is None else tolerance * tails[0]
    n = _choose(s, order, tails if limit is not None else None, limit)
    change = (U[:, :n] / np.sqrt(s[:n])).T @ seen.T
    back = reached @ (Vt[:n].T / np.sqrt(s[:n]))
    small = Linear(change @ system.A @ back, change @ system.B, system.C @ back, system.D)
    return Reduced(small, s, float(tails[n]))


def _choose(s: Array, order: int | None, costs: Array | None, limit: float | None) -> int:
    """The number of states to keep."""
    rank = int((s > 1e-13 * s[0]).sum()) if len(s) else 0
    if order is None:
        if costs is None or limit is None:
            raise NotMinimalError("reduce() needs an order or a tolerance.")
        return min(int(np.argmax(costs <= limit)), rank)
    order = positive_int("order", order, least=0)
    if order > rank:
        raise NotMinimalError(f"{order} states were asked for, but only {rank} carry anything.")
    return order


def canonical_correlations(model: StateSpace) -> Array:
    """Of the whole past and the whole future of a process, largest first: n numbers below 1.

    They belong to the process, not to the coordinates: `identify` estimates the same from samples.
    """
    return _correlation_factors(model)[0]


def _correlation_factors(model: StateSpace) -> tuple[Array, Array, Array]:
    """Correlations s; the map to where both predictors have covariance s; its inverse."""
    forward = innovations_form(model).state_covariance()
    turned = reverse(model)
    backward = turned.state_covariance() - steady_state(turned).error_covariance
    left, right = root(forward), root(backward)
    U, s, Vt = np.linalg.svd(right.T @ left)
    if len(s) and s[-1] <= 1e-13:
        raise NotMinimalError(
            "Some states are not seen or carry nothing from past to future; call minimal() first."
        )
    change = (U / np.sqrt(s)).T @ right.T
    return s, change, left @ (Vt.T / np.sqrt(s))


def _reduce_process(model: StateSpace, order: int | None, tolerance: float | None) -> Reduced:
    s, change, back = _correlation_factors(model)
    n = _choose(s, order, np.append(s, 0.0) if tolerance is not None else None, tolerance)
    A, C = change @ model.A @ back, model.C @ back
    G = change @ model.backward_output().T
    variance = model.autocovariance(1)[0]
    small = spectral_factor(A[:n, :n], C[:, :n], G[:n], variance)
    assert small.gain is not None
    with_mean = StateSpace(small.A, small.C, small.Q, small.R, small.S, model.mean, small.gain)
    return Reduced(with_mean, s, None)
