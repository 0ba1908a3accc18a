"""Regularisers whose zeros are the levels: weights walk to the grid while they are trained.

ACosR (Nguyen et al., Interspeech 2020), with the phase such that zero is a level:
R = sum |sin(pi w / step)|; published snippets often have the cosine without its phase, whose zeros
lie half-way between levels, so that no weight could be zero. R is multiplied by step / pi, which
makes its slope at most 1 whatever the bits. MRACos (Zhen et al., arXiv 2206.15408) is the same
between centroids that are not evenly spaced; its hard compressor, which puts weights onto their
centroids now and then, is `Compressor`'s.
"""

import math

import torch
from torch import Tensor

from solomonic.compress.quantise import Grid


def periodic(weight: Tensor, grid: Grid) -> Tensor:
    """The sum of the distances to the grid, each bent into half a sine wave; in units of weight.

    Args:
        weight: (N, K); what lies beyond the grid's ends is pulled back to them.
    """
    steps = grid.steps(weight.shape[1])
    low, high = grid.limit(weight.shape[1])
    outside = (weight - high).clamp(min=0) + (low - weight).clamp(min=0)
    inside = torch.minimum(torch.maximum(weight, low), high)
    if grid.codebook is None:
        waves = (inside * (math.pi / steps)).sin().abs() * (steps / math.pi)
        return waves.sum() + outside.sum()
    book = grid.codebook.to(weight.dtype)
    below = torch.bucketize((inside.detach() / steps).contiguous(), book, right=True) - 1
    below = below.clamp(0, len(book) - 2)
    start, gap = book[below] * steps, (book[below + 1] - book[below]) * steps
    waves = (math.pi * (inside - start) / gap).sin().abs() * (gap / math.pi)
    return waves.sum() + outside.sum()
