"""Bilinear systems from experiments: exact from exact ones, and what is impossible is said."""

import numpy as np
import pytest

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization import (
    Automaton,
    NotMinimalError,
    TooFewSamplesError,
    identify_bilinear,
)


def system(seed: int, order: int = 3, inputs: int = 1) -> Automaton:
    chance = np.random.default_rng(seed)
    maps = 0.5 * chance.standard_normal((inputs + 1, order, order))
    return Automaton(chance.standard_normal(order), maps, chance.standard_normal(order))


def experiments(
    truth: Automaton, count: int, noise: float = 0.0, seed: int = 9, steps: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    u = chance.standard_normal((count, steps, truth.alphabet - 1))
    y = np.stack([truth.respond(one) for one in u])
    return u, y + noise * chance.standard_normal(y.shape)


@pytest.mark.parametrize(("seed", "inputs"), [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_exact_experiments_give_the_system(seed: int, inputs: int) -> None:
    truth = system(seed, inputs=inputs)
    found = identify_bilinear(*experiments(truth, 400))
    assert found.order == 3
    u, y = experiments(truth, 20, seed=5, steps=15)  # longer than anything that was seen
    again = np.stack([found.respond(one) for one in u])
    np.testing.assert_allclose(again, y, atol=1e-7 * np.abs(y).max())


def test_noise_shrinks_with_experiments() -> None:
    truth = system(0)
    u, y = experiments(truth, 50, seed=5)
    errors = []
    for count in (200, 20_000):
        found = identify_bilinear(*experiments(truth, count, noise=0.05), order=3)
        errors.append(np.abs(np.stack([found.respond(one) for one in u]) - y).mean())
    assert errors[1] < 0.3 * errors[0]
    assert errors[1] < 0.05 * np.abs(y).mean()


def test_what_is_impossible_is_said() -> None:
    truth = system(0)
    u, y = experiments(truth, 60)
    with pytest.raises(TooFewSamplesError, match="31 experiments are too few for 32"):
        identify_bilinear(u[:31], y[:31])
    with pytest.raises(ShapeError, match="too short"):
        identify_bilinear(u[:, :5], y[:, :5])
    with pytest.raises(ShapeError, match="inputs must be"):
        identify_bilinear(u, y[:, :4])
    with pytest.raises(DataError, match="tell only"):
        identify_bilinear(np.ones_like(u), y)
    with pytest.raises(DataError, match="NaN"):
        identify_bilinear(u, np.where(y == y[0, 0], np.nan, y))
    with pytest.raises(NotMinimalError, match="rank 3"):
        identify_bilinear(u, y, order=5)
