"""Canonical forms, each with the map into it: new state = map · old state.

All functions take a `Linear` system or a `StateSpace` process; what drives the state of a process
is its noise. The impulse response, or every autocovariance, stays the same.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np

from solomonic.core.errors import ConfigError
from solomonic.realization.errors import NotMinimalError
from solomonic.realization.linear import Linear, by_size
from solomonic.realization.matrices import Array, root
from solomonic.realization.stochastic import StateSpace

System = TypeVar("System", Linear, StateSpace)

DEFECTIVE = 1e8
"""Condition of the eigenvectors beyond which A counts as not diagonalisable."""


@dataclasses.dataclass(frozen=True, eq=False)
class Canonical:
    """A system in a canonical form, and `map` with new state = map · old state."""

    system: Linear | StateSpace
    map: Array


def canonical(system: Linear | StateSpace, form: str = "observable") -> Canonical:
    """The system in a canonical form: "observable", "controllable" or "modal".

    - observable: the state is the first n outputs to come that do not follow from one another
      (with one output: A is a companion matrix and C = [1 0 ... 0]).
    - controllable: the dual, on inputs (of a process: on the innovations gain).
    - modal: A is block diagonal, a number a real eigenvalue, [[a, b], [-b, a]] a pair a ± ib.

    Raises:
        NotMinimalError: states that are not seen (not driven) have no place in that form.
    """
    if form == "observable":
        change = _observable_map(system.A, system.C)
    elif form == "controllable":
        change = np.linalg.inv(_observable_map(system.A.T, _drive(system).T).T)
    elif form == "modal":
        change = modal_map(system.A)
    else:
        raise ConfigError(f"form must be observable, controllable or modal, not {form!r}.")
    return Canonical(system.transform(change), change)


def modal_map(A: Array) -> Array:
    """The map after which A is block diagonal with blocks of one or two states.

    Raises:
        NotMinimalError: A has a repeated eigenvalue that cannot be split; see `split_memory`.
    """
    values, vectors = np.linalg.eig(A)
    columns = []
    for k in by_size(values):
        if np.imag(values[k]) > 0:
            columns += [np.real(vectors[:, k]), np.imag(vectors[:, k])]
        elif np.imag(values[k]) == 0:
            columns.append(np.real(vectors[:, k]))
    basis = np.array(columns).T.reshape(len(A), len(A))
    if len(A) and np.linalg.cond(basis) > DEFECTIVE:
        raise NotMinimalError(
            "A has a repeated eigenvalue that no change of basis splits, so there is no "
            "modal form; "
            "split_memory() separates the nilpotent part."
        )
    return np.linalg.inv(basis)


def _drive(system: Linear | StateSpace) -> Array:
    """What drives the states, as columns."""
    if isinstance(system, Linear):
        return system.B
    return system.gain if system.gain is not None else root(system.Q)


def _observable_map(A: Array, C: Array) -> Array:
    """The first n independent rows of C, CA, CA², ..., in that order."""
    n = len(A)
    chosen, basis = [], np.zeros((0, n))
    block, alive = C, list(range(len(C)))
    scale = max(float(np.linalg.norm(C, 2)) if C.size else 0.0, 1e-300)
    for _ in range(n):
        still = []
        for k in alive:
            row = block[k]
            rest = row - basis.T @ (basis @ row)
            rest = rest - basis.T @ (basis @ rest)
            if len(chosen) < n and np.linalg.norm(rest) > 1e-10 * max(
                np.linalg.norm(row), 1e-10 * scale
            ):
                chosen.append(row)
                basis = np.vstack([basis, rest / np.linalg.norm(rest)])
                still.append(k)
        alive = still
        if not alive:
            break
        block = block @ A
    if len(chosen) < n:
        raise NotMinimalError(
            f"Only {len(chosen)} of {n} states reach (or are reached from) the outside, so "
            "this form "
            "does not exist; call minimal() first."
        )
    return np.array(chosen).reshape(n, n)


def reachable_basis(A: Array, B: Array, tolerance: float = 1e-10) -> Array:
    """Orthonormal columns that span the states which B reaches: B, AB, A²B, ..."""
    n = len(A)
    basis = np.zeros((n, 0))
    new = B
    scale = max(float(np.linalg.norm(B)), 1e-300)
    while basis.shape[1] < n:
        new = new - basis @ (basis.T @ new)
        new = new - basis @ (basis.T @ new)
        U, s, _ = np.linalg.svd(new, full_matrices=False)
        fresh = U[:, s > tolerance * scale]
        if not fresh.shape[1]:
            break
        basis = np.hstack([basis, fresh])
        new = A @ fresh
        scale = max(float(np.linalg.norm(A)), 1e-300)
    return basis[:, :n]


def is_minimal(system: Linear | StateSpace, tolerance: float = 1e-10) -> bool:
    """Whether every state is driven and seen."""
    driven = reachable_basis(system.A, _drive(system), tolerance)
    seen = reachable_basis(system.A.T, system.C.T, tolerance)
    return min(driven.shape[1], seen.shape[1]) == system.order


def minimal(system: System, tolerance: float = 1e-10) -> System:
    """The system without the states that are not driven or not seen; outputs stay."""
    for _ in range(2):
        V = reachable_basis(system.A, _drive(system), tolerance)
        system = _restrict(system, V)
        V = reachable_basis(system.A.T, system.C.T, tolerance)
        system = _restrict(system, V)
    return system


def _restrict(system: System, V: Array) -> System:
    """The part of the system on the columns of V (orthonormal)."""
    if V.shape[1] == system.order:
        return system
    if isinstance(system, Linear):
        return Linear(V.T @ system.A @ V, V.T @ system.B, system.C @ V, system.D)
    return StateSpace(
        V.T @ system.A @ V,
        system.C @ V,
        V.T @ system.Q @ V,
        system.R,
        V.T @ system.S,
        system.mean,
        None if system.gain is None else V.T @ system.gain,
    )
