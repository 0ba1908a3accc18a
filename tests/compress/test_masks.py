"""Masks have exactly the zeros asked for, in the pattern asked for, and empty no matrix."""

import numpy as np
import pytest
import torch

from solomonic.compress.masks import check, keep_mask, random_mask, vectors
from solomonic.compress.matrix import fits
from solomonic.compress.schedule import cubic, ramp
from solomonic.core import ConfigError


def importance(outputs: int, inputs: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)).square()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "vec16"])
@pytest.mark.parametrize("sparsity", [0.5, 0.6, 0.75])
def test_the_share_of_zeros_is_exact(pattern: str, sparsity: float) -> None:
    mask = keep_mask(importance(96, 130), sparsity, pattern)
    assert 1 - mask.float().mean() == pytest.approx(sparsity, abs=1e-3)
    assert fits(mask.numpy(), pattern)


def test_the_least_go() -> None:
    given = importance(8, 50)
    kept = keep_mask(given, 0.3)
    assert given[kept].min() > given[~kept].max()
    bands = vectors(importance(40, 30))
    kept = keep_mask(importance(40, 30), 0.5, "vec16")
    assert kept.shape == (40, 30)
    assert torch.equal(kept[0:1].expand(16, -1), kept[:16])
    assert torch.equal(kept[32:33].expand(8, -1), kept[32:])
    assert bands[kept[::16]].min() > bands[~kept[::16]].max()


def test_two_of_four_keeps_the_two_best_of_every_four() -> None:
    given = importance(16, 12)
    kept = keep_mask(given, 0.5, "2:4")
    assert torch.equal(kept.unflatten(1, (3, 4)).sum(2), torch.full((16, 3), 2))
    quads = given.unflatten(1, (3, 4))
    best = quads.topk(2, dim=2).values.amin(2, keepdim=True)
    assert torch.equal(kept.unflatten(1, (3, 4)), quads >= best)
    early = keep_mask(given, 0.25, "2:4")  # on the way there: only such as will go in the end
    assert not (~early & kept).any()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "vec16"])
def test_no_output_loses_all_its_weights(pattern: str) -> None:
    given = importance(64, 40)
    given[16:32] *= 1e-12
    kept = keep_mask(given, 0.9, pattern)
    assert kept.any(1).all()
    assert (~kept).float().mean() == pytest.approx(0.9, abs=2e-3)


def test_a_threshold_for_all_matrices_would_empty_the_small_one() -> None:
    large, small = importance(64, 64), 1e-4 * importance(64, 64, seed=1)
    together = keep_mask(torch.cat((large, small)), 0.5)[64:]
    assert together.float().mean() < 0.05  # all that is left is the best of every row
    assert keep_mask(small, 0.5).float().mean() == 0.5


def test_random_masks_know_nothing_of_the_weights() -> None:
    given = importance(64, 64)
    generator = torch.Generator().manual_seed(0)
    mask = random_mask((64, 64), 0.5, "vec16", generator)
    assert mask.float().mean() == 0.5 and fits(mask.numpy(), "vec16")
    lost, chosen = given[~mask].sum(), given[~keep_mask(given, 0.5)].sum()
    assert lost > 4 * chosen


@pytest.mark.parametrize(
    ("pattern", "sparsity", "message"),
    [
        ("3:4", 0.5, "pattern '3:4' is unknown"),
        ("vec16", 1.0, r"must lie in \[0, 1\)"),
        ("dense", 0.5, "choose unstructured"),
        ("2:4", 0.4, "at least half zeros"),
    ],
)
def test_what_does_not_go_together_is_refused(pattern: str, sparsity: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(pattern, sparsity)


def test_schedules() -> None:
    assert [ramp(p, 0.2, 0.6) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0, 0, 0.5, 1, 1]
    )
    shares = [cubic(p, 0.0, 0.5, 0.8) for p in np.linspace(0, 1, 21)]
    assert shares[0] == 0 and shares[-1] == 0.8 and shares == sorted(shares)
    assert cubic(0.25, 0.0, 0.5, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
