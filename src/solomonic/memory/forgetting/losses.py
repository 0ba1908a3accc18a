"""Change points of a model's own losses: `ChangePoints`.

changes = ChangePoints(ChangePointsConfig(every=32))
for bits in losses: changes.observe(bits)
changes.changes()  # steps at which the level or the spread of the losses changed
"""

from typing import Self

import numpy as np

from solomonic.core import DataError
from solomonic.memory.forgetting import base, frames
from solomonic.memory.forgetting.config import ChangePointsConfig
from solomonic.memory.forgetting.runs import Runs
from solomonic.memory.forgetting.statistics import NormalLosses


class ChangePoints:
    """Bayesian online change-point detection on losses (see `runs.py`); a `Forgetting`.

    Values are numbers, or vectors of `config.width`: a loss beside a few features of the state
    tells regimes apart that the loss alone does not, which `regimes` above 0 needs.
    """

    kind = "changes"

    def __init__(self, config: ChangePointsConfig | None = None) -> None:
        self.config = config or ChangePointsConfig()
        columns = self.config.regimes + self.config.runs
        self.runs = Runs(self.config, NormalLosses(self.config, columns))
        self.step = 0
        self._waiting = np.zeros(self.config.width)  # sum of the present block

    def observe(self, value: float | np.ndarray) -> None:
        found = np.asarray(value, dtype=np.float64).reshape(-1)
        if found.shape != (self.config.width,):
            raise DataError(
                f"an observation has {self.config.width} numbers here, this one {found.size}; set "
                "width to what is observed."
            )
        if not np.isfinite(found).all():
            raise DataError("a loss that is not finite cannot be observed; leave it out.")
        self.step += 1
        if self.config.every == 1:
            self.runs.observe(found)
            return
        self._waiting += found
        if self.step % self.config.every == 0:
            self.runs.observe(self._waiting / self.config.every)
            self._waiting[:] = 0

    def survival(self, written: np.ndarray) -> np.ndarray:
        return self.runs.survival(np.minimum(written, self.step) // self.config.every)

    def changes(self) -> list[int]:
        return [one * self.config.every for one in self.runs.segments.changes()]

    @property
    def bits(self) -> float:
        """Negative log2 of the density of all values so far (with temper = 1): the evidence."""
        return float(self.runs.nats / np.log(2))

    def to_bytes(self) -> bytes:
        facts = {"observed": self.step, **self.runs.facts()}
        arrays = {"waiting": self._waiting, **self.runs.arrays()}
        return frames.pack(self.kind, self.config.to_json(), facts, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        settings, facts, arrays = base.opened(cls.kind, data)
        found = cls(ChangePointsConfig.from_json(settings))
        found.runs.take(facts, arrays)
        found.step, found._waiting = facts["observed"], arrays["waiting"]
        return found
