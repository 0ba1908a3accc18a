"""The mean over orders of reading: the closed form against going through all orders."""

import itertools
import math

import pytest
import torch

from solomonic.core import ConfigError, ShapeError
from solomonic.state import merge


def documents(count: int, heads: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, heads, 4, 2, generator=generator, dtype=torch.float64)
    return states, torch.rand(count, heads, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_the_closed_form_is_the_mean_over_all_orders(count: int) -> None:
    states, decays = documents(count, seed=count)
    orders = list(itertools.permutations(range(count)))
    brute = merge.scalar_orders(states, decays, orders)
    assert (merge.scalar_mean(states, decays) - brute).abs().max() < 1e-12


def test_two_documents_by_hand() -> None:
    states, (a, b) = torch.tensor([[[3.0]], [[5.0]]]), (0.5, 0.25)
    mean = merge.scalar_mean(states, torch.tensor([[a], [b]]))
    assert mean.item() == (3 * (1 + b) + 5 * (1 + a)) / 2


def test_one_order_is_reading_one_document_after_the_other() -> None:
    """A recurrence over the tokens of all documents, one token at a time."""
    generator = torch.Generator().manual_seed(5)
    decay = torch.rand(3, 7, generator=generator, dtype=torch.float64)  # documents, tokens
    put = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    alone, together = [], torch.zeros((), dtype=torch.float64)
    for d in range(3):
        x = torch.zeros((), dtype=torch.float64)
        for t in range(7):
            x = decay[d, t] * x + put[d, t]
            together = decay[d, t] * together + put[d, t]
        alone.append(x)
    states, decays = torch.stack(alone).view(3, 1, 1), decay.prod(dim=1).view(3, 1)
    merged = merge.scalar_orders(states, decays, [(0, 1, 2)])
    assert (merged.squeeze() - together).abs() < 1e-14


def test_it_does_not_matter_in_which_order_documents_are_given() -> None:
    states, decays = documents(5)
    order = [3, 0, 4, 1, 2]
    one, other = merge.scalar_mean(states, decays), merge.scalar_mean(states[order], decays[order])
    assert (one - other).abs().max() < 1e-14


def test_matrices_that_are_scalars_give_the_closed_form() -> None:
    states, decays = documents(4)
    matrices = decays[..., None, None] * torch.eye(4, dtype=torch.float64)
    assert (
        merge.matrix_mean(states, matrices) - merge.scalar_mean(states, decays)
    ).abs().max() < 1e-12


def test_matrices_do_not_commute_and_all_orders_are_gone_through() -> None:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, 1, 2, 1, generator=generator, dtype=torch.float64)
    turns = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    by_hand = torch.zeros(1, 2, 1, dtype=torch.float64)
    for i, j, k in itertools.permutations(range(3)):
        by_hand += turns[k] @ (turns[j] @ states[i] + states[j]) + states[k]
    assert (merge.matrix_mean(states, turns) - by_hand / 6).abs().max() < 1e-12


def test_many_matrices_are_turned_around_in_rotations() -> None:
    count = 8
    assert math.factorial(count) > merge.MOST_ORDERS
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(count, 1, 2, 1, generator=generator)
    turns = torch.rand(count, 1, 2, 2, generator=generator) / 2
    rotated = merge.matrix_orders(states, turns, merge.rotations(count))
    assert torch.equal(merge.matrix_mean(states, turns), rotated)
    assert merge.rotations(3) == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


def test_elementary_symmetric_polynomials_by_hand() -> None:
    assert merge.symmetric(torch.tensor([2.0, 3.0, 5.0])).tolist() == [1, 10, 31, 30]


def test_the_top_set_is_the_most_surprising_first_and_of_equals_the_older() -> None:
    eps = torch.tensor([1.0, 3.0, -torch.inf, 3.0, 2.0])
    time = torch.tensor([0, 9, -1, 4, 5])
    (kept,), best, when = merge.top_set([torch.arange(5.0)], eps, time, 3)
    assert (kept.tolist(), best.tolist(), when.tolist()) == ([3, 1, 4], [3, 3, 2], [4, 9, 5])


def test_a_top_set_that_is_not_full_says_so() -> None:
    (kept,), eps, when = merge.top_set(
        [torch.ones(2, 3)], torch.tensor([1.0, -torch.inf]), torch.tensor([4, -1]), 3
    )
    assert kept.shape == (3, 3)
    assert eps.tolist() == [1.0, -torch.inf, -torch.inf]
    assert when.tolist() == [4, -1, -1]


def test_the_last_entries_go_back_into_the_document_before() -> None:
    first, short = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([0.0, 0.0, 7.0])
    assert merge.last_entries([first, short], [6, 1], 3).tolist() == [5, 6, 7]
    assert merge.last_entries([short, short], [1, 1], 3).tolist() == [0, 7, 7]


def test_what_does_not_belong_together_is_refused() -> None:
    states, decays = documents(3)
    with pytest.raises(ShapeError, match="decays"):
        merge.scalar_mean(states, decays[:2])
    with pytest.raises(ConfigError, match="mean, rotations, order"):
        merge.orders_of(3, "all")
