"""The closed forms of a layer's Gramians against the recursions they stand for."""

import numpy as np
import pytest
import scipy.linalg
import torch

from solomonic.lm.probe.gramians import effective_rank, hankel, text_gramians
from solomonic.realization import (
    Linear,
    UnstableError,
    diagonal_gramians,
    gramians,
    hankel_singular_values,
)


def signals(seed: int, length: int = 40, heads: int = 3, size: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    log_decay = -torch.rand(length, heads, generator=generator, dtype=torch.float64)
    steps = 0.1 + torch.rand(length, heads, generator=generator, dtype=torch.float64)
    b, c = (torch.randn(length, size, generator=generator, dtype=torch.float64) for _ in range(2))
    return log_decay, steps, b, c


@pytest.mark.parametrize("seed", range(3))
def test_the_means_are_those_of_the_recursions(seed: int) -> None:
    log_decay, steps, b, c = signals(seed)
    found = text_gramians(log_decay, steps, b, c, places=8)
    length, heads = log_decay.shape
    W, ups = torch.zeros(heads, 4, 4).double(), []
    for t in range(length):
        drive = steps[t].square()[:, None, None] * torch.outer(b[t], b[t])
        W = (2 * log_decay[t]).exp()[:, None, None] * W + drive
        ups.append(W)
    torch.testing.assert_close(found.mean_reached, torch.stack(ups).mean(0))
    V, downs = torch.zeros(heads, 4, 4).double(), []
    for t in range(length - 1, -1, -1):
        fade = (2 * log_decay[t + 1]).exp() if t + 1 < length else torch.ones(heads)
        V = fade[:, None, None] * V + torch.outer(c[t], c[t])
        downs.append(V)
    downs.reverse()
    torch.testing.assert_close(found.mean_seen, torch.stack(downs).mean(0))
    for place, reached, seen in zip(found.places.tolist(), found.reached, found.seen, strict=True):
        torch.testing.assert_close(reached, ups[place - 1])
        torch.testing.assert_close(seen, downs[place])


def test_a_constant_layer_has_the_gramians_of_the_linear_system() -> None:
    length, a = 4000, 0.9
    c, b = torch.tensor([0.5, -1.0, 2.0]).double(), torch.tensor([1.0, 0.3, -0.2]).double()
    logs = torch.full((length, 1), float(np.log(a))).double()
    ones = torch.ones(length, 1).double()
    found = text_gramians(logs, ones, b.expand(length, 3), c.expand(length, 3), places=4)
    system = Linear(a * np.eye(3), b[:, None].numpy(), c[None].numpy())
    middle = len(found.places) // 2
    np.testing.assert_allclose(found.reached[middle, 0], gramians(system).reached, atol=1e-10)
    np.testing.assert_allclose(found.seen[middle, 0], gramians(system).seen, atol=1e-10)
    values = hankel(found.reached[middle, 0], found.seen[middle, 0])
    np.testing.assert_allclose(values, hankel_singular_values(system), atol=1e-6)


def test_effective_rank_counts_directions() -> None:
    plain = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])).double()
    assert float(effective_rank(plain)) == pytest.approx(3)
    assert float(effective_rank(plain.new_zeros(4, 4))) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_diagonal_gramians_solve_lyapunov(seed: int) -> None:
    chance = np.random.default_rng(seed)
    n = 6
    a = chance.uniform(0.2, 0.99, n) * np.exp(1j * chance.uniform(-3, 3, n))
    B = chance.standard_normal((n, 2)) + 1j * chance.standard_normal((n, 2))
    C = chance.standard_normal((3, n)) + 1j * chance.standard_normal((3, n))
    reached, seen = diagonal_gramians(a, B, C)
    A = np.diag(a)
    np.testing.assert_allclose(
        reached, scipy.linalg.solve_discrete_lyapunov(A, B @ B.conj().T), rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(
        seen, scipy.linalg.solve_discrete_lyapunov(A.conj().T, C.conj().T @ C), rtol=1e-10,
        atol=1e-10,
    )  # fmt: skip


def test_a_pole_outside_the_circle_is_refused() -> None:
    with pytest.raises(UnstableError, match="within the unit circle"):
        diagonal_gramians([0.5, 1.0], np.ones((2, 1)), np.ones((1, 2)))
