"""Sequential detection of change with a bound on false alarms that needs no model of the noise.

At every sample the density of recent errors over the density of reference errors is estimated from
the past alone (least squares on Gaussian bumps: uLSIF, Kanamori, Hido and Sugiyama 2009), and its
logarithm is accumulated by a cumulative sum. While nothing changes the ratio is 1 on average
whatever it is made of, so the mean time to a false alarm is at least exp(threshold) (Lorden 1971).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.config import Config, require
from solomonic.realization.errors import TooFewSamplesError
from solomonic.realization.matrices import Array, series


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeConfig(Config):
    """Settings of `find_changes`."""

    false_alarms: float = 1e-3
    """Most alarms a sample, on average, while nothing changes."""
    window: int = 50
    """Recent samples that the density is estimated on."""
    bumps: int = 50
    """Centres of the estimate, taken from the reference."""
    seed: int = 0
    """Of the choice of centres."""

    def __post_init__(self) -> None:
        require(0 < self.false_alarms < 1, "false_alarms must lie between 0 and 1.")
        require(self.window >= 5, "window must be at least 5 samples.")
        require(self.bumps >= 2, "bumps must be at least 2.")


@dataclasses.dataclass(frozen=True, eq=False)
class Changes:
    """What was found in a series of T samples.

    Attributes:
        score: (T,) the cumulative sum in nats; it starts again from 0 after an alarm.
        threshold: log(1 / false_alarms).
        alarms: samples where the score reached the threshold.
        onsets: for each alarm the sample where its climb began: about where the change was.
    """

    score: Array
    threshold: float
    alarms: tuple[int, ...]
    onsets: tuple[int, ...]

    def shifted(self, by: int) -> Changes:
        """As found in a series with `by` more samples before it, scored 0."""
        score = np.concatenate([np.zeros(by), self.score])
        moved = (tuple(place + by for place in places) for places in (self.alarms, self.onsets))
        return Changes(score, self.threshold, *moved)


def find_changes(
    errors: ArrayLike, reference: ArrayLike, config: ChangeConfig | None = None
) -> Changes:
    """Alarms where `errors` (T, m) stop being distributed as `reference` (N, m).

    Both are taken as independent samples (whiten them first: prediction errors are). The reference
    must be long enough for its averages: 20 samples a bump are asked for.

    Raises:
        TooFewSamplesError: the reference is shorter than that.
    """
    config = config or ChangeConfig()
    known = series("reference", reference)
    rows = series("errors", errors, known.shape[1])
    if len(known) < 20 * config.bumps:
        config = config.replace(bumps=max(2, len(known) // 20))
    if len(known) < 40:
        raise TooFewSamplesError(f"{len(known)} reference errors are too few; give at least 40.")
    ratio = _Ratio(known, config)
    threshold = math.log(1 / config.false_alarms)
    score = np.zeros(len(rows))
    alarms: list[int] = []
    onsets: list[int] = []
    level, climb = 0.0, 0
    for t, features in enumerate(ratio.features(rows)):
        if level == 0.0:
            climb = t
        level = max(0.0, level + ratio.step(features))
        score[t] = level
        if level >= threshold:
            alarms.append(t)
            onsets.append(climb)
            level = 0.0
            ratio.forget()
    return Changes(score, threshold, tuple(alarms), tuple(onsets))


class _Ratio:
    """log of the estimated density ratio of each sample, made from those before it."""

    def __init__(self, known: Array, config: ChangeConfig) -> None:
        self.config = config
        self.centre, self.spread = known.mean(0), known.std(0) + 1e-300
        scaled = (known - self.centre) / self.spread
        random = np.random.default_rng(config.seed)
        chosen = random.choice(len(scaled), config.bumps, replace=False)
        self.bumps = scaled[chosen]
        distances = ((self.bumps[:, None] - self.bumps) ** 2).sum(-1)
        self.width = float(np.median(distances[np.triu_indices(len(chosen), 1)])) / 2 + 1e-12
        # The bumps see at most their own neighbourhood; a constant lets far samples count too.
        self.known = self.features(known)
        gram = self.known.T @ self.known / len(self.known)
        self.solve = np.linalg.inv(gram + 0.01 * np.eye(len(gram)))
        self.forget()

    def features(self, rows: Array) -> Array:
        """Bumps, and what lies far from all of them: (T, bumps + 1)."""
        scaled = (rows - self.centre) / self.spread
        distances = ((scaled[:, None] - self.bumps) ** 2).sum(-1)
        near = np.exp(-distances / (2 * self.width))
        return np.hstack([near, 1 - near.max(1, keepdims=True)])

    def forget(self) -> None:
        """Drop the recent samples."""
        self.recent: list[Array] = []
        self.total = np.zeros(self.known.shape[1])

    def step(self, features: Array) -> float:
        """log of the ratio at one sample; afterwards the sample is among the recent ones."""
        value = 0.0
        if len(self.recent) >= 5:
            weights = self.solve @ (self.total / len(self.recent))
            mean = float(np.maximum(self.known @ weights, 0.0).mean())
            here = max(float(features @ weights), 0.0)
            # A tenth of "no change" keeps one surprising sample from erasing the sum.
            value = math.log(0.1 + 0.9 * here / mean) if mean > 0 else 0.0
        self.recent.append(features)
        self.total = self.total + features
        if len(self.recent) > self.config.window:
            self.total = self.total - self.recent.pop(0)
        return value
