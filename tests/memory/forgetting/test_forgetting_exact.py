"""The fast run-length posterior against every segmentation, every lineage, and closed forms."""

import math

import numpy as np
import pytest

from solomonic.memory.forgetting import (
    ChangePoints,
    ChangePointsConfig,
    SymbolChangePoints,
    SymbolChangePointsConfig,
    definition,
)

HAZARDS = (0.01, 0.2)


def pairs(symbols: list[int], order: int, alphabet: int) -> list[tuple[int, int]]:
    """(context, symbol), where zeros came before the first."""
    past, found = [0] * order, []
    for symbol in symbols:
        context = 0
        for one in past:
            context = context * alphabet + one
        found.append((context, symbol))
        past = [*past, symbol][1:] if order else []
    return found


@pytest.mark.parametrize(("alphabet", "order", "alpha"), [(2, 0, 0.5), (3, 1, 0.3), (2, 2, 1.0)])
def test_symbols_equal_all_segmentations(alphabet: int, order: int, alpha: float) -> None:
    chance = np.random.default_rng(alphabet + order)
    symbols = [0] * 5 + chance.integers(0, alphabet, 5).tolist()
    config = SymbolChangePointsConfig(
        alphabet=alphabet, order=order, alpha=alpha, hazards=HAZARDS, regimes=0, floor=0.0
    )
    follower = SymbolChangePoints(config)
    paid = math.fsum(follower.update(symbol) for symbol in symbols)
    segment = definition.markov_evidence(alphabet, alpha)
    log, survived = definition.all_segmentations(pairs(symbols, order, alphabet), HAZARDS, segment)
    assert paid == pytest.approx(-log / math.log(2), rel=1e-12)
    found = follower.survival(np.arange(len(symbols) + 1))
    np.testing.assert_allclose(found, survived, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("width", "temper"), [(1, 1.0), (2, 1.0), (1, 0.4)])
def test_losses_equal_all_segmentations(width: int, temper: float) -> None:
    chance = np.random.default_rng(width)
    values = chance.normal(2, 1, (9, width))
    values[5:] += 6
    config = ChangePointsConfig(
        width=width,
        hazards=HAZARDS,
        mean=1.5,
        scale=0.7,
        strength=0.2,
        shape=1.3,
        floor=0.0,
        temper=temper,
    )
    changes = ChangePoints(config)
    for value in values:
        changes.observe(value)
    exact = definition.normal_evidence(1.5, 0.7, 0.2, 1.3)
    log, survived = definition.all_segmentations(
        values.tolist(), HAZARDS, lambda piece: temper * exact(piece)
    )
    assert changes.bits == pytest.approx(-log / math.log(2), rel=1e-12)
    found = changes.survival(np.arange(len(values) + 1))
    np.testing.assert_allclose(found, survived, rtol=1e-11, atol=1e-13)


def test_archived_regimes_equal_all_lineages() -> None:
    """Two regimes that are known so well that they learn nothing any more."""
    config = SymbolChangePointsConfig(
        alphabet=2, order=0, hazards=(0.2,), recurrence=(0.7,), regimes=2, floor=0.0
    )
    follower = SymbolChangePoints(config)
    chances = ([0.9, 0.1], [0.2, 0.8])
    for k, row in enumerate(chances):
        follower.runs.statistics.put(k, 1e13 * np.array(row))
        follower.runs.visits[k] = 1
    follower.runs.prepare()
    symbols = [0, 0, 1, 1, 1, 0]
    paid = math.fsum(follower.update(symbol) for symbol in symbols)

    def fixed(row: list[float]) -> definition.SegmentEvidence:
        return lambda values: sum(math.log(row[symbol]) for _, symbol in values)

    log, regimes = definition.all_lineages(
        pairs(symbols, 0, 2),
        (0.2, 0.7),
        definition.markov_evidence(2, 0.5),
        [fixed(row) for row in chances],
    )
    assert paid == pytest.approx(-log / math.log(2), rel=1e-10)
    np.testing.assert_allclose(follower.runs.weights()[:2], regimes, rtol=1e-9)


def test_the_recursion_is_the_sum_over_segmentations() -> None:
    values = pairs(np.random.default_rng(0).integers(0, 3, 9).tolist(), 1, 3)
    segment = definition.markov_evidence(3, 0.5)
    slow = definition.all_segmentations(values, HAZARDS, segment)
    quick = definition.recursion(values, HAZARDS, segment)
    assert quick[0] == pytest.approx(slow[0], rel=1e-12)
    np.testing.assert_allclose(quick[1], slow[1], rtol=1e-11)


def switching(length: int, seed: int) -> list[int]:
    """Three symbols whose chances change every 60."""
    chance = np.random.default_rng(seed)
    rows = [chance.dirichlet([0.3] * 3) for _ in range(1 + length // 60)]
    return [int(chance.choice(3, p=rows[t // 60])) for t in range(length)]


def test_merged_runs_stay_near_the_exact_posterior() -> None:
    symbols = switching(130, 1)
    hazards = (0.003, 0.03)
    config = SymbolChangePointsConfig(
        alphabet=3, order=0, hazards=hazards, regimes=0, runs=40, floor=0.0
    )
    follower = SymbolChangePoints(config)
    paid = math.fsum(follower.update(symbol) for symbol in symbols)
    log, survived = definition.recursion(
        pairs(symbols, 0, 3), hazards, definition.markov_evidence(3, 0.5)
    )
    assert follower.runs.n <= 40
    assert paid == pytest.approx(-log / math.log(2), rel=1e-3)
    found = follower.survival(np.arange(len(symbols) + 1))
    assert np.abs(found - survived).max() < 0.02


@pytest.mark.parametrize(("runs", "error"), [(1200, 1e-12), (128, 6e-3)])
def test_values_that_say_nothing_leave_exponential_forgetting(runs: int, error: float) -> None:
    """Every likelihood equal: survival of age a is (1 - hazard)^a, 0.366032 at age 100."""
    config = ChangePointsConfig(hazards=(0.01,), runs=runs, threshold=0, floor=0.0)
    changes = ChangePoints(config)
    changes.runs.statistics.likelihood = lambda value, n: (np.ones(n), 0.0)
    for _ in range(1000):
        changes.observe(0.0)
    ages = np.arange(0, 1001, 50)
    found = changes.survival(1000 - ages)
    np.testing.assert_allclose(found, 0.99**ages, rtol=0, atol=error)
    if runs > 1000:
        assert found[2] == pytest.approx(0.3660323, abs=1e-7)


def test_mixing_hazards_costs_little_more_than_the_best_of_them() -> None:
    symbols = switching(300, 2)

    def cost(hazards: tuple[float, ...]) -> float:
        config = SymbolChangePointsConfig(alphabet=3, order=0, hazards=hazards, regimes=0)
        follower = SymbolChangePoints(config)
        return math.fsum(follower.update(symbol) for symbol in symbols)

    hazards = (0.001, 0.01, 0.1)
    alone = [cost((hazard,)) for hazard in hazards]
    # Merging moves tiny probabilities, so the bound of the exact mixture has a little slack.
    assert cost(hazards) <= min(alone) + math.log2(3) + 0.05
    assert max(alone) - min(alone) > 2  # the hazard does matter here
