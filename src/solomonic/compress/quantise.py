"""Grids of few levels for matrices: choosing the scales, rounding, and the pair as one object.

A level times a scale is a weight; level 0 is zero on every grid, which sparsity needs. A row of
outputs shares a scale, or GROUP inputs of an output do (scales are then rounded to bfloat16, as the
kernels read them).
"""

import dataclasses

import torch
from torch import Tensor

from solomonic.compress.codebook import fit_codebook
from solomonic.compress.matrix import GROUP, LARGEST, QuantisedMatrix
from solomonic.core import Config, require

CLIPS = ("squares", "percentile", "max")
_SHARES = 28  # clipping points that are tried
_TINY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme(Config):
    """How a matrix is quantised.

    Raises:
        ConfigError: a value out of range, or settings that exclude each other.
    """

    bits: int = 4
    """8, 6, 5 or 4 a level."""
    grouped: bool = False
    """A scale for 64 inputs of an output instead of one for the whole row."""
    codebook: bool = False
    """Levels are indices of 32 centroids (Lloyd-Max) instead of uniform; takes bits = 5."""
    clip: str = "squares"
    """Where the grid ends: where the squared error is least, at a percentile, or at the largest."""
    percentile: float = 99.9
    """Of the magnitudes of a row, zeros left out."""

    def __post_init__(self) -> None:
        require(self.bits in LARGEST, f"bits = {self.bits} is unknown; use 8, 6, 5 or 4.")
        require(
            self.clip in CLIPS, f"clip = '{self.clip}' is unknown; use one of {', '.join(CLIPS)}."
        )
        require(0 < self.percentile <= 100, "percentile must lie above 0 and at most at 100.")
        require(
            not self.codebook or self.bits == 5,
            f"a codebook has 32 entries and takes bits = 5, not {self.bits}.",
        )
        require(
            not (self.codebook and self.grouped),
            "a codebook goes with a scale a row; leave grouped out.",
        )


@dataclasses.dataclass
class Grid:
    """The values that a matrix (N, K) may take.

    scales: (N,) or (N, ceil(K / GROUP)) float32.
    codebook: (32,) int8 ascending, or None: levels are uniform.
    """

    bits: int
    scales: Tensor
    codebook: Tensor | None = None

    def steps(self, inputs: int) -> Tensor:
        """(N, 1) or (N, K): each weight's scale."""
        return spread(self.scales, inputs)

    def levels(self, weight: Tensor) -> Tensor:
        """(N, K) int8, the nearest; a codebook's are indices. Half-way goes to the even level."""
        units = weight / self.steps(weight.shape[1])
        if self.codebook is None:
            largest = LARGEST[self.bits]
            return units.round().clamp_(-largest, largest).to(torch.int8)
        book = self.codebook.to(units.dtype)
        return torch.bucketize(units.contiguous(), (book[1:] + book[:-1]) / 2).to(torch.int8)

    def values(self, levels: Tensor) -> Tensor:
        """The weights (N, K) float32 of levels."""
        if self.codebook is not None:
            levels = self.codebook[levels.long()]
        return levels.to(torch.float32) * self.steps(levels.shape[1])

    def nearest(self, weight: Tensor) -> Tensor:
        """The weights rounded to the grid."""
        return self.values(self.levels(weight))

    def limit(self, inputs: int) -> tuple[Tensor, Tensor]:
        """The ends of the grid, each broadcasting with (N, K)."""
        steps = self.steps(inputs)
        if self.codebook is None:
            return -LARGEST[self.bits] * steps, LARGEST[self.bits] * steps
        book = self.codebook.to(steps.dtype)
        return book[0] * steps, book[-1] * steps


def fit_grid(weight: Tensor, scheme: Scheme) -> Grid:
    """The grid for a matrix (N, K) whose zeros are pruned weights: level 0 holds them exactly."""
    weight = weight.detach().float()
    if scheme.codebook:
        scales, book = fit_codebook(weight)
        return Grid(scheme.bits, scales, book)
    return Grid(scheme.bits, fit_scales(weight, scheme))


def fit_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """Scales of a uniform grid, (N,) or (N, ceil(K / GROUP)) float32; 1 where all is zero."""
    rows, shape = weight, weight.shape[:1]
    if scheme.grouped:
        groups = -(-weight.shape[1] // GROUP)
        fill = groups * GROUP - weight.shape[1]
        rows = torch.nn.functional.pad(weight, (0, fill)).reshape(-1, GROUP)
        shape = (len(weight), groups)
    largest = LARGEST[scheme.bits]
    top = rows.abs().amax(1)
    if scheme.clip == "percentile":
        scales = _percentile(rows, scheme.percentile) / largest
    elif scheme.clip == "squares":
        scales = _least_squares(rows, top, largest)
    else:
        scales = top / largest
    scales = torch.where(top > _TINY, scales, torch.ones_like(scales))
    if scheme.grouped:
        scales = scales.to(torch.bfloat16).float()
    return scales.reshape(shape)


def quantise(weight: Tensor, scheme: Scheme, pattern: str = "dense") -> QuantisedMatrix:
    """A matrix (N, K) in one step, without training: the scales that fit, and rounding.

    Args:
        pattern: of the zeros that are in `weight` already.

    Raises:
        ConfigError: the zeros do not have the pattern.
    """
    grid = fit_grid(weight, scheme)
    return as_matrix(grid.levels(weight.detach().float()), grid, pattern)


def as_matrix(levels: Tensor, grid: Grid, pattern: str) -> QuantisedMatrix:
    """Levels and grid as one object of numpy arrays."""
    book = None if grid.codebook is None else grid.codebook.cpu().numpy().copy()
    return QuantisedMatrix(
        levels.cpu().numpy().copy(), grid.scales.cpu().numpy().copy(), grid.bits, pattern, book
    )


def spread(scales: Tensor, inputs: int) -> Tensor:
    """Scales (N,) -> (N, 1); (N, groups) -> (N, inputs)."""
    if scales.dim() == 1:
        return scales[:, None]
    return scales.repeat_interleave(GROUP, dim=1)[:, :inputs]


def _percentile(rows: Tensor, percent: float) -> Tensor:
    """(R,) the percentile of each row's magnitudes, zeros left out."""
    ordered = rows.abs().sort(dim=1, descending=True).values
    count = (ordered > 0).sum(1)
    index = ((1 - percent / 100) * count).long().clamp(max=rows.shape[1] - 1)
    return ordered.gather(1, index[:, None])[:, 0]


def _least_squares(rows: Tensor, top: Tensor, largest: int) -> Tensor:
    """(R,) scales of least squared error: a search over where to clip, then the exact best scale
    for the levels found, twice."""
    best = top / largest
    least = _error(rows, best, largest)
    for share in torch.linspace(0.3, 1.0, _SHARES)[:-1].tolist():
        best, least = _better(rows, share * top / largest, best, least, largest)
    for _ in range(2):
        levels = (rows / best.clamp(min=_TINY)[:, None]).round_().clamp_(-largest, largest)
        refined = (rows * levels).sum(1) / (levels * levels).sum(1).clamp(min=1.0)
        best, least = _better(rows, refined, best, least, largest)
    return best


def _better(
    rows: Tensor, tried: Tensor, best: Tensor, least: Tensor, largest: int
) -> tuple[Tensor, Tensor]:
    error = _error(rows, tried, largest)
    better = (error < least) & (tried > 0)
    return torch.where(better, tried, best), torch.where(better, error, least)


def _error(rows: Tensor, scales: Tensor, largest: int) -> Tensor:
    steps = scales.clamp(min=_TINY)[:, None]
    levels = (rows / steps).round_().clamp_(-largest, largest)
    return (levels.mul_(steps).sub_(rows)).square_().sum(1)
