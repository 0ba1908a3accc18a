"""Weighted automata: exact recovery, estimation from counts, the predictor, bilinear systems."""

import itertools

import numpy as np
import pytest

from solomonic.core.errors import CheckpointError, ShapeError, VocabularyError
from solomonic.core.protocols import Predictor
from solomonic.realization import (
    Automaton,
    NotMinimalError,
    TooFewSamplesError,
    hidden_markov,
    identify_automaton,
    realize_automaton,
)


def chain() -> tuple[np.ndarray, np.ndarray]:
    """Three states, four symbols."""
    move = np.array([[0.9, 0.1, 0.0], [0.0, 0.85, 0.15], [0.2, 0.0, 0.8]])
    return move, np.random.default_rng(0).dirichlet(np.full(4, 0.7), 3)


def emitted(steps: int, seed: int) -> np.ndarray:
    move, emit = chain()
    random = np.random.default_rng(seed)
    states, state = np.empty(steps, int), 0
    for t, draw in enumerate(random.random(steps)):
        states[t] = state
        state = int((draw > move[state].cumsum()).sum())
    return (random.random(steps)[:, None] > emit[states].cumsum(1)).sum(1)


def test_a_hidden_chain_gives_the_probabilities_of_words() -> None:
    move, emit = chain()
    automaton = hidden_markov(move, emit)
    assert sum(automaton.value(w) for w in itertools.product(range(4), repeat=4)) == pytest.approx(
        1
    )
    start = automaton.start
    by_hand = sum(
        start[a] * emit[a, 2] * move[a, b] * emit[b, 0] for a in range(3) for b in range(3)
    )
    assert automaton.value((2, 0)) == pytest.approx(by_hand, abs=1e-15)


def test_an_automaton_is_recovered_exactly() -> None:
    truth = hidden_markov(*chain())
    found = realize_automaton(truth.value, 4)
    assert found.order == 3
    random = np.random.default_rng(1)
    for word in random.integers(0, 4, (200, 20)):
        assert found.value(word) == pytest.approx(truth.value(word), rel=1e-12, abs=1e-14)
    for length in range(6):
        word = tuple(random.integers(0, 4, length))
        assert abs(found.value(word) - truth.value(word)) <= 1e-14


def test_no_coordinates_are_special() -> None:
    truth = hidden_markov(*chain())
    turned = truth.transform(np.random.default_rng(0).standard_normal((3, 3)))
    assert turned.value((0, 1, 3, 2)) == pytest.approx(truth.value((0, 1, 3, 2)), abs=1e-14)


def test_counts_of_a_sequence_predict_as_well_as_the_truth() -> None:
    symbols = emitted(200_000, 3)
    found = identify_automaton(symbols, 4)
    assert found.order == 3
    fresh = emitted(5000, 4)
    true, own = hidden_markov(*chain()).predictor(), found.predictor()
    best = np.mean([true.update(int(s)) for s in fresh])
    assert np.mean([own.update(int(s)) for s in fresh]) < best + 0.002
    shares = np.bincount(symbols) / len(symbols)
    assert best < -(shares * np.log2(shares)).sum() - 0.02


def test_the_predictor_keeps_the_laws_of_predictors() -> None:
    predictor = hidden_markov(*chain()).predictor()
    assert isinstance(predictor, Predictor)
    total, word = 0.0, (0, 3, 1, 1, 2)
    for symbol in word:
        shares = predictor.predict()
        assert shares.shape == (4,)
        assert shares.min() > 0
        assert shares.sum() == pytest.approx(1, abs=1e-15)
        np.testing.assert_array_equal(predictor.predict(), shares)
        other = predictor.load(predictor.state())
        np.testing.assert_array_equal(other.predict(), shares)
        other = predictor.fork()
        other.update(0)
        np.testing.assert_array_equal(predictor.predict(), shares)
        bits = predictor.update(symbol)
        assert bits == pytest.approx(-np.log2(shares[symbol]))
        total += bits
    assert 2**-total == pytest.approx(hidden_markov(*chain()).value(word), rel=1e-4)


def test_a_state_of_something_else_is_refused() -> None:
    predictor = hidden_markov(*chain()).predictor()
    data = predictor.state()
    other = hidden_markov([[0.5, 0.5], [0.1, 0.9]], np.eye(2)).predictor()
    for wrong in (data[:-1], b"", data[:3] + b"x" + data[4:], other.state()):
        with pytest.raises(CheckpointError, match="another automaton"):
            predictor.load(wrong)


def test_an_impossible_symbol_is_survived() -> None:
    certain = Automaton([1.0], [[[1.0]], [[0.0]]], [1.0])
    predictor = certain.predictor()
    assert predictor.update(1) > 20
    assert predictor.predict()[0] > 0.999
    negative = Automaton([1.0], [[[1.5]], [[-0.5]]], [1.0]).predictor()
    assert negative.predict().min() > 0


def test_a_bilinear_system_is_recovered_from_its_series() -> None:
    random = np.random.default_rng(2)
    maps = random.standard_normal((3, 2, 2)) * 0.4
    truth = Automaton(random.standard_normal(2), maps, random.standard_normal(2))
    found = realize_automaton(truth.value, 3)
    assert found.order == 2
    inputs = random.standard_normal((40, 2))
    x, expected = truth.start, []
    for row in inputs:
        expected.append(x @ truth.stop)
        x = x @ (maps[0] + row[0] * maps[1] + row[1] * maps[2])
    np.testing.assert_allclose(truth.respond(inputs), expected, atol=1e-14)
    np.testing.assert_allclose(found.respond(inputs), expected, atol=1e-12)


def test_what_is_no_automaton_is_refused() -> None:
    with pytest.raises(ShapeError, match="An automaton of 2 states"):
        Automaton(np.ones(2), np.ones((3, 2, 1)), np.ones(2))
    with pytest.raises(ShapeError, match="rows of emission"):
        hidden_markov(np.eye(2), [[0.5, 0.6], [1.0, 0.0]])
    with pytest.raises(NotMinimalError, match="rank 3"):
        realize_automaton(hidden_markov(*chain()).value, 4, order=4)
    with pytest.raises(TooFewSamplesError, match="10240"):
        identify_automaton(np.zeros(100, int), 4)
    with pytest.raises(VocabularyError, match="symbol 4"):
        identify_automaton(np.full(20000, 4), 4)
    with pytest.raises(VocabularyError, match="symbol 9"):
        hidden_markov(*chain()).predictor().update(9)
