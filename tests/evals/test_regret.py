"""Regret: the oracle has none, what knows less has more, and the figure is drawn."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.evals.regret import RegretConfig, contenders, plot_regret, regret
from solomonic.induction import ContextTree, Frequencies, bits
from solomonic.induction.bracket import Bracket
from solomonic.induction.machine import run_program
from solomonic.induction.numbers import SplitMix
from solomonic.induction.oracles import HmmFilter, PeriodicBayes, SwitchingBayes
from solomonic.induction.sources import SOURCES, machine_bounds, machine_outputs


@pytest.mark.parametrize("name", SOURCES)
def test_no_other_predictor_is_better_on_average(name: str) -> None:
    """Bayes' predictor of the right prior is the best; checked with those of other sources."""
    source = SOURCES[name](0)
    chance = np.random.default_rng(0)
    sequences = [source.draw(60, chance) for _ in range(60)]
    best = np.array([bits(source.oracle(), one) for one in sequences])
    for other in (
        Frequencies(source.alphabet),
        ContextTree(source.alphabet, 3),
        SwitchingBayes(source.alphabet, 0.1),
        PeriodicBayes(source.alphabet, 5, 0.1),
    ):
        over = np.array([bits(other.fork(), one) for one in sequences]) - best
        assert over.mean() > -2 * over.std() / math.sqrt(len(over)) - 1e-9


def test_the_filter_is_the_sum_over_all_ways() -> None:
    chance = np.random.default_rng(0)
    start, moves, emits = (chance.dirichlet(np.ones(3), size) for size in (1, 3, 3))
    sequence = [0, 2, 1, 1]
    total = 0.0
    for way in product(range(3), repeat=len(sequence)):
        weight = start[0][way[0]]
        for t, state in enumerate(way):
            weight *= emits[state, sequence[t]]
            weight *= moves[state, way[t + 1]] if t + 1 < len(way) else 1
        total += weight
    assert bits(HmmFilter(start[0], moves, emits), sequence) == pytest.approx(-math.log2(total))


def test_switching_is_the_sum_over_all_segmentations() -> None:
    sequence, hazard, total = [0, 0, 1, 1, 1, 0, 1], 0.2, 0.0
    for cuts in product((False, True), repeat=len(sequence) - 1):
        weight, segment = 1.0, Frequencies(2)
        for t, symbol in enumerate(sequence):
            if t:
                weight *= hazard if cuts[t - 1] else 1 - hazard
                segment = Frequencies(2) if cuts[t - 1] else segment
            weight *= 2 ** -segment.update(symbol)
        total += weight
    assert bits(SwitchingBayes(2, hazard), sequence) == pytest.approx(-math.log2(total), abs=1e-12)


def test_periodic_is_the_sum_over_all_patterns() -> None:
    sequence, noise, total = [0, 1, 1, 0, 1, 0], 0.1, 0.0
    for period in (1, 2, 3):
        for pattern in product((0, 1), repeat=period):
            weight = 1 / 3 / 2**period
            for t, symbol in enumerate(sequence):
                weight *= noise / 2 + (1 - noise) * (pattern[t % period] == symbol)
            total += weight
    assert bits(PeriodicBayes(2, 3, noise), sequence) == pytest.approx(-math.log2(total), abs=1e-12)


@needs_core
def test_curves_and_their_figure(tmp_path: Path) -> None:
    config = RegretConfig(sources=("bernoulli", "periodic", "machine"), length=40, sequences=5)
    curves = regret(contenders(), config)
    found = {(curve.source, curve.predictor): curve for curve in curves}
    assert len(found) == 10
    assert np.abs(found["bernoulli", "frequencies"].regret).max() < 1e-9
    over = [found["periodic", name].regret[-1] for name in ("context trees", "frequencies")]
    assert 0 < over[0] < over[1]
    assert found["machine", "mixer"].best is None
    assert list(curves[0].to_json()["regret_bits"]) == ["1", "2", "4", "8", "16", "32", "40"]
    again = regret(contenders(), config)
    assert all((a.regret == b.regret).all() for a, b in zip(curves, again, strict=True))
    assert plot_regret(curves, tmp_path / "regret.svg").stat().st_size > 5000


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no source 'tea'"):
        RegretConfig(sources=("tea",))
    with pytest.raises(ConfigError, match="length = 0"):
        RegretConfig(length=0)


@needs_core
def test_the_length_of_programs_bounds_what_their_outputs_cost() -> None:
    """The bound belongs to the sequences that predictors read, and the machine itself keeps it."""
    settings = {"alphabet": 2, "cells": 6, "seed": 3}
    outputs = machine_outputs(4, 12, **settings)
    bounds = machine_bounds(4, 12, **settings)
    assert bounds.shape == (4, 12)
    assert (np.diff(bounds, axis=1) >= 0).all()
    random, whole = SplitMix(3), []
    for _ in range(64):
        ran = run_program(random, 2, 6, 8 * 12 + 200, 12)
        if len(ran.output) == 12:
            whole.append((ran.output, len(ran.program)))
    for (output, drawn), sequence, bound in zip(whole, outputs, bounds, strict=False):
        assert output == sequence.tolist()
        assert bound[-1] == pytest.approx(drawn * math.log2(7))
    for sequence, bound in zip(outputs, bounds, strict=True):
        # A weight of at least 7^-k for that program alone: the bracket's upper end is above it.
        found = Bracket(bytes(sequence[:6]), alphabet=2, cells=6)
        found.work(20_000)
        assert -np.log2(found.high[6]) <= bound[5] + 1e-9
