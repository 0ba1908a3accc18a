"""What every forgetting answers, and the two that detect nothing: none, and exponential decay.

    forgetting = forgetting_from("changes")
    for bits in losses:
        forgetting.observe(bits)
    weights = forgetting.survival(np.array([0, 500, 990]))  # of items written at those steps

Steps count what was observed. An item written at step u (after u observations) belongs to whatever
makes observation number u, so write it before the observation that it explains; `survival` is then
1 for the present step.
"""

import dataclasses
import math
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from solomonic.core import CheckpointError, Config, DataError, require
from solomonic.memory.forgetting import frames


@runtime_checkable
class Forgetting(Protocol):
    """How much of what was written still holds, as the losses of a model tell it."""

    @property
    def step(self) -> int:
        """How many values were observed."""
        ...

    def observe(self, value: Any) -> None:
        """Read the loss that came (or symbol, or vector: see the class).

        Raises:
            DataError: it is not a finite number; nothing was read.
        """
        ...

    def survival(self, written: np.ndarray) -> np.ndarray:
        """Weights in [0, 1], float64, shape of `written` (integer steps): the probability that
        what made the observations then is what makes the next one. Steps beyond the present
        count as the present.
        """
        ...

    def changes(self) -> list[int]:
        """Steps at which a change was detected, oldest first; old ones are dropped in the end."""
        ...

    def to_bytes(self) -> bytes:
        """Settings and everything that was learned; `forgetting.restore` reads it."""
        ...

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The same forgetting in the same state, to the last bit.

        Raises:
            CheckpointError: the bytes are cut short, damaged, newer, or of another kind.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoForgettingConfig(Config):
    """Everything is kept with weight 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExponentialDecayConfig(Config):
    """Weights halve every `half_life` observations."""

    half_life: float = 1000.0

    def __post_init__(self) -> None:
        require(
            0 < self.half_life < math.inf, f"half_life = {self.half_life} must be above 0 (steps)."
        )


class _Steady:
    """Counts observations, nothing else."""

    kind = ""
    step = 0
    config: Config

    def observe(self, value: float) -> None:
        finite(value)
        self.step += 1

    def changes(self) -> list[int]:
        return []

    def to_bytes(self) -> bytes:
        return frames.pack(self.kind, self.config.to_json(), {"step": self.step}, {})


class NoForgetting(_Steady):
    """Everything is kept with weight 1."""

    kind = "none"

    def __init__(self, config: NoForgettingConfig | None = None) -> None:
        self.config = config or NoForgettingConfig()

    def survival(self, written: np.ndarray) -> np.ndarray:
        return np.ones(np.shape(written))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        settings, facts, _ = opened(cls.kind, data)
        found = cls(NoForgettingConfig.from_json(settings))
        found.step = facts["step"]
        return found


class ExponentialDecay(_Steady):
    """Weights halve every `half_life` observations, whatever they say."""

    kind = "exponential"

    def __init__(self, config: ExponentialDecayConfig | float | None = None) -> None:
        if isinstance(config, (int, float)):
            config = ExponentialDecayConfig(half_life=float(config))
        self.config = config or ExponentialDecayConfig()
        self.half_life = self.config.half_life

    def survival(self, written: np.ndarray) -> np.ndarray:
        ages = np.maximum(self.step - np.asarray(written, dtype=np.float64), 0.0)
        return np.exp2(-ages / self.half_life)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        settings, facts, _ = opened(cls.kind, data)
        found = cls(ExponentialDecayConfig.from_json(settings))
        found.step = facts["step"]
        return found


def finite(value: Any) -> float:
    """`value` as a finite float.

    Raises:
        DataError: it is none.
    """
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"a loss of {number} cannot be observed; leave out what is not finite.")
    return number


def opened(kind: str, data: bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Settings, facts and arrays of a state that must be of this kind.

    Raises:
        CheckpointError: it is damaged, or of another kind.
    """
    found, settings, facts, arrays = frames.unpack(data)
    if found != kind:
        raise CheckpointError(
            f"the state is of the forgetting '{found}', this one is '{kind}'; use `restore`, which "
            "makes the right one."
        )
    return settings, facts, arrays
