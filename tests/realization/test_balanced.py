"""Gramians, balancing, Glover's bound, and the same for processes."""

import numpy as np
import pytest
import scipy.linalg

from realization.processes import close, innovations, random_linear, random_process
from solomonic.realization import (
    Linear,
    NotMinimalError,
    UnstableError,
    balance,
    canonical_correlations,
    expected_loss,
    gramians,
    hankel_singular_values,
    reduce,
    reverse,
)
from solomonic.realization.balanced import as_linear
from solomonic.realization.hokalman import hankel
from solomonic.realization.matrices import lyapunov


@pytest.mark.parametrize("seed", range(4))
def test_gramians_solve_their_equations(seed: int) -> None:
    system = random_linear(seed)
    found = gramians(system)
    expected = scipy.linalg.solve_discrete_lyapunov(system.A, system.B @ system.B.T)
    close(found.reached, np.asarray(expected), 1e-12)
    close(system.A.T @ found.seen @ system.A + system.C.T @ system.C, found.seen, 1e-12)


def test_gramians_of_a_diagonal_layer_in_closed_form() -> None:
    a, b = np.array([0.9, 0.5, -0.3]), np.array([[1.0], [2.0], [0.5]])
    system = Linear(np.diag(a), b, np.ones((1, 3)))
    close(gramians(system).reached, (b @ b.T) / (1 - np.outer(a, a)), 1e-13)


def test_doubling_ends_on_nilpotent_and_slow_systems() -> None:
    shift = np.diag(np.ones(5), 1)
    np.testing.assert_array_equal(lyapunov(shift, np.eye(6)), np.diag([6.0, 5, 4, 3, 2, 1]))
    close(lyapunov(np.array([[1 - 1e-9]]), np.eye(1)), np.array([[0.5e9]]), 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_balanced_gramians_are_one_diagonal_matrix(seed: int) -> None:
    system = random_linear(seed)
    found = balance(system)
    both = gramians(found.system)
    close(both.reached, np.diag(found.singular_values), 1e-10)
    close(both.seen, np.diag(found.singular_values), 1e-10)
    close(found.system.markov(20), system.markov(20), 1e-11)
    # The infinite Hankel matrix has these singular values.
    blocks = hankel(system.markov(400)[1:], 190, 190)
    close(np.linalg.svd(blocks, compute_uv=False)[:6], found.singular_values, 1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_truncation_keeps_glovers_bound(seed: int) -> None:
    system = random_linear(seed, n=8)
    w = np.linspace(0, np.pi, 600)
    full = system.response(w)
    for order in range(8):
        small = reduce(system, order)
        assert isinstance(small.system, Linear)
        assert small.system.order == order
        assert small.system.radius < 1
        error = np.linalg.norm(full - small.system.response(w), 2, (1, 2)).max()
        assert small.bound is not None
        assert error <= small.bound * (1 + 1e-9)
        assert small.bound == pytest.approx(2 * small.singular_values[order:].sum())
        # and no system of that order comes closer than the first value dropped
        assert error >= small.singular_values[order] * (1 - 1e-2) / 1.5


def test_a_tolerance_chooses_the_order() -> None:
    system = random_linear(0, n=8)
    small = reduce(system, tolerance=0.05)
    assert small.bound is not None
    assert small.bound <= 0.05 * 2 * small.singular_values.sum()
    assert reduce(system, small.system.order - 1).bound > 0.05 * 2 * small.singular_values.sum()
    assert reduce(system, tolerance=0.0).system.order == 8


def test_what_cannot_be_balanced_is_refused() -> None:
    hidden = Linear(np.diag([0.5, 0.4]), [[1.0], [1.0]], [[1.0, 0.0]])
    with pytest.raises(NotMinimalError, match="Only 1 of 2 states"):
        balance(hidden)
    assert reduce(hidden, 1).bound == pytest.approx(0, abs=1e-7)
    with pytest.raises(NotMinimalError, match="only 1 carry"):
        reduce(hidden, 2)
    with pytest.raises(UnstableError, match="A Gramian needs a stable system"):
        gramians(Linear([[1.0]], [[1.0]], [[1.0]]))
    with pytest.raises(NotMinimalError, match="an order or a tolerance"):
        reduce(hidden)


def test_a_process_is_reduced_by_its_canonical_correlations() -> None:
    model = innovations()
    values = canonical_correlations(model)
    assert values[0] < 1
    close(canonical_correlations(model.transform(np.diag([1.0, 3, 0.1, 7]))), values, 1e-10)
    close(canonical_correlations(reverse(model)), values, 1e-10)
    whole = reduce(model, 4)
    close(whole.system.autocovariance(20), model.autocovariance(20), 1e-11)
    losses = [expected_loss(reduce(model, n).system, model) for n in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[4] == pytest.approx(expected_loss(model, model), abs=1e-10)
    assert reduce(model, tolerance=0.5).system.order == int((values > 0.5).sum())


@pytest.mark.parametrize("seed", range(4))
def test_reduced_processes_stay_processes(seed: int) -> None:
    model = random_process(seed, n=6)
    for order in range(1, 6):
        small = reduce(model, order).system
        assert small.radius < 1
        close(small.autocovariance(1), model.autocovariance(1), 1e-9)
        close(small.mean, model.mean, 0)


def test_hankel_values_of_a_process_are_of_its_innovations_form() -> None:
    model = innovations()
    close(hankel_singular_values(model), hankel_singular_values(as_linear(model)), 1e-12)
