"""What change points do: weights that follow changes, regimes that come back, bounded memory."""

import math

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError, VocabularyError
from solomonic.memory.forgetting import (
    ChangePoints,
    ChangePointsConfig,
    ExponentialDecay,
    Forgetting,
    NoForgetting,
    SymbolChangePoints,
    SymbolChangePointsConfig,
    forgetting_from,
)

ROWS = ([0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9])


def recurring(order: list[int], length: int, seed: int = 0) -> list[int]:
    """Independent symbols of three regimes, `length` of each in turn."""
    chance = np.random.default_rng(seed)
    return [int(one) for k in order for one in chance.choice(3, length, p=ROWS[k])]


def follower(**changes: object) -> SymbolChangePoints:
    return SymbolChangePoints(
        SymbolChangePointsConfig(alphabet=3, order=0).replace(**changes)  # pyright: ignore
    )


def test_weights_fall_where_the_world_changed_and_nowhere_else() -> None:
    chance = np.random.default_rng(0)
    changes = ChangePoints()
    for value in chance.normal(3, 1, 400):
        changes.observe(value)
    assert changes.changes() == []
    assert changes.survival(np.array([0]))[0] > 0.7
    for value in chance.normal(6, 1, 60):
        changes.observe(value)
    (found,) = changes.changes()
    assert abs(found - 400) <= 2
    kept = changes.survival(np.array([0, 200, 390, 405, 430, 460, 9999]))
    assert (kept[:3] < 1e-3).all()
    assert (kept[3:] > 0.9).all()
    assert kept[-1] == pytest.approx(1, abs=1e-12)


def test_survival_is_a_probability_that_grows_towards_the_present() -> None:
    one = follower(regimes=0)
    for symbol in recurring([0, 1, 2, 0], 70):
        one.observe(symbol)
        kept = one.survival(np.arange(one.step + 1))
        assert kept.dtype == np.float64
        assert (kept >= 0).all()
        assert (kept <= 1).all()
        assert (np.diff(kept) >= -1e-12).all()
        assert kept[-1] == pytest.approx(1, abs=1e-12)
    assert one.survival(np.zeros((2, 3), dtype=int)).shape == (2, 3)


def test_all_probability_is_kept_through_merging_and_archiving() -> None:
    one = follower(runs=16, regimes=3)
    for symbol in recurring([0, 1, 2, 0, 1, 2], 100):
        one.update(symbol)
        assert one.runs.weights().sum() == pytest.approx(1, abs=1e-9)
        assert one.runs.n <= 3 + 16
        assert one.runs.rates().sum() == pytest.approx(1, abs=1e-9)


def test_a_regime_that_returns_brings_its_items_back() -> None:
    one = follower()
    for symbol in recurring([0, 1, 2, 1, 0, 2], 120):
        one.update(symbol)
    changes = one.changes()
    assert len(changes) == 5
    np.testing.assert_allclose(changes, [120, 240, 360, 480, 600], atol=6)
    assert (one.runs.visits > 0).sum() == 3  # each archived once, whatever came how often
    kept = one.survival(np.array([60, 180, 300, 420, 540, 700]))
    assert (kept[[2, 5]] > 0.9).all()  # regime 2: the third and the present segment
    assert (kept[[0, 1, 3, 4]] < 0.05).all()


def test_a_return_that_was_taken_for_news_joins_its_regime() -> None:
    """With hardly any probability of returning, runs are new ones; archived, they are known."""
    one = follower(recurrence=(1e-6,))
    for symbol in recurring([0, 1, 2, 0, 1, 2, 0], 100):
        one.update(symbol)
    assert len(one.changes()) == 6
    assert (one.runs.visits > 0).sum() == 3
    assert one.runs.visits.sum() == 6


def test_without_an_archive_nothing_returns() -> None:
    one = follower(regimes=0)
    for symbol in recurring([0, 1, 0], 120):
        one.update(symbol)
    assert one.survival(np.array([60]))[0] < 1e-3


def test_the_archive_lets_the_least_seen_go() -> None:
    one = follower(regimes=2)
    for symbol in recurring([0, 1, 0, 1, 2, 0, 1, 0], 120):
        one.update(symbol)
    assert (one.runs.visits > 0).sum() == 2
    assert one.survival(np.array([60]))[0] > 0.8  # regime 0 outlived regime 2


def test_who_takes_a_place_in_the_archive_does_not_take_its_items() -> None:
    """Regime 2 takes the place of 1 and returns: what was written under 1 must not."""
    one = follower(regimes=2)
    for symbol in recurring([0, 1, 0, 1, 2, 0, 2], 120):
        one.update(symbol)
    kept = one.survival(np.array([180, 540]))
    assert kept[0] < 0.1  # regime 1
    assert kept[1] > 0.7  # regime 2, before


def test_old_knowledge_returns_at_once() -> None:
    """Bits of the first 60 symbols after a return, with an archive and without."""
    chance = np.random.default_rng(0)
    rows = [chance.permutation(2.0 ** -np.arange(12.0)) for _ in range(3)]
    order = [0, 1, 2, 0, 1]
    symbols = [int(x) for k in order for x in chance.choice(12, 150, p=rows[k] / rows[k].sum())]

    def after(regimes: int) -> float:
        one = SymbolChangePoints(SymbolChangePointsConfig(alphabet=12, order=0, regimes=regimes))
        paid = [one.update(symbol) for symbol in symbols]
        return math.fsum(paid[450:510] + paid[600:660])

    assert after(8) < after(0) - 5


def test_an_outlier_is_no_change() -> None:
    chance = np.random.default_rng(3)
    changes = ChangePoints(ChangePointsConfig(temper=1))
    for t, value in enumerate(chance.normal(3, 0.5, 600)):
        changes.observe(value + (1.75 if t == 300 else 0))
    assert changes.changes() == []
    assert changes.survival(np.array([0]))[0] > 0.5


def test_the_rate_of_changes_is_learned() -> None:
    hazards = (0.0003, 0.003, 0.03)
    steady, restless = follower(hazards=hazards), follower(hazards=hazards)
    for symbol in recurring([0], 1500):
        steady.update(symbol)
    for symbol in recurring([0, 1, 2] * 16, 30):
        restless.update(symbol)
    assert int(np.argmax(steady.runs.rates())) == 0
    assert steady.runs.rates().min() > 1e-9  # none is lost for ever
    assert int(np.argmax(restless.runs.rates())) == 2


def test_means_of_blocks_are_observed() -> None:
    changes = ChangePoints(ChangePointsConfig(every=20))
    chance = np.random.default_rng(1)
    for value in [*chance.exponential(2, 1000), *chance.exponential(6, 500)]:
        changes.observe(value)
    assert changes.step == 1500
    (found,) = changes.changes()
    assert abs(found - 1000) <= 40
    kept = changes.survival(np.array([100, 1200, 1500]))
    assert kept[0] < 0.01
    assert kept[1] > 0.8
    assert kept[2] == pytest.approx(1)


def test_vectors_tell_regimes_apart_that_their_losses_do_not() -> None:
    chance = np.random.default_rng(2)
    values = chance.normal([3.0, 0.0], [1.0, 0.3], (600, 2))
    values[200:400, 1] += 2  # the loss, number 0, never changes
    both = ChangePoints(ChangePointsConfig(width=2, regimes=4))
    alone = ChangePoints()
    for value in values:
        both.observe(value)
        alone.observe(value[0])
    assert alone.changes() == []
    np.testing.assert_allclose(both.changes(), [200, 400], atol=4)
    kept = both.survival(np.array([100, 300, 500]))
    assert kept[0] > 0.9
    assert kept[1] < 0.05
    assert kept[2] > 0.9


def test_losses_may_be_moved_and_scaled_with_the_prior() -> None:
    values = np.random.default_rng(4).normal(3, 1, 80)
    values[50:] += 4
    one = ChangePoints(ChangePointsConfig(mean=3, scale=1))
    other = ChangePoints(ChangePointsConfig(mean=3 * 7 + 100, scale=7))
    for value in values:
        one.observe(value)
        other.observe(value * 7 + 100)
    steps = np.arange(81)
    np.testing.assert_allclose(one.survival(steps), other.survival(steps), rtol=1e-7)


def test_names_of_symbols_do_not_matter() -> None:
    one, other = follower(), follower()
    symbols = recurring([0, 1, 0], 60)
    paid = math.fsum(one.update(symbol) for symbol in symbols)
    renamed = math.fsum(other.update([2, 0, 1][symbol]) for symbol in symbols)
    assert paid == pytest.approx(renamed, rel=1e-10)


def test_an_average_prior_helps_where_regimes_share_much() -> None:
    """Of the 12 rows of a Markov chain, three change: the others need not be learned anew."""
    chance = np.random.default_rng(0)
    common = chance.dirichlet([0.1] * 12, size=12) * 0.97 + 0.03 / 12
    symbols = [0]
    for _ in range(8):
        rows = common.copy()
        rows[chance.permutation(12)[:3]] = chance.dirichlet([0.1] * 12, size=3) * 0.97 + 0.03 / 12
        for _ in range(150):
            symbols.append(int(chance.choice(12, p=rows[symbols[-1]])))

    def cost(pooled: float, alpha: float = 0.5) -> float:
        config = SymbolChangePointsConfig(alphabet=12, pooled=pooled, alpha=alpha, regimes=0)
        one = SymbolChangePoints(config)
        return math.fsum(one.update(symbol) for symbol in symbols)

    assert cost(4.0) < min(cost(0.0, alpha) for alpha in (0.1, 4 / 12, 0.5)) - 50


@pytest.mark.parametrize(("kind", "limit"), [("recurring", 0.6), ("new", 0.85)])
def test_switching_sources_cost_less_than_the_best_decay(kind: str, limit: float) -> None:
    """The short form of benchmarks/forgetting.py: excess over the oracle, three sequences."""
    ours = best = 0.0
    for seed in range(3):
        chance = np.random.default_rng(seed)
        known = [chance.dirichlet([0.3] * 4) for _ in range(3)]
        rows = [known[k % 3] if kind == "recurring" else chance.dirichlet([0.3] * 4)
                for k in range(10)]  # fmt: skip
        rates = np.array([0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 1.0])
        counts, paid = np.zeros((4, len(rates))), np.zeros(len(rates))
        one = SymbolChangePoints(SymbolChangePointsConfig(alphabet=4, order=0))
        oracle = mine = 0.0
        for t in range(1500):
            row = rows[t // 150]
            symbol = int(chance.choice(4, p=row))
            oracle -= math.log2(row[symbol])
            paid -= np.log2((counts[symbol] + 0.5) / (counts.sum(axis=0) + 2))
            counts *= rates
            counts[symbol] += 1
            mine += one.update(symbol)
        ours += mine - oracle
        best += float(paid.min()) - oracle
    assert ours <= limit * best


def test_little_is_lost_where_nothing_changes() -> None:
    chance = np.random.default_rng(5)
    symbols = chance.choice(4, 3000, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    one, counts, plain = SymbolChangePoints(SymbolChangePointsConfig(alphabet=4)), {}, 0.0
    context, mine = 0, 0.0
    for symbol in symbols:
        row = counts.setdefault(context, [0] * 4)
        plain -= math.log2((row[symbol] + 0.5) / (sum(row) + 2))
        row[symbol] += 1
        mine += one.update(symbol)
        context = symbol
    assert (mine - plain) / len(symbols) <= 0.002  # the project's limit is 0.01
    assert one.changes() == []


def test_what_is_faulty_is_refused_and_changes_nothing() -> None:
    changes = ChangePoints(ChangePointsConfig(width=2))
    for bad, words in (([1.0], "2 numbers"), ([1.0, math.nan], "finite"), (3.0, "2 numbers")):
        with pytest.raises(DataError, match=words):
            changes.observe(np.array(bad))
    assert changes.step == 0
    for plain in (NoForgetting(), ExponentialDecay(5)):
        with pytest.raises(DataError, match="cannot be observed"):
            plain.observe(math.inf)
        assert plain.step == 0
    with pytest.raises(VocabularyError):
        follower().observe(3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hazards": ()}, "hazards"),
        ({"hazards": (0.0,)}, "hazards"),
        ({"recurrence": (1.0,)}, "recurrence"),
        ({"runs": 4}, "runs"),
        ({"regimes": -1}, "regimes"),
        ({"confidence": 0.2}, "confidence"),
        ({"floor": 1.0}, "floor"),
        ({"every": 0}, "every"),
        ({"scale": 0.0}, "scale"),
        ({"temper": 2.0}, "temper"),
        ({"width": 0}, "width"),
    ],
)
def test_settings_are_checked(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ChangePointsConfig(**settings)


def test_counts_that_would_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="counts"):
        SymbolChangePointsConfig(alphabet=256, order=2)


def test_forgettings_by_name() -> None:
    names = {
        "none": "none",
        "exponential:20": "exponential",
        "changes:16": "changes",
        "symbols:4:0": "symbol-changes",
    }
    for name, kind in names.items():
        found = forgetting_from(name)
        assert isinstance(found, Forgetting)
        assert found.kind == kind  # pyright: ignore
        again = forgetting_from(found.config)  # pyright: ignore
        assert type(again) is type(found)
    assert isinstance(forgetting_from(None), NoForgetting)
    for bad in ("change", "changes:x", "none:3", "exponential:-1", "symbols"):
        with pytest.raises(ConfigError):
            forgetting_from(bad)


def test_decay_halves_and_none_does_not() -> None:
    decay, none = ExponentialDecay(10), NoForgetting()
    for _ in range(30):
        decay.observe(1.0)
        none.observe(1.0)
    np.testing.assert_allclose(decay.survival(np.array([30, 20, 0, 99])), [1, 0.5, 0.125, 1])
    assert (none.survival(np.arange(5)) == 1).all()
    assert decay.changes() == none.changes() == []
