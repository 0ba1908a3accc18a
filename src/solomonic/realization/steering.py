"""Steering a linear system: the input of least energy that reaches a state."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import ShapeError
from solomonic.realization.errors import NotMinimalError
from solomonic.realization.linear import Linear
from solomonic.realization.matrices import Array, as_array, positive_int


@dataclasses.dataclass(frozen=True, eq=False)
class Steering:
    """Inputs (T, i) that lead to the target, and their energy Σ |u|²."""

    inputs: Array
    energy: float


def least_energy(
    system: Linear, target: ArrayLike, steps: int, start: ArrayLike | None = None
) -> Steering:
    """The cheapest inputs that bring `system` from `start` (zero) to `target` (n,) in `steps`.

    u = Mᵀ W⁻¹ (target - Aᵀ start) with M = [A^(T-1) B ... B] and W = M Mᵀ; the energy is
    dᵀ W⁻¹ d, and no other inputs that arrive have less (Brockett; Isidori).

    Raises:
        NotMinimalError: the target cannot be reached in so many steps.
        ShapeError: sizes that do not fit.
    """
    steps, n = positive_int("steps", steps), system.order
    wanted = as_array("target", target)
    begin = np.zeros(n) if start is None else as_array("start", start)
    if wanted.shape != (n,) or begin.shape != (n,):
        raise ShapeError(f"target and start must be ({n},), not {wanted.shape}, {begin.shape}.")
    columns = [system.B]
    for _ in range(steps - 1):
        columns.append(system.A @ columns[-1])
    reach = np.concatenate(columns[::-1], axis=1)  # (n, T i), the first input first
    missing = wanted - np.linalg.matrix_power(system.A, steps) @ begin
    inputs = np.linalg.lstsq(reach, missing, rcond=1e-13)[0]
    gap = float(np.linalg.norm(reach @ inputs - missing))
    if gap > 1e-6 * max(1.0, float(np.linalg.norm(missing))):
        raise NotMinimalError(
            f"The target cannot be reached in {steps} steps (it is missed by {gap:.3g}); allow "
            "more steps, or aim at a state that the inputs drive."
        )
    return Steering(inputs.reshape(steps, system.inputs), float(inputs @ inputs))
