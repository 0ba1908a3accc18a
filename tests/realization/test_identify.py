"""A state from outputs alone: order, loss against theory, whiteness, and what is refused."""

import numpy as np
import pytest

from realization.processes import close, innovations
from solomonic.core.errors import ConfigError, DataError
from solomonic.realization import (
    Identified,
    TooFewSamplesError,
    UnstableError,
    canonical_correlations,
    expected_loss,
    from_innovations,
    identify,
    kalman_filter,
    whiteness,
)
from solomonic.realization.identify import autoregression_losses, window_gram


@pytest.fixture(scope="module")
def found() -> list[Identified]:
    truth = innovations()
    return [identify(truth.sample(10000, seed + 1)) for seed in range(40)]


def test_the_order_is_right(found: list[Identified]) -> None:
    orders = [item.order for item in found]
    for start in range(0, 40, 10):
        assert orders[start : start + 10].count(4) >= 9


def test_the_excess_loss_is_what_theory_says(found: list[Identified]) -> None:
    """n_par / 2T nats a sample: the price of estimating n_par numbers by maximum likelihood."""
    truth = innovations()
    floor = expected_loss(truth, truth)
    models = [item.model for item in found if item.order == 4]
    # The one-step prediction: A, K, C up to a basis, 2 n m = 16 numbers.
    predictions = [from_innovations(m.A, m.C, m.gain, truth.R) for m in models]
    excess = np.mean([expected_loss(model, truth) for model in predictions]) - floor
    assert found[0].parameters == 16
    assert excess == pytest.approx(16 / 2e4, rel=0.1)
    # With the innovation covariance (3) and the mean (2) estimated too.
    excess = np.mean([expected_loss(model, truth) for model in models]) - floor
    assert excess == pytest.approx(21 / 2e4, rel=0.15)


def test_poles_and_correlations_are_those_of_the_process(found: list[Identified]) -> None:
    truth = innovations()
    for item in found[:5]:
        assert np.abs(item.model.poles() - truth.poles()).max() < 0.1
        close(item.correlations[:4], canonical_correlations(truth), 0.1)
        assert item.correlations[4:].max() < 0.15
        assert item.criterion.argmin() == 4


def test_residuals_are_white_and_those_of_too_few_states_are_not(found: list[Identified]) -> None:
    y = innovations().sample(10000, 1)
    errors = kalman_filter(found[0].model, y).innovations
    assert whiteness(errors, parameters=found[0].parameters).p_value > 0.01
    small = identify(y, 2)
    assert whiteness(kalman_filter(small.model, y).innovations).p_value < 1e-10


@pytest.mark.parametrize("weighting", ["cva", "n4sid"])
def test_both_weightings_find_the_process(weighting: str) -> None:
    truth = innovations()
    model = identify(truth.sample(20000, 9), 4, weighting=weighting).model
    assert expected_loss(model, truth) - expected_loss(truth, truth) < 0.005


def test_scale_and_offset_do_not_matter() -> None:
    y = innovations().sample(3000, 4)
    plain, moved = identify(y), identify(y * [1e-3, 1e5] + [7.0, -1e4])
    assert plain.order == moved.order
    close(moved.correlations, plain.correlations, 1e-7)
    close(moved.model.poles(), plain.model.poles(), 1e-7)
    close(moved.model.mean, plain.model.mean * [1e-3, 1e5] + [7.0, -1e4], 1e-9)


def test_white_noise_has_no_state() -> None:
    y = np.random.default_rng(0).standard_normal((2000, 2))
    item = identify(y)
    assert item.order == 0
    assert item.model.poles().size == 0
    close(item.model.R, np.cov(y.T, bias=True), 5e-3)
    assert kalman_filter(item.model, y[:3]).innovations.shape == (3, 2)


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_window_products_are_those_of_the_definition(depth: int) -> None:
    rows = np.random.default_rng(1).standard_normal((30, 3))
    windows = np.stack([rows[t : t + depth].ravel() for t in range(30 - depth + 1)])
    close(window_gram(rows, depth), windows.T @ windows / len(windows), 1e-13)


def test_autoregressions_are_those_of_least_squares() -> None:
    rows, most = innovations().sample(200, 0), 4
    target = rows[most:]
    for order, found in enumerate(autoregression_losses(rows, most)):
        lags = np.hstack(
            [rows[most - k : len(rows) - k] for k in range(1, order + 1)] or [target[:, :0]]
        )
        rest = target - lags @ np.linalg.lstsq(lags, target, rcond=None)[0]
        assert found == pytest.approx(np.linalg.slogdet(rest.T @ rest / len(rest))[1], abs=1e-9)


def test_a_slow_predictor_gets_enough_lags() -> None:
    """With ρ(A - K C) = 0.965 residuals are white only if the past reaches far enough."""
    truth = from_innovations([[0.99]], [[1.0]], [[0.025]], [[1.0]])
    y = truth.sample(30000, 0)
    item = identify(y)
    assert item.order == 1
    assert item.lags > 20
    assert expected_loss(item.model, truth) - expected_loss(truth, truth) < 1e-3


def test_what_cannot_be_identified_is_refused() -> None:
    y = innovations().sample(1000, 0)
    with pytest.raises(TooFewSamplesError, match="30 samples of 2 channels are too few"):
        identify(y[:30])
    with pytest.raises(TooFewSamplesError, match="for order 30"):
        identify(y[:60], 30)
    with pytest.raises(TooFewSamplesError, match="for 400 lags"):
        identify(y, lags=400)
    with pytest.raises(ConfigError, match="hold no 10 states"):
        identify(y, 10, lags=2)
    with pytest.raises(ConfigError, match="'cva' or 'n4sid'"):
        identify(y, weighting="moesp")
    with pytest.raises(DataError, match="channel 1 of y is constant"):
        identify(np.column_stack([y[:, 0], np.ones(1000)]))
    with pytest.raises(DataError, match="without error"):
        identify(np.column_stack([y, y.sum(1)]))
    with pytest.raises(DataError, match="not finite at sample 3"):
        identify(np.where(np.arange(1000)[:, None] == 3, np.nan, y))
    with pytest.raises(UnstableError, match="not look stationary"):
        identify(
            np.exp(0.01 * np.arange(400)) + 0.01 * np.random.default_rng(0).standard_normal(400), 1
        )
