"""Linear systems: impulse responses, simulation in pieces, minimality, canonical forms, splits."""

import numpy as np
import pytest

from realization.processes import close, random_linear, random_process
from solomonic.core.errors import DataError, ShapeError
from solomonic.realization import (
    Linear,
    NotMinimalError,
    TooFewSamplesError,
    UnstableError,
    canonical,
    ho_kalman,
    is_minimal,
    memory,
    minimal,
    simulate,
    split_memory,
)
from solomonic.realization.canonical import modal_map


def test_an_impulse_gives_the_impulse_response() -> None:
    system = random_linear(0)
    inputs = np.zeros((9, 2))
    inputs[0, 1] = 1
    close(simulate(system, inputs)[0], system.markov(9)[:, :, 1], 1e-14)


def test_a_cut_simulation_equals_a_whole_one() -> None:
    system, random = random_linear(1), np.random.default_rng(0)
    inputs, start = random.standard_normal((13, 2)), random.standard_normal(6)
    whole, last = simulate(system, inputs, start)
    first, middle = simulate(system, inputs[:5], start)
    second, end = simulate(system, inputs[5:], middle)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(end, last)
    assert simulate(system, np.zeros((0, 2)), start)[0].shape == (0, 3)


def test_the_transfer_function_is_the_transform_of_the_response() -> None:
    system, w = random_linear(2), np.array([0.0, 0.3, 2.0])
    powers = np.exp(-1j * w[:, None] * np.arange(400))
    expected = np.tensordot(powers, system.markov(400), 1)
    assert np.abs(system.response(w) - expected).max() < 1e-12


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [14, 40])
def test_ho_kalman_recovers_a_system(seed: int, count: int) -> None:
    system = random_linear(seed, n=5)
    found = ho_kalman(system.markov(count))
    assert found.order == 5
    response = system.markov(60)
    assert np.abs(found.markov(60) - response).max() <= 1e-14 * 10 * np.abs(response).max()
    assert np.abs(found.poles() - system.poles()).max() < 1e-12


def test_ho_kalman_of_one_channel_and_of_nothing() -> None:
    assert ho_kalman(0.5 ** np.arange(9)).order == 1
    assert ho_kalman([2.0, 0, 0, 0]).order == 0


def test_ho_kalman_refuses_what_does_not_show_its_rank() -> None:
    response = random_linear(0, n=6, inputs=1, outputs=1).markov(30)
    with pytest.raises(TooFewSamplesError, match="full rank"):
        ho_kalman(response[:8])
    with pytest.raises(NotMinimalError, match="asked for is 7"):
        ho_kalman(response, 7)
    with pytest.raises(TooFewSamplesError, match="at least 3"):
        ho_kalman(response[:2])
    with pytest.raises(DataError, match="NaN"):
        ho_kalman([1.0, np.nan, 0.0, 0.0])


@pytest.mark.parametrize("form", ["observable", "controllable", "modal"])
@pytest.mark.parametrize("seed", range(3))
def test_canonical_maps_keep_markov_parameters(form: str, seed: int) -> None:
    system = random_linear(seed)
    found = canonical(system, form)
    close(found.system.markov(30), system.markov(30), 1e-12)
    close(found.map @ system.A @ np.linalg.inv(found.map), found.system.A, 1e-12)


@pytest.mark.parametrize("form", ["observable", "controllable", "modal"])
def test_canonical_maps_keep_autocovariances(form: str) -> None:
    process = random_process(0)
    found = canonical(process, form).system
    close(found.autocovariance(20), process.autocovariance(20), 1e-11)


def test_the_observable_form_of_one_output_is_a_companion() -> None:
    found = canonical(random_linear(3, n=4, inputs=1, outputs=1), "observable").system
    close(found.C, np.array([[1.0, 0, 0, 0]]), 1e-12)
    close(found.A[:3], np.eye(4)[1:], 1e-11)
    turned = canonical(random_linear(3, n=4, inputs=1, outputs=1), "controllable").system
    close(turned.B, np.array([[1.0], [0], [0], [0]]), 1e-12)
    close(turned.A[:, :3], np.eye(4)[:, 1:], 1e-11)


def test_modal_blocks() -> None:
    A = np.array([[0.0, 1.0, 0.3], [-0.5, 0.4, 0.1], [0.0, 0.0, 0.8]])
    change = modal_map(A)
    blocks = change @ A @ np.linalg.inv(change)
    assert np.abs(blocks[0, 1:]).max() < 1e-14
    assert blocks[1, 1] == pytest.approx(blocks[2, 2])
    assert blocks[1, 2] == pytest.approx(-blocks[2, 1])
    with pytest.raises(NotMinimalError, match="repeated"):
        modal_map(np.array([[0.5, 1.0], [0.0, 0.5]]))


def test_hidden_states_are_refused_and_removed() -> None:
    small = random_linear(4, n=3)
    random = np.random.default_rng(0)
    A = np.zeros((5, 5))
    A[:3, :3], A[3, 3], A[4, 4] = small.A, 0.5, -0.4
    A[:3, 3] = 1.0  # drives the rest but is itself driven by nothing
    C = np.hstack([small.C, np.ones((3, 1)), np.zeros((3, 1))])
    B = np.vstack([small.B, np.zeros((1, 2)), np.ones((1, 2))])
    mixed = Linear(A, B, C, small.D).transform(random.standard_normal((5, 5)))
    assert not is_minimal(mixed)
    for form in ("observable", "controllable"):
        with pytest.raises(NotMinimalError, match=r"call minimal\(\)"):
            canonical(mixed, form)
    found = minimal(mixed)
    assert found.order == 3
    assert is_minimal(found)
    close(found.markov(20), small.markov(20), 1e-12)


def nilpotent_and_fading(seed: int) -> np.ndarray:
    A = np.zeros((13, 13))
    A[:10, :10] = np.diag(np.ones(9), 1)
    A[3, 4] = 0  # blocks of 4 and 6
    A[10:, 10:] = np.diag([0.9, 0.5, -0.2])
    change = np.linalg.qr(np.random.default_rng(seed).standard_normal((13, 13)))[0]
    change = change @ np.diag(np.linspace(1, 2, 13))
    return change @ A @ np.linalg.inv(change)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_split_where_eigenvalues_cannot(seed: int) -> None:
    A = nilpotent_and_fading(seed)
    rounding = np.sort(np.abs(np.linalg.eigvals(A)))[:10]
    assert rounding.max() > 1e-4  # what a rule on eigenvalues would have to judge
    split = split_memory(A)
    assert split.ranks == (13, 11, 9, 7, 5, 4, 3)
    assert split.deadbeat == 6
    close(np.linalg.matrix_power(split.nilpotent, 6), np.zeros((10, 10)), 1e-13)
    assert np.abs(np.linalg.matrix_power(split.nilpotent, 5)).max() > 1e-3
    close(np.sort(np.linalg.eigvals(split.invertible).real), np.array([-0.2, 0.5, 0.9]), 1e-12)
    both = split.map @ A @ np.linalg.inv(split.map)
    assert np.abs(both[:10, 10:]).max() < 1e-12
    assert np.abs(both[10:, :10]).max() < 1e-12


def test_the_memory_of_a_window_and_of_a_decay() -> None:
    window = Linear(np.diag(np.ones(4), -1), np.eye(5)[:, :1], np.ones((1, 5)))
    assert memory(window).deadbeat == 5
    assert memory(window).half_lives.size == 0
    decay = Linear(np.diag([0.5, 0.25]), np.ones((2, 1)), np.ones((1, 2)))
    assert memory(decay).deadbeat == 0
    close(memory(decay).half_lives, np.array([1.0, 0.5]), 1e-12)
    turn = Linear([[0.0, 1.0], [-1.0, 0.0]], np.ones((2, 1)), np.ones((1, 2)))
    found = memory(turn)
    assert np.isinf(found.half_lives).all()
    close(found.periods, np.array([4.0, 4.0]), 1e-12)
    assert found.singular_values is None
    with pytest.raises(UnstableError, match="grows by 1.1"):
        memory(Linear([[1.1]], [[1.0]], [[1.0]]))


def test_bad_matrices_are_named() -> None:
    with pytest.raises(ShapeError, match="A must be square"):
        Linear([[1.0, 2.0]], [[1.0]], [[1.0]])
    with pytest.raises(ShapeError, match="B must have 1 rows"):
        Linear([[1.0]], [[1.0], [2.0]], [[1.0]])
    with pytest.raises(DataError, match="C holds NaN"):
        Linear([[1.0]], [[1.0]], [[np.nan]])
    with pytest.raises(ShapeError, match="real numbers"):
        Linear([[1j]], [[1.0]], [[1.0]])  # pyright: ignore
    with pytest.raises(ShapeError, match="singular"):
        Linear([[1.0]], [[1.0]], [[1.0]]).transform([[0.0]])
