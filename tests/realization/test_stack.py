"""Stacked residuals: additivity, planted parts, forecasts, false alarms and delays."""

import math

import numpy as np
import pytest

from realization.processes import close
from solomonic.core.errors import ConfigError
from solomonic.realization import (
    ChangeConfig,
    Season,
    Stack,
    StateLayer,
    TooFewSamplesError,
    Trend,
    find_changes,
    kalman_filter,
)


def planted(seed: int, steps: int = 900) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A line, a daily pattern and an autoregression of order 2 with noise 0.5."""
    random, t = np.random.default_rng(seed), np.arange(steps)
    rough = np.zeros(steps)
    noise = 0.5 * random.standard_normal(steps)
    for k in range(2, steps):
        rough[k] = 1.2 * rough[k - 1] - 0.6 * rough[k - 2] + noise[k]
    season = 3 * np.sin(2 * np.pi * t / 24) + np.cos(4 * np.pi * t / 24)
    line = 10 + 0.02 * t
    return line + season + rough, {"line": line, "season": season, "rough": rough}


@pytest.fixture(scope="module")
def fitted() -> Stack:
    return Stack([Trend(), Season(24), StateLayer()]).fit(planted(0)[0][:800])


def test_the_parts_add_up(fitted: Stack) -> None:
    y = planted(0)[0]
    parts = fitted.components(y)
    assert parts.names == ("trend", "season 24", "state")
    close(parts.values.sum(0) + parts.residual, y[:, None], 1e-12)
    close(fitted.components().residual, parts.residual[:800], 1e-12)


def test_planted_parts_are_found(fitted: Stack) -> None:
    y, truth = planted(0)
    parts = fitted.components(y)
    error = (parts.values[1, 100:, 0] - truth["season"][100:]).std()
    assert error < 0.25 * truth["season"].std()
    assert (parts.values[0, 100:, 0] - truth["line"][100:]).std() < 0.3
    assert parts.residual[fitted.warmup :].std() == pytest.approx(0.5, rel=0.1)
    assert len(fitted.layers[2].start) == 2
    assert fitted.whiteness().p_value > 0.01


def test_what_is_predicted_does_not_depend_on_what_comes_after(fitted: Stack) -> None:
    y = planted(0)[0]
    short = fitted.components(y[:500])
    close(short.values, fitted.components(y).values[:, :500], 1e-12)


def test_forecasts_are_as_wrong_as_they_say(fitted: Stack) -> None:
    misses = []
    for seed in range(8):
        y = planted(seed)[0]
        ahead = fitted.predict(48, y[:800])
        spread = np.sqrt(ahead.covariance[:, 0, 0])
        misses.append((ahead.mean[:, 0] - y[800:848]) / spread)
    assert 0.5 < np.concatenate(misses).std() < 1.5


def test_the_stack_is_one_process(fitted: Stack) -> None:
    """The composed model, started where the layers are, makes the same errors."""
    y = planted(0)[0]
    start = np.concatenate([layer.start for layer in fitted.layers])
    found = kalman_filter(fitted.model, y, (start, np.zeros((len(start), len(start)))))
    close(found.innovations, fitted.components(y).residual, 1e-9)
    close(fitted.predict(1, y).mean[0], fitted.model.C @ found.states[-1], 1e-9)


def test_channels_have_their_own_gains_and_share_the_state() -> None:
    one, two = planted(1, 500)[0], planted(2, 500)[0]
    y = np.column_stack([one, 100 * two])
    stack = Stack([Trend(), StateLayer(3)]).fit(y)
    assert stack.smoothness.shape == (2, 2)
    assert stack.predict(5).mean.shape == (5, 2)
    alone = Stack([Trend()]).fit(two)
    both = Stack([Trend()]).fit(y)
    close(both.components().values[0, :, 1], 100 * alone.components().values[0, :, 0], 1e-6)


def test_a_given_smoothness_is_kept() -> None:
    y = planted(0)[0]
    stiff = Stack([Trend(smoothness=9.0)]).fit(y)
    loose = Stack([Trend(smoothness=-2.0)]).fit(y)
    rough = [np.abs(np.diff(s.components().values[0, 50:, 0], 2)).mean() for s in (stiff, loose)]
    assert rough[0] < 0.01 * rough[1]
    assert Stack([Season(24), StateLayer()]).fit(y, tune=False).smoothness[0, 0] == 4


def test_a_change_is_found_where_it_is(fitted: Stack) -> None:
    y = planted(0)[0]
    assert fitted.anomalies(y).alarms == ()
    y[850:] += 6
    found = fitted.anomalies(y)
    assert len(found.score) == 900
    assert found.alarms
    assert 850 <= found.alarms[0] < 900
    assert abs(found.onsets[0] - 850) <= 12


def test_false_alarms_are_no_more_than_asked_for() -> None:
    alarms = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        heavy = random.standard_t(4, (2000, 1))
        alarms += len(find_changes(heavy[1000:], heavy[:1000]).alarms)
    assert alarms <= 20_000 * 1e-3


@pytest.mark.parametrize(("shift", "most"), [(1.0, 3.5), (2.0, 6.0)])
def test_delays_against_lordens_bound(shift: float, most: float) -> None:
    """No detector with that rate of false alarms is faster than log(1 / rate) / KL on average."""
    random = np.random.default_rng(0)
    reference, delays = random.standard_normal((1000, 1)), []
    for _ in range(15):
        rows = random.standard_normal((700, 1))
        rows[300:] += shift
        late = [k - 300 for k in find_changes(rows, reference).alarms if k >= 300]
        delays.append(late[0] if late else 400)
    bound = math.log(1000) / (shift**2 / 2)
    assert bound < np.mean(delays) < most * bound


def test_a_change_of_spread_is_a_change() -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((800, 2))
    rows[400:] *= 2.5
    found = find_changes(rows, random.standard_normal((1000, 2)), ChangeConfig(false_alarms=1e-4))
    assert found.alarms
    assert found.alarms[0] >= 400


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one layer"):
        Stack([])
    with pytest.raises(ConfigError, match="period of at least 2"):
        Season(1)
    with pytest.raises(ConfigError, match="1 to 12 harmonics"):
        Season(24, 13)
    with pytest.raises(TooFewSamplesError, match="at least 288"):
        Stack([Season(24)]).fit(np.random.default_rng(0).standard_normal(200))
    with pytest.raises(TooFewSamplesError, match="at least 40"):
        find_changes(np.zeros(5), np.zeros(30))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ChangeConfig(false_alarms=0)
