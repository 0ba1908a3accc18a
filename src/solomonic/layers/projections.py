"""Query, key and value projections shared by every attention layer."""

from typing import Protocol

import torch
from torch import Tensor

from solomonic.layers.linear import Linear


class Projections(Protocol):
    """What `project` needs of a layer."""

    query: Linear
    key: Linear
    value: Linear
    heads: int
    groups: int


def project(layer: Projections, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (B, T, H, D) and key-value pairs (B, T, 2, G, D) of x (B, T, d)."""
    return layer.query(x).unflatten(-1, (layer.heads, -1)), project_pairs(layer, x)


def project_pairs(layer: Projections, x: Tensor) -> Tensor:
    """Key-value pairs (B, T, 2, G, D) of x (B, T, d)."""
    pairs = torch.stack((layer.key(x), layer.value(x)), dim=2)
    return pairs.unflatten(-1, (layer.groups, -1))
