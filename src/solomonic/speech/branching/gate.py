"""Decisions between branches that can be learned: soft in training, exactly 0 or 1 at the end.

A hard concrete gate (Louizos et al., arXiv 1712.01312): a sigmoid of a logit with logistic noise,
stretched beyond [0, 1] and clipped, so that confident decisions are exactly 0 or 1 in training too
and a frame of weight 0 need not be computed.
"""

import math

import torch
from torch import Tensor

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3
_EDGE = TEMPERATURE * math.log(-LOW / HIGH)


def logistic_noise(like: Tensor) -> Tensor:
    """Standard logistic draws of the shape of `like`: the difference of two Gumbel draws."""
    u = torch.rand_like(like).clamp(1e-6, 1 - 1e-6)
    return u.log() - (-u).log1p()


def soft(logits: Tensor, noise: Tensor) -> Tensor:
    """Weights in [0, 1], exactly 0 or 1 with a probability that grows with the logit's size."""
    inner = torch.sigmoid((logits + noise) / TEMPERATURE)
    return (inner * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(logits: Tensor) -> Tensor:
    """The probability that the weight of `soft` is above 0, so that the large branch is run."""
    return torch.sigmoid(logits - _EDGE)


def hard(logits: Tensor) -> Tensor:
    """The decisions of inference, 0.0 or 1.0: the large branch is run where training runs it more
    often than not."""
    return (logits > _EDGE).to(logits.dtype)
