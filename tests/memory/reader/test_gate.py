"""The gate never loses to its first expert by more than its bound, and learns whom to believe."""

import math

import numpy as np
import pytest

from solomonic.core import ConfigError, ShapeError
from solomonic.memory.reader.definition import shared_costs
from solomonic.memory.reader.gate import Gate, GateConfig, bound


def distributions(rng: np.random.Generator, experts: int, size: int) -> np.ndarray:
    return rng.dirichlet(np.full(size, 0.5), experts)


def play(gate: Gate, steps: int, choose, seed: int = 0) -> tuple[float, float]:
    """Bits of the gate and of its first expert; `choose(experts, mixed, t)` is the adversary."""
    rng = np.random.default_rng(seed)
    paid = alone = 0.0
    for t in range(steps):
        experts = distributions(rng, len(gate.weights), 6)
        features = rng.normal(size=gate.weights.shape[1] - 1)
        mixed = gate.mix(experts, features)
        assert mixed.sum() == pytest.approx(1, abs=1e-12)
        token = choose(experts, mixed, t)
        before = paid
        paid += gate.update(token)
        assert paid - before == pytest.approx(-math.log2(mixed[token]), abs=1e-9)
        alone -= math.log2(experts[0][token])
        assert paid <= alone + bound(t + 1, gate.config) + 1e-9
    return paid, alone


ADVERSARIES = {
    "worst for the mixture": lambda experts, mixed, t: int((mixed / experts[0]).argmin()),
    "least likely": lambda experts, mixed, t: int(mixed.argmin()),
    "likely for the model": lambda experts, mixed, t: int(experts[0].argmax()),
    "first right, then wrong": lambda experts, mixed, t: int(
        experts[1].argmax() if t % 200 < 100 else (mixed / experts[0]).argmin()
    ),
    "always the same": lambda experts, mixed, t: 0,
}


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("rate", [0.0, 0.1, 3.0])
def test_no_sequence_costs_more_than_the_bound(name: str, rate: float) -> None:
    play(Gate(3, 2, GateConfig(rate=rate)), 600, ADVERSARIES[name])


def test_the_bound_is_what_an_adversary_reaches() -> None:
    # An inside that gives what comes no chance: every bit of the bound is paid.
    gate = Gate(2, config=GateConfig(rate=0, first=-40))
    experts, alone, paid = np.array([[0.5, 0.5], [1.0, 0.0]]), 0.0, 0.0
    for _ in range(1000):
        gate.mix(experts)
        paid, alone = paid + gate.update(1), alone + 1
    assert bound(1000) - 0.01 < paid - alone <= bound(1000) + 1e-9
    assert bound(1000) == pytest.approx(math.log2(1031) - 1)
    assert bound(0) == 0


def test_the_outer_mixture_is_the_sum_over_all_ways_to_change_sides() -> None:
    rng = np.random.default_rng(3)
    config = GateConfig(rate=0, trust=0.8, ease=2.5, first=-40)
    gate = Gate(2, config=config)
    steps, symbols, paid = [], rng.integers(0, 4, 9).tolist(), []
    for symbol in symbols:
        experts = distributions(rng, 2, 4)
        steps.append(experts.tolist())
        gate.mix(experts)
        paid.append(gate.update(symbol))
    wanted = shared_costs(steps, symbols, 0.8, 2.5)
    np.testing.assert_allclose(paid, wanted, rtol=1e-9)


def test_the_weights_follow_the_gradient_of_the_cost() -> None:
    rng = np.random.default_rng(1)
    gate = Gate(3, 2)
    experts, features = distributions(rng, 3, 5), np.array([0.3, -1.2])
    gate.weights = rng.normal(size=(3, 3))
    before, token, size = gate.weights.copy(), 2, 1e-6

    def cost(weights: np.ndarray) -> float:
        scores = weights @ np.concatenate(([1.0], features))
        shares = np.exp(scores) / np.exp(scores).sum()
        return -math.log(shares @ experts[:, token])

    slope = np.zeros((3, 3))
    for place in np.ndindex(3, 3):
        moved = before.copy()
        moved[place] += size
        slope[place] = (cost(moved) - cost(before)) / size
    gate.mix(experts, features)
    gate.update(token)
    moved = gate.weights - before
    # The first step divides each coordinate by its own size.
    np.testing.assert_allclose(np.sign(moved), -np.sign(slope))
    assert np.ptp(np.abs(moved)) < 1e-6


def test_it_learns_whom_to_believe_when() -> None:
    rng = np.random.default_rng(2)
    gate, late = Gate(2, 1), []
    for t in range(3000):
        sure = t % 2
        experts = np.stack([np.full(8, 1 / 8), np.full(8, 1 / 8)])
        token = int(rng.integers(8))
        guess = token if sure else int(rng.integers(8))
        experts[1] = 0.02 / 7
        experts[1, guess] = 0.98
        gate.mix(experts, [float(sure)])
        paid = gate.update(token)
        if t >= 2000 and sure:
            late.append(paid)
    assert np.mean(late) < 0.25  # 3 bits without the feature's help


def test_absent_experts_have_no_share_and_a_copy_goes_its_own_way() -> None:
    gate = Gate(3, 0)
    shares = gate.shares([], np.array([True, False, True]))
    assert shares[1] == 0 and shares.sum() == pytest.approx(1)
    other = gate.copy()
    other.mix(np.eye(3) * 0.7 + 0.1)
    other.update(1)
    assert gate.steps == 0 and not np.array_equal(gate.weights, other.weights)
    gate.load_arrays(other.to_arrays())
    np.testing.assert_array_equal(gate.weights, other.weights)
    with pytest.raises(ShapeError, match="does not fit"):
        Gate(2, 0).load_arrays(other.to_arrays())
    with pytest.raises(ShapeError, match="2 experts were given to a gate of 3"):
        gate.predict([np.ones(2) / 2] * 2)


@pytest.mark.parametrize("wrong", [{"trust": 0.0}, {"trust": 1.0}, {"ease": 0.5}, {"rate": -1.0}])
def test_bad_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GateConfig(**wrong)
