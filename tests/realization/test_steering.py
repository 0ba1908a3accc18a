"""The input of least energy reaches its target, and nothing that does is cheaper."""

import numpy as np
import pytest

from realization.processes import random_linear
from solomonic.core.errors import ShapeError
from solomonic.realization import Linear, NotMinimalError, gramians, least_energy, simulate


@pytest.mark.parametrize("seed", range(4))
def test_it_arrives_and_costs_least(seed: int) -> None:
    system = random_linear(seed)
    chance = np.random.default_rng(seed)
    target, start = chance.standard_normal((2, system.order))
    found = least_energy(system, target, 12, start)
    _, end = simulate(system, found.inputs, start)
    np.testing.assert_allclose(end, target, atol=1e-9)
    reach = np.hstack([np.linalg.matrix_power(system.A, 11 - t) @ system.B for t in range(12)])
    missing = target - np.linalg.matrix_power(system.A, 12) @ start
    energy = missing @ np.linalg.solve(reach @ reach.T, missing)
    assert found.energy == pytest.approx(energy, rel=1e-6)
    # Another way there: add something that leads nowhere.
    _, _, nowhere = np.linalg.svd(reach)
    other = found.inputs.reshape(-1) + 0.1 * nowhere[-1]
    np.testing.assert_allclose(simulate(system, other.reshape(12, -1), start)[1], target, atol=1e-8)
    assert other @ other > found.energy


def test_with_much_time_the_energy_is_the_gramians() -> None:
    system = Linear(np.diag([0.5, -0.3]), [[1.0], [1.0]], np.eye(2))
    target = np.array([1.0, 2.0])
    wanted = target @ np.linalg.solve(gramians(system).reached, target)
    assert least_energy(system, target, 60).energy == pytest.approx(wanted, rel=1e-9)


def test_what_cannot_be_reached_is_refused() -> None:
    undriven = Linear(np.diag([0.5, 0.4]), [[1.0], [0.0]], np.eye(2))
    with pytest.raises(NotMinimalError, match="cannot be reached"):
        least_energy(undriven, [0.0, 1.0], 9)
    chain = Linear([[0.0, 0.0], [1.0, 0.0]], [[1.0], [0.0]], np.eye(2))
    with pytest.raises(NotMinimalError, match="1 steps"):
        least_energy(chain, [0.0, 1.0], 1)
    assert least_energy(chain, [0.0, 1.0], 2).energy == pytest.approx(1)
    with pytest.raises(ShapeError, match="target"):
        least_energy(chain, [1.0], 2)
