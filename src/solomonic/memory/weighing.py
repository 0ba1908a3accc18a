"""What items count for now: the memory's change detector, kept through restarts.

Each observation moves the detector by one step. Writing its whole state with every token would
cost more than the items, so observations are written as they are, with the next items or every
`FLUSH` of them, and the state first of all and then only every `SAVE`; opening reads the state and
observes the rest again. The state says which detector it is of, so that a memory weighs its items
alike whoever opens it. A killed process loses at most the last `FLUSH` observations, and none that
is older than an acknowledged item.
"""

import numpy as np

from solomonic.core import CheckpointError
from solomonic.memory.config import MemoryConfig
from solomonic.memory.rows import LEAST_WEIGHT
from solomonic.memory.truth import Truth

FLUSH = 256
SAVE = 4096
STATE = "forgetting"


class Weighing:
    """The probability of every item that the world is still the one in which it was written.

    Attributes:
        detector: an object as `solomonic.memory.forgetting.Forgetting`; None weighs all alike.
        step: observations so far.
    """

    def __init__(self, truth: Truth, config: MemoryConfig, detector: object | None) -> None:
        self.truth = truth
        self.detector = detector
        self.step = 0
        self._pending: list[float] = []
        self._saved = 0  # step of the saved state
        if detector is None and config.forgetting not in ("none", None):
            from solomonic.memory.forgetting import forgetting_from  # pyright: ignore

            self.detector = forgetting_from(config.forgetting)
        self._read()

    def _read(self) -> None:
        found = self.truth.one("SELECT data FROM memory_state WHERE name = ?", [STATE])
        if found is not None:
            data = bytes(found)
            self._saved = self.step = int.from_bytes(data[:8], "little")
            self._restore(data[9 : 9 + data[8]].decode(), data[9 + data[8] :])
        rows = self.truth.rows(
            "SELECT data FROM memory_observed WHERE first >= ? ORDER BY first", [self.step]
        )
        for (data,) in rows:
            for value in np.frombuffer(data, dtype="<f8"):
                self._observe(float(value))

    def _restore(self, kept: str, state: bytes) -> None:
        """Go on from a saved state of the class `kept`."""
        if self.detector is None:
            from solomonic.memory import forgetting

            if hasattr(forgetting, kept):  # a stranger's detector has to be given again
                self.detector = forgetting.restore(state)
            return
        name = type(self.detector).__name__
        if kept != name:
            raise CheckpointError(
                f"the memory {self.truth.place} forgets by {kept} and was opened with {name}; open "
                "it with the same, or make another memory."
            )
        self.detector = type(self.detector).from_bytes(state)  # pyright: ignore

    def _observe(self, value: float) -> None:
        self.step += 1
        if self.detector is not None:
            self.detector.observe(value)  # pyright: ignore

    def observe(self, value: float) -> bool:
        """Move by one step; True when it is time to `flush`."""
        self._observe(value)
        self._pending.append(value)
        return len(self._pending) >= FLUSH

    def flush(self) -> None:
        """Write what was observed, inside a transaction."""
        if not self._pending:
            return
        data = np.array(self._pending, dtype="<f8").tobytes()
        first = self.step - len(self._pending)
        self.truth.execute(
            "INSERT INTO memory_observed VALUES (?, ?, ?)", (first, len(self._pending), data)
        )
        if self._is_due() and self.detector is not None:
            name = type(self.detector).__name__.encode()
            state = self.step.to_bytes(8, "little") + bytes([len(name)]) + name
            self.truth.execute(
                "INSERT INTO memory_state VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET data = excluded.data",
                (STATE, state + self.detector.to_bytes()),  # pyright: ignore
            )
            self.truth.execute("DELETE FROM memory_observed WHERE first < ?", (self.step,))

    def flushed(self) -> None:
        """The transaction of `flush` was committed."""
        if self._is_due():
            self._saved = self.step
        self._pending.clear()

    def _is_due(self) -> bool:
        return not self._saved or self.step - self._saved >= SAVE

    def survival(self, steps: np.ndarray) -> np.ndarray:
        """(n,) float64 in [0, 1] of items written at `steps` (n,) int64."""
        if self.detector is None or not len(steps):
            return np.ones(len(steps))
        return np.asarray(
            self.detector.survival(np.minimum(steps, self.step)),  # pyright: ignore
            dtype=np.float64,
        )

    def changes(self) -> list[int]:
        """Steps at which the detector saw a change."""
        return [] if self.detector is None else self.detector.changes()  # pyright: ignore

    def logs(self, steps: np.ndarray) -> np.ndarray:
        """Logarithms of `survival`, kept finite."""
        return np.log(np.maximum(self.survival(steps), LEAST_WEIGHT))
