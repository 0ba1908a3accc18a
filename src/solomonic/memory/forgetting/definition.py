"""What `runs.py` computes, said slowly: every segmentation, and every run with its own statistics.

Tests hold the fast form to these. `Values` are what a detector observes: (context, symbol) or
vectors of losses.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SegmentEvidence = Callable[[Sequence[Any]], float]
"""Log marginal likelihood (nats) of consecutive values as one segment."""


def markov_evidence(alphabet: int, alpha: float) -> SegmentEvidence:
    """Of (context, symbol) pairs: the product of Dirichlet(alpha) predictions, one by one."""

    def evidence(values: Sequence[Any]) -> float:
        counts: dict[Any, list[int]] = {}
        total = 0.0
        for context, symbol in values:
            row = counts.setdefault(context, [0] * alphabet)
            total += math.log((row[symbol] + alpha) / (sum(row) + alpha * alphabet))
            row[symbol] += 1
        return total

    return evidence


def normal_evidence(mean: float, scale: float, strength: float, shape: float) -> SegmentEvidence:
    """Of vectors of losses: Student's t of a normal-inverse-gamma that is updated value by value
    (Murphy, "Conjugate Bayesian analysis of the Gaussian distribution", 2007)."""

    def evidence(values: Sequence[Any]) -> float:
        return sum(one_number(numbers) for numbers in zip(*values, strict=True))

    def one_number(numbers: Sequence[float]) -> float:
        kappa, alpha, mu, beta, total = strength, shape, mean, shape * scale**2, 0.0
        for x in numbers:
            df, square = 2 * alpha, beta * (kappa + 1) / (alpha * kappa)
            total += math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
            total -= 0.5 * math.log(df * math.pi * square)
            total -= (df + 1) / 2 * math.log1p((x - mu) ** 2 / (df * square))
            beta += kappa * (x - mu) ** 2 / (2 * (kappa + 1))
            mu = (kappa * mu + x) / (kappa + 1)
            kappa, alpha = kappa + 1, alpha + 0.5
        return total

    return evidence


def all_segmentations(
    values: Sequence[Any], hazards: Sequence[float], segment: SegmentEvidence
) -> tuple[float, np.ndarray]:
    """Log evidence of the values, and survival of steps 0 .. T, by all 2^(T-1) segmentations.

    Survival of step u is the probability that no change came at any step after u up to T (the
    next value, which is not there yet).
    """
    length = len(values)
    known = {(i, j): segment(values[i:j]) for i in range(length) for j in range(i + 1, length + 1)}
    logs, last = [], []
    for hazard in hazards:
        for cuts in itertools.product((False, True), repeat=length):
            # cuts[t - 1]: a change before value t, for t = 1 .. T.
            begins = [0, *(t for t in range(1, length + 1) if cuts[t - 1])]
            prior = sum(math.log(hazard if cut else 1 - hazard) for cut in cuts)
            ends = [*begins[1:], length]
            seen = sum(known[i, j] for i, j in zip(begins, ends, strict=True) if i < j)
            logs.append(prior + seen - math.log(len(hazards)))
            last.append(begins[-1])
    top = max(logs)
    weights = np.exp(np.array(logs) - top)
    survived = [weights[np.array(last) <= u].sum() / weights.sum() for u in range(length + 1)]
    return top + math.log(weights.sum()), np.array(survived)


def all_lineages(
    values: Sequence[Any],
    rate: tuple[float, float],
    segment: SegmentEvidence,
    regimes: Sequence[SegmentEvidence],
) -> tuple[float, np.ndarray]:
    """Log evidence, and the posterior of each regime for the next value, (regimes,), where every
    change leads to a new segment or, with the share `rate[1]`, to one of the known regimes alike.
    """
    hazard, share = rate
    length, count = len(values), len(regimes)
    logs, final = [], []
    for path in itertools.product(range(-2, count), repeat=length):
        # -2: no change before value t; -1: a new segment; k: regime k (t = 1 .. T).
        prior, seen, begin, label = 0.0, 0.0, 0, -1
        for t, step in enumerate(path, start=1):
            if step == -2:
                prior += math.log(1 - hazard)
                continue
            prior += math.log(hazard * (1 - share if step == -1 else share / count))
            seen += (segment if label == -1 else regimes[label])(values[begin:t])
            begin, label = t, step
        seen += (
            (segment if label == -1 else regimes[label])(values[begin:]) if values[begin:] else 0
        )
        logs.append(prior + seen)
        final.append(label)
    top = max(logs)
    weights = np.exp(np.array(logs) - top)
    found = [weights[np.array(final) == k].sum() / weights.sum() for k in range(count)]
    return top + math.log(weights.sum()), np.array(found)


def recursion(
    values: Sequence[Any], hazards: Sequence[float], segment: SegmentEvidence
) -> tuple[float, np.ndarray]:
    """The same as `all_segmentations` in T^2 steps, by the recursion over the last change: nothing
    is merged or left out. For lengths at which segmentations are too many."""
    length = len(values)
    predictive = np.full((length, length), -np.inf)  # of value t in the segment that began at i
    for i in range(length):
        sums = [0.0, *(segment(values[i : t + 1]) for t in range(i, length))]
        predictive[i, i:] = np.diff(sums)
    joint = np.zeros((len(hazards), length + 1))
    joint[:, 0] = 1 / len(hazards)
    total, rates = 0.0, np.array(hazards)
    for t in range(length):
        joint[:, :length] *= np.exp(predictive[:, t])
        evidence = joint.sum()
        total, joint = total + math.log(evidence), joint / evidence
        rows = joint.sum(axis=1)
        joint *= (1 - rates)[:, None]
        joint[:, t + 1] = rates * rows
    return total, np.cumsum(joint.sum(axis=0))
