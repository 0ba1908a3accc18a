"""Lloyd-Max centroids: 32 values where the weights are, each an int8, instead of a uniform grid.

Source: Lloyd, IEEE Trans. IT 1982 (written 1957); as used with 5-bit indices into an int8 table by
S8BQAT (Zhen et al., arXiv 2206.15408). Rows are first scaled so that their largest weight is 127;
what is left are 255 integers, so that the centroids are found on a histogram, exactly and quickly.
"""

from itertools import pairwise

import torch
from torch import Tensor

SIZE = 32
_LARGEST = 127
_ROUNDS = 40


def fit_codebook(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(scales (N,) float32, codebook (SIZE,) int8, strictly ascending and with a zero).

    Args:
        weight: (N, K) float32.
    """
    top = weight.abs().amax(1)
    scales = torch.where(top > 0, top / _LARGEST, torch.ones_like(top))
    units = (weight / scales[:, None]).round().long() + _LARGEST
    # A unit of a row with large weights is a larger error than one of a row with small ones.
    cost = (scales.double() ** 2)[:, None].expand_as(units)
    counts = torch.bincount(units.flatten(), cost.flatten(), minlength=2 * _LARGEST + 1)
    return scales, centroids(counts).to(weight.device)


def centroids(counts: Tensor) -> Tensor:
    """The codebook of a histogram (255,) over -127..127: c_j is the mean of what is nearest to it.

    Zero stays a centroid, and what is zero already (pruned) has no say in where the others go.
    """
    counts = counts.cpu().double().clone()
    values = torch.arange(-_LARGEST, _LARGEST + 1, dtype=torch.float64)
    counts[_LARGEST] = 0.0
    if counts.sum() == 0:
        return _distinct(torch.linspace(-_LARGEST, _LARGEST, SIZE, dtype=torch.float64))
    # The optimal density of centroids goes with the cube root of that of the values.
    mass = torch.cumsum(counts ** (1 / 3), 0)
    wanted = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE * mass[-1]
    found = values[torch.searchsorted(mass, wanted).clamp(max=len(values) - 1)]
    for _ in range(_ROUNDS):
        found[found.abs().argmin()] = 0.0
        nearest = torch.bucketize(values, (found[1:] + found[:-1]) / 2)
        total = torch.zeros(SIZE, dtype=torch.float64).index_add_(0, nearest, counts)
        sums = torch.zeros(SIZE, dtype=torch.float64).index_add_(0, nearest, counts * values)
        moved = torch.where(total > 0, sums / total.clamp(min=1e-300), found)
        moved[found.abs().argmin()] = 0.0
        moved = moved.sort().values
        if torch.equal(moved, found):
            break
        found = moved
    return _distinct(found)


def _distinct(found: Tensor) -> Tensor:
    """SIZE different int8, zero among them; where two fell together a free value between the most
    distant neighbours comes in."""
    chosen = set(found.round().long().clamp(-_LARGEST, _LARGEST).tolist()) | {0}
    while len(chosen) > SIZE:
        chosen.discard(max((c for c in chosen if c), key=abs))
    while len(chosen) < SIZE:
        ends = sorted(chosen | {-_LARGEST - 1, _LARGEST + 1})
        gap, low = max((b - a, a) for a, b in pairwise(ends))
        chosen.add(low + gap // 2)
    return torch.tensor(sorted(chosen), dtype=torch.int8)
