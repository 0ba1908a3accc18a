"""Hashed matches are those of the definition, in bulk, one by one, and through growth."""

import numpy as np
import pytest

from solomonic.core import ConfigError, ShapeError
from solomonic.memory.reader.definition import find_matches
from solomonic.memory.reader.history import BOUNDARY, History
from solomonic.memory.reader.match import MatchConfig, Matches, MatchMemory
from solomonic.memory.reader.odds import GROUPS, MatchOdds, group

SMALL = MatchConfig(orders=(1, 2, 4), ways=6, longest=7, reach=4096)


def law(memory: MatchMemory, context: list[int]) -> list[tuple[int, int]]:
    config = memory.config
    tokens = memory.history.tokens.tolist()
    return find_matches(tokens, context, config.orders, config.ways, config.longest)


def pairs(found: Matches) -> list[tuple[int, int]]:
    return list(zip(found.positions.tolist(), found.lengths.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("letters", [2, 5, 40])
def test_matches_are_those_of_the_definition(letters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory, context = MatchMemory(SMALL), []
    for source in range(3):
        memory.begin(f"source {source}")
        for token in rng.integers(0, letters, 60).tolist():
            found = memory.find(context)
            assert pairs(found) == law(memory, context)
            np.testing.assert_array_equal(found.tokens, memory.history.tokens[found.positions])
            memory.append(token)
            context.append(token)


def test_in_bulk_is_one_by_one() -> None:
    rng = np.random.default_rng(7)
    slow, fast = MatchMemory(SMALL), MatchMemory(SMALL)
    for source in range(5):
        tokens = rng.integers(0, 6, 90)
        for memory in (slow, fast):
            memory.begin(f"{source}")
        for token in tokens.tolist():
            slow.append(token)
        fast.extend(tokens[:30])
        fast.extend(tokens[30:])
    context = rng.integers(0, 6, 400).tolist()
    for end in range(1, 400):
        assert pairs(slow.find(context[:end])) == pairs(fast.find(context[:end]))


def test_the_present_is_not_found() -> None:
    memory = MatchMemory(SMALL)
    memory.begin("a")
    memory.extend([1, 2, 3])
    assert pairs(memory.find([3])) == []  # nothing came after it yet
    memory.append(9)
    assert pairs(memory.find([3])) == [(4, 1)]


def test_nothing_runs_over_from_one_source_into_the_next() -> None:
    memory = MatchMemory(SMALL)
    memory.begin("a")
    memory.extend([1, 2])
    memory.begin("b", 50)
    memory.extend([3, 4])
    assert pairs(memory.find([1, 2])) == []
    assert pairs(memory.find([2, 3])) == [(5, 1)]
    place = memory.history.place(5)
    assert (place.source, place.index, place.base) == ("b", 1, 50)
    assert memory.history.tokens.tolist() == [BOUNDARY, 1, 2, BOUNDARY, 3, 4]
    np.testing.assert_array_equal(memory.history.source_of(np.array([1, 2, 4, 5])), [0, 0, 1, 1])


def test_a_copy_goes_its_own_way() -> None:
    memory = MatchMemory(SMALL)
    memory.begin("a")
    memory.extend([1, 2, 1])
    other = memory.copy()
    other.append(5)
    assert pairs(memory.find([1])) == [(2, 1)]
    assert pairs(other.find([1])) == [(4, 1), (2, 1)]


def test_the_longest_is_the_best_and_the_newest_of_equals() -> None:
    found = Matches(np.array([9, 4, 7]), np.array([2, 5, 5]), np.array([0, 1, 2]))
    assert found.best() == 2


def test_one_long_match_outvotes_many_short_ones() -> None:
    lengths = np.array([10, *[4] * 20])
    found = Matches(np.arange(21), lengths, np.array([3, *[8] * 20]))
    weights = MatchOdds().weights(found)
    assert weights.sum() == pytest.approx(1) and weights[0] > 0.7
    halved = MatchOdds().weights(found, np.log(np.array([1, *[0.5] * 20])))
    assert halved[0] == pytest.approx(weights[0])  # within a group only the share changes


def test_odds_learn_how_often_each_length_is_right() -> None:
    rng, odds = np.random.default_rng(0), MatchOdds()
    found = Matches(np.array([5, 3]), np.array([30, 2]), np.array([1, 2]))
    for _ in range(400):
        odds.learn(found, int(rng.choice([1, 2, 3], p=[0.25, 0.5, 0.25])))
    chances = odds.chances()
    assert chances[GROUPS - 1] == pytest.approx(0.25, abs=0.08)
    assert chances[group(np.array([2]))[0]] == pytest.approx(0.67, abs=0.08)  # of what was left
    assert odds.tries.max() <= 500


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="orders"):
        MatchConfig(orders=(3, 2))
    with pytest.raises(ConfigError, match="orders"):
        MatchConfig(orders=())
    with pytest.raises(ConfigError, match="longest = 4"):
        MatchConfig(orders=(1, 8), longest=4)
    with pytest.raises(ShapeError, match="no source was begun"):
        History().extend([1])
    memory = MatchMemory(SMALL)
    memory.begin("a")
    with pytest.raises(ShapeError, match="a token is -1"):
        memory.extend([1, -1])
