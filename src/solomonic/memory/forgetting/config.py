"""Settings of change-point detection, on losses and on symbols."""

import dataclasses
import math
from typing import Any

from solomonic.core import Config, require, require_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangesConfig(Config):
    """What both detectors share.

    Attributes:
        hazards: chances of a change before one observation; all are kept at once, each with its
            posterior, so the rate of changes is learned.
        recurrence: shares of changes that lead back to an archived regime, likewise.
        regimes: most regimes archived; 0 archives none, and nothing is revived.
        runs: most hypotheses on when the present segment began.
        threshold: a hypothesis below this probability is merged with its neighbour.
        confidence: posterior at which a change is declared (only `changes` and the archive ask).
        shortest: observations; hypotheses closer than this are one change, shorter segments none.
        most_changes: segments remembered, the oldest go first.
        floor: least survival, so that its logarithm stays finite.
    """

    hazards: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03)
    recurrence: tuple[float, ...] = (0.1, 0.9)
    regimes: int = 16
    runs: int = 128
    threshold: float = 1e-6
    confidence: float = 0.9
    shortest: int = 8
    most_changes: int = 4096
    floor: float = 1e-9

    def __post_init__(self) -> None:
        for name in ("hazards", "recurrence"):
            object.__setattr__(self, name, tuple(float(one) for one in getattr(self, name)))
        require(len(self.hazards) > 0, "hazards must name at least one chance of a change.")
        require(
            all(0 < one < 1 for one in self.hazards), f"hazards = {self.hazards}: each in (0, 1)."
        )
        require(len(self.recurrence) > 0, "recurrence must name at least one share.")
        require(
            all(0 < one < 1 for one in self.recurrence),
            f"recurrence = {self.recurrence}: each in (0, 1); regimes=0 turns revival off.",
        )
        require(0 <= self.regimes <= 256, f"regimes = {self.regimes} must be from 0 to 256.")
        require(8 <= self.runs <= 65536, f"runs = {self.runs} must be from 8 to 65536.")
        require(0 <= self.threshold < 0.01, f"threshold = {self.threshold} must be in [0, 0.01).")
        require(0.5 <= self.confidence < 1, f"confidence = {self.confidence} must be in [0.5, 1).")
        require_least(self, 1, "shortest", "most_changes")
        require(0 <= self.floor < 1, f"floor = {self.floor} must be from 0 to below 1.")

    def to_json(self) -> dict[str, Any]:
        record = super().to_json()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangePointsConfig(ChangesConfig):
    """Losses: each segment is normal with unknown mean and variance (normal-inverse-gamma prior).

    Attributes:
        width: numbers an observation has (1: plain losses); they are taken as independent.
        every: observations averaged into one; losses of single tokens are wild and depend on each
            other, means of 16 or more are near to normal.
        mean, scale: where losses are expected, and how far they spread.
        strength: how many observations the prior mean is worth.
        shape: of the prior of the variance (1: very open).
        temper: power of every likelihood. Losses of a model are neither normal nor independent,
            and 1, which is Bayes' rule for those that are, then sees changes that are none.
        regimes: none by default: that losses are alike does not make two mechanisms the same.
    """

    regimes: int = 0
    width: int = 1
    every: int = 1
    mean: float = 3.0
    scale: float = 1.0
    strength: float = 0.1
    shape: float = 1.0
    temper: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.temper <= 1, f"temper = {self.temper} must be above 0 and at most 1.")
        require(1 <= self.width <= 4096, f"width = {self.width} must be from 1 to 4096.")
        require_least(self, 1, "every")
        require(math.isfinite(self.mean), f"mean = {self.mean} must be finite.")
        for name in ("scale", "strength", "shape"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name} = {value} must be above 0.")


MOST_CELLS = 1 << 25
"""Numbers that the counts of all hypotheses may take together (256 MiB)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymbolChangePointsConfig(ChangesConfig):
    """Symbols: each segment is a Markov chain of `order` with Dirichlet rows.

    Attributes:
        alpha: of the Dirichlet prior, for each symbol.
        pooled: symbols that the average of everything read so far is worth to a new segment, in
            each context, in place of alpha; 0 lets it know nothing.
    """

    alphabet: int = 2
    order: int = 1
    alpha: float = 0.5
    pooled: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, 2, "alphabet")
        require_least(self, 0, "order")
        require(self.alpha > 0, f"alpha = {self.alpha} must be above 0.")
        require(0 <= self.pooled < math.inf, f"pooled = {self.pooled} must not be negative.")
        cells = self.alphabet ** (self.order + 1) * (self.runs + self.regimes)
        require(
            cells <= MOST_CELLS,
            f"alphabet {self.alphabet}, order {self.order} and {self.runs + self.regimes} "
            f"hypotheses need {cells:,} counts, more than {MOST_CELLS:,}; lower one of them.",
        )
