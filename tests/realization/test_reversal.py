"""Running backwards and at other speeds: transposed covariances, twice is once, false noise."""

import numpy as np
import pytest

from realization.processes import close, four_states, innovations, random_process
from solomonic.core.errors import ConfigError
from solomonic.realization import (
    IndefiniteNoiseError,
    NotMinimalError,
    StateSpace,
    UnstableError,
    change_speed,
    expected_loss,
    innovations_form,
    kalman_filter,
    reverse,
    whiteness,
)


@pytest.mark.parametrize("seed", range(6))
def test_backward_covariances_are_the_forward_ones_transposed(seed: int) -> None:
    model = random_process(seed)
    turned = reverse(model)
    close(turned.autocovariance(20), model.autocovariance(20).swapaxes(1, 2), 1e-12)
    # The identity as it is written: E[y_t y_{t+k}ᵀ] = C̄ (Aᵀ)^{k-1} Cᵀ.
    for k in range(1, 6):
        power = np.linalg.matrix_power(model.A.T, k - 1)
        close(turned.C @ power @ model.C.T, model.autocovariance(6)[k].T, 1e-14)


def test_the_backward_model_is_causal_and_predicts_as_well() -> None:
    model = innovations()
    turned = reverse(model)
    assert turned.radius < 1
    assert np.linalg.eigvalsh(turned.noise())[0] > -1e-12
    # The entropy rate of a Gaussian process does not know the direction of time.
    assert expected_loss(turned, turned) == pytest.approx(expected_loss(model, model), abs=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_reversal_twice_is_the_identity(seed: int) -> None:
    model = random_process(seed)
    twice = reverse(reverse(model))
    for name in ("A", "C", "Q", "R", "S", "mean"):
        close(getattr(twice, name), getattr(model, name), 1e-12)


def test_a_path_played_backwards_belongs_to_the_backward_model() -> None:
    model = innovations()
    y = model.sample(6000, 0)[::-1]
    turned = innovations_form(reverse(model))
    assert whiteness(kalman_filter(turned, y).innovations).p_value > 0.01
    assert whiteness(kalman_filter(model, y).innovations).p_value < 1e-10


def test_reversal_refuses_what_has_no_past() -> None:
    with pytest.raises(UnstableError, match="modulus 1"):
        reverse(StateSpace([[1.0]], [[1.0]], [[1.0]], [[1.0]]))
    with pytest.raises(NotMinimalError, match=r"minimal\(\)"):
        reverse(StateSpace(np.eye(2) / 2, np.ones((1, 2)), np.diag([1.0, 0.0]), [[1.0]]))


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_a_whole_factor_is_the_process_at_every_such_sample(factor: int) -> None:
    model = four_states()
    fast = change_speed(model, factor)
    close(fast.autocovariance(4), model.autocovariance(4 * factor)[::factor], 1e-12)


def smooth(seed: int) -> StateSpace:
    """A process without negative poles whose noise is spread over all states."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((3, 3))
    A = np.array([[0.8, 0.3, 0.0], [-0.3, 0.8, 0.0], [0.0, 0.0, 0.6]])
    return StateSpace(A, random.standard_normal((2, 3)), noise @ noise.T + np.eye(3), np.eye(2))


@pytest.mark.parametrize("seed", range(3))
def test_half_speed_and_back(seed: int) -> None:
    model = smooth(seed)
    slow = change_speed(model, 0.5)
    close(slow.A @ slow.A, model.A, 1e-13)
    close(slow.state_covariance(), model.state_covariance(), 1e-12)
    again = change_speed(slow, 2)
    close(again.autocovariance(9), model.autocovariance(9), 1e-12)


def test_noise_that_no_process_has_raises_and_is_projected_only_when_asked() -> None:
    base = smooth(0)
    model = StateSpace(base.A, base.C, np.diag([1.0, 0.0, 0.1]), base.R)
    with pytest.raises(IndefiniteNoiseError, match=r"At speed 0.5 .* project=True"):
        change_speed(model, 0.5)
    assert change_speed(model, 0.5, project=True).radius < 1
    with pytest.raises(IndefiniteNoiseError):
        change_speed(innovations_form(base), 0.5)  # one noise a channel cannot drive half steps


def test_a_mode_that_alternates_has_no_half_step() -> None:
    with pytest.raises(UnstableError, match=r"eigenvalue -0.5, whose power 0.5"):
        change_speed(four_states(), 0.5)
    with pytest.raises(UnstableError, match="eigenvalue 0"):
        change_speed(StateSpace([[0.0]], [[1.0]], [[1.0]], [[1.0]]), 0.5)
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(ConfigError, match="above 0"):
            change_speed(four_states(), factor)
