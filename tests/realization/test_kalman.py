"""Processes: autocovariances, innovations form, filter, smoother, forecasts against brute force."""

import numpy as np
import pytest

from realization.processes import close, four_states, innovations, random_process
from solomonic.core.errors import DataError, ShapeError
from solomonic.realization import (
    IndefiniteNoiseError,
    StateSpace,
    UnstableError,
    expected_loss,
    forecast,
    from_autocovariances,
    from_innovations,
    innovations_form,
    kalman_filter,
    kalman_smoother,
    one_step_loss,
    periodogram_test,
    whiteness,
)
from solomonic.realization.kalman import is_invertible


def joint_covariance(model: StateSpace, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """cov of (y_0, ..., y_{T-1}), and of the states with them, from the definition."""
    n, m = model.order, model.outputs
    F = np.linalg.cholesky(model.state_covariance())
    G = np.linalg.cholesky(model.noise() + 1e-15 * np.eye(n + m))
    width = n + steps * (n + m)
    x = np.hstack([F, np.zeros((n, width - n))])
    ys, xs = [], []
    for t in range(steps):
        w = np.zeros((n + m, width))
        w[:, n + t * (n + m) : n + (t + 1) * (n + m)] = G
        xs.append(x)
        ys.append(model.C @ x + w[n:])
        x = model.A @ x + w[:n]
    Y, X = np.concatenate(ys), np.concatenate(xs)
    return Y @ Y.T, X @ Y.T


@pytest.mark.parametrize("seed", range(3))
def test_autocovariances_are_those_of_the_definition(seed: int) -> None:
    model = random_process(seed)
    blocks = joint_covariance(model, 5)[0].reshape(5, 2, 5, 2)
    close(model.autocovariance(5), blocks[:, :, 0, :], 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_filter_and_the_smoother_are_conditional_expectations(seed: int) -> None:
    model, steps = random_process(seed), 7
    y = model.sample(steps, seed)
    flat = (y - model.mean).ravel()
    Y, XY = joint_covariance(model, steps)
    filtered, smoothed = kalman_filter(model, y), kalman_smoother(model, y)
    for t in range(1, steps):
        past = np.linalg.solve(Y[: 2 * t, : 2 * t], flat[: 2 * t])
        close(filtered.states[t], XY[4 * t : 4 * t + 4, : 2 * t] @ past, 1e-10)
    expected = XY @ np.linalg.solve(Y, flat)
    close(smoothed.states.ravel(), expected, 1e-10)
    P = model.state_covariance()
    for t in range(steps):
        rows = XY[4 * t : 4 * t + 4]
        close(smoothed.state_covariances[t], P - rows @ np.linalg.solve(Y, rows.T), 1e-9)
    log_likelihood = -0.5 * (np.linalg.slogdet(2 * np.pi * Y)[1] + flat @ np.linalg.solve(Y, flat))
    assert filtered.log_likelihood == pytest.approx(log_likelihood, abs=1e-9)
    ahead = forecast(model, y[:5], 2)
    part = np.linalg.solve(Y[:10, :10], np.eye(10))
    close((ahead.mean - model.mean).ravel(), Y[10:, :10] @ part @ flat[:10], 1e-10)
    close(ahead.covariance[1], Y[12:, 12:] - Y[12:, :10] @ part @ Y[:10, 12:], 1e-10)


def test_missing_samples_are_left_out() -> None:
    model = random_process(1)
    y = model.sample(6, 0)
    y[2] = np.nan
    y[4, 1] = np.nan
    keep = ~np.isnan(y).ravel()
    Y, XY = joint_covariance(model, 6)
    flat = (y - model.mean).ravel()[keep]
    close(
        kalman_smoother(model, y).states.ravel(),
        XY[:, keep] @ np.linalg.solve(Y[np.ix_(keep, keep)], flat),
        1e-10,
    )


def test_keeping_the_settled_covariance_changes_nothing() -> None:
    model = four_states()
    y = model.sample(400, 0)
    late = kalman_filter(model, y)
    assert late.state_covariances[-1] is late.state_covariances[-2]
    settled = innovations_form(model)
    close(late.innovation_covariances[-1], settled.R, 1e-12)
    close(late.state_covariances[-1] @ model.C.T, np.linalg.solve(
        model.A, (settled.gain @ settled.R)), 1e-10)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_innovations_form_is_the_same_process(seed: int) -> None:
    model = random_process(seed)
    found = innovations_form(model)
    close(found.autocovariance(30), model.autocovariance(30), 1e-11)
    close(found.mean, model.mean, 0)
    assert is_invertible(found)
    assert expected_loss(found, model) == pytest.approx(expected_loss(model, model), abs=1e-11)
    again = innovations_form(StateSpace(found.A, found.C, found.Q, found.R, found.S))
    close(again.gain, found.gain, 1e-8)


def test_singular_measurement_noise_has_an_innovations_form() -> None:
    model = StateSpace([[0.9]], [[1.0]], [[1.0]], [[0.0]])
    close(innovations_form(model).R, np.array([[1.0]]), 1e-12)
    close(innovations_form(model).gain, np.array([[0.9]]), 1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_autocovariances_make_the_process(seed: int) -> None:
    model = random_process(seed)
    found = from_autocovariances(model.autocovariance(16))
    assert found.order == 4
    close(found.autocovariance(30), model.autocovariance(30), 1e-11)
    close(found.R, innovations_form(model).R, 1e-9)


def test_autocovariances_of_no_process_are_refused() -> None:
    with pytest.raises(IndefiniteNoiseError, match="no process"):
        from_autocovariances([1.0, 0.9, 0.0, 0, 0, 0, 0])


def test_the_spectrum_is_the_transform_of_the_autocovariances() -> None:
    model, w = random_process(2), np.array([0.1, 1.0, 3.0])
    lags = model.autocovariance(400)
    powers = np.exp(-1j * w[:, None] * np.arange(400))
    half = np.tensordot(powers, lags, 1)
    expected = half + half.conj().swapaxes(1, 2) - lags[0]
    assert np.abs(model.spectrum(w) - expected).max() < 1e-11 * np.abs(expected).max()


def test_a_path_has_the_statistics_of_the_process() -> None:
    model = innovations()
    y = model.sample(20000, 1)
    sampled = np.stack([y[k:].T @ y[: len(y) - k] / len(y) for k in range(3)])
    expected = model.autocovariance(3)
    assert np.abs(sampled - expected).max() < 0.1 * np.abs(expected).max()
    assert one_step_loss(model, y) == pytest.approx(expected_loss(model, model), abs=0.03)


def test_innovations_are_white_only_under_the_right_model() -> None:
    model = innovations()
    y = model.sample(4000, 2)
    errors = kalman_filter(model, y).innovations
    assert whiteness(errors).p_value > 0.01
    assert periodogram_test(errors).p_value.min() > 0.01
    assert model.gain is not None
    wrong = from_innovations(model.A, model.C, 0.5 * model.gain, model.R)
    assert whiteness(kalman_filter(wrong, y).innovations).p_value < 1e-20
    assert periodogram_test(y).p_value.max() < 1e-20
    assert expected_loss(wrong, model) > expected_loss(model, model) + 0.05


def test_the_p_value_of_white_noise_is_uniform() -> None:
    random = np.random.default_rng(0)
    values = np.sort([whiteness(random.standard_normal((300, 2)), 10).p_value for _ in range(300)])
    assert np.abs(values - np.linspace(0, 1, 300)).max() < 0.1


def test_a_mean_that_is_off_costs_what_the_samples_say() -> None:
    truth = innovations()
    assert truth.gain is not None
    wrong = from_innovations(truth.A, truth.C, truth.gain, truth.R, [1.0, -1.0])
    y = truth.sample(20000, 3)
    measured = one_step_loss(wrong, y) - one_step_loss(truth, y)
    assert expected_loss(wrong, truth) - expected_loss(truth, truth) == pytest.approx(
        measured, rel=0.1
    )


def test_what_is_no_process_is_refused() -> None:
    with pytest.raises(IndefiniteNoiseError, match="least eigenvalue -1"):
        StateSpace([[0.5]], [[1.0]], [[-1.0]], [[1.0]])
    with pytest.raises(IndefiniteNoiseError, match="indefinite"):
        StateSpace([[0.5]], [[1.0]], [[1.0]], [[1.0]], [[1.1]])
    with pytest.raises(IndefiniteNoiseError, match="not symmetric"):
        StateSpace(np.eye(2) / 2, np.eye(2), [[1.0, 0.5], [0.0, 1.0]], np.eye(2))
    with pytest.raises(UnstableError, match=r"modulus 1.2"):
        StateSpace([[1.2]], [[1.0]], [[1.0]], [[1.0]]).sample(3)
    with pytest.raises(UnstableError, match="A - K C"):
        from_innovations([[0.5]], [[1.0]], [[2.0]], [[1.0]])
    with pytest.raises(IndefiniteNoiseError, match="without error"):
        innovations_form(StateSpace([[0.5]], [[1.0], [1.0]], [[1.0]], np.zeros((2, 2))))
    model = innovations()
    with pytest.raises(ShapeError, match="2 channels"):
        kalman_filter(model, np.zeros((5, 3)))
    with pytest.raises(DataError, match="not finite at sample 1"):
        whiteness([[0.0], [np.nan]])
