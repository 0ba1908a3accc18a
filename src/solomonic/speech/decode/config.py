"""Settings of the decoder."""

import dataclasses

from solomonic.core import Config, require

METHODS = ("beam", "greedy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeConfig(Config):
    """How hypotheses are searched, merged and dropped. Differences of scores are in nats.

    Raises:
        ConfigError: a value is out of range.
    """

    method: str = "beam"
    """"beam", or "greedy" (one hypothesis, no alternatives)."""
    beam: int = 8
    """Hypotheses kept after a frame. One of them is always the greedy path, so that the beam never
    ends with a worse score than greedy; a beam of 1 is greedy."""
    max_symbols: int = 5
    """Most labels in one frame; then the blank is taken, at its price."""
    expand_beam: float = 5.0
    """A hypothesis goes on only with labels within this of its best next step."""
    label_bonus: float = 0.0
    """Added to the score of every label, against the deletions of a model that would rather say
    nothing; part of acoustic scores."""
    state_beam: float = 8.0
    """Hypotheses further than this behind the best are dropped."""
    label_context: int = 4
    """Path merging: hypotheses whose last labels, this many, are the same become one; 0: never."""
    lattice: bool = True
    """Keep what path merging and the beam leave aside as a lattice."""
    lattice_beam: float = 8.0
    """Alternatives further than this behind the path they join are not recorded."""
    alternatives: int = 8
    """Most alternatives recorded in one place, which bounds memory."""
    nbest: int = 8
    """Most hypotheses in a result."""
    confidence_scale: float = 1.0
    """Factor on acoustic scores in lattice posteriors; below 1 is less sure of itself."""
    stable_beam: float = 4.0
    """Words become stable when all hypotheses within this of the best agree on them, ..."""
    stable_frames: int = 5
    """... this many frames long. 0: no word is stable before the end."""

    def __post_init__(self) -> None:
        require(
            self.method in METHODS,
            f"method = '{self.method}' is unknown; use one of {', '.join(METHODS)}.",
        )
        for name in ("beam", "max_symbols", "alternatives", "nbest"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        for name in ("label_context", "stable_frames"):
            value = getattr(self, name)
            require(value >= 0, f"{name} = {value} must be at least 0.")
        for name in ("expand_beam", "state_beam", "lattice_beam", "stable_beam"):
            value = getattr(self, name)
            require(value > 0, f"{name} = {value} must be above 0; float('inf') switches it off.")
        require(
            abs(self.label_bonus) < float("inf"),
            f"label_bonus = {self.label_bonus} must be a finite number.",
        )
        require(
            0 < self.confidence_scale < float("inf"),
            f"confidence_scale = {self.confidence_scale} must be a number above 0.",
        )
