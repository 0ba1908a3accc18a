"""The derived index of a memory: kept in step with the truth, made again when it cannot be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from solomonic.memory.config import MemoryConfig
from solomonic.memory.exact import ExactIndex, Index
from solomonic.memory.truth import Row, Truth

LOAD = 10_000
"""Vectors added at once when an index is made from the truth."""


class DerivedIndex:
    """Follows the truth: what was written since is added, what was forgotten is removed.

    Attributes:
        index: the vectors; None while the memory has none.
        notices: what had to be made again and why, one sentence each.
    """

    def __init__(self, truth: Truth, config: MemoryConfig, metric: str) -> None:
        self.truth, self.config, self.metric = truth, config, metric
        self.index: Index | None = None
        self.notices: list[str] = []
        self._last_id = 0  # of the newest item looked at
        self._last_gone = 0  # number in the log of the newest forgotten item looked at
        self._seen: object = None

    @property
    def dim(self) -> int | None:
        """Of the vectors; None while there are none."""
        return None if self.index is None else self.index.dim

    def written(self, rows: Sequence[Row]) -> None:
        """Take rows that this process has just committed."""
        kept = [row for row in rows if row[-1] is not None]
        if kept:
            self._add(
                np.array([row[0] for row in kept], dtype=np.int64),
                unpack([row[-1] for row in kept]),
            )
        self._last_id = rows[-1][0]

    def forgotten(self, ids: np.ndarray) -> None:
        """Remove what this process has just forgotten."""
        if self.index is not None:
            self.index.remove(ids)
        self._last_gone += len(ids)

    def describe(self) -> dict[str, Any]:
        """Figures for people."""
        return {"kind": self.index.name if self.index else "none", "vectors": len(self)}

    def save(self) -> None:
        """Keep a snapshot where that saves time at the next opening."""

    def follow(self) -> None:
        """Take what other processes have committed since."""
        seen = self.truth.changed()
        if seen == self._seen:
            return
        floor = int(self.truth.about()["log_floor"])
        if self._last_gone < floor:
            self.rebuild()
        rows = self.truth.rows(
            "SELECT seq, item FROM memory_forgotten WHERE seq > ? ORDER BY seq", [self._last_gone]
        )
        self._load()
        if rows:
            if self.index is not None:
                self.index.remove(np.array([row[1] for row in rows], dtype=np.int64))
            self._last_gone = int(rows[-1][0])
        self._seen = seen

    def rebuild(self) -> None:
        """Make the index again from the truth."""
        self.index = None
        self._last_id = 0
        self._last_gone = max(
            int(self.truth.about()["log_floor"]),
            int(self.truth.one("SELECT max(seq) FROM memory_forgotten") or 0),
        )
        self._load()

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        if self.index is None:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        return self.index.search(query, k)

    def __len__(self) -> int:
        return 0 if self.index is None else len(self.index)

    def _load(self) -> None:
        ids: list[int] = []
        keys: list[bytes] = []
        for id_, vector in self.truth.scan("id, vector", after=self._last_id):
            self._last_id = id_
            if vector is not None:
                ids.append(id_)
                keys.append(bytes(vector))
            if len(ids) == LOAD:
                self._add(np.array(ids, dtype=np.int64), unpack(keys))
                ids, keys = [], []
        if ids:
            self._add(np.array(ids, dtype=np.int64), unpack(keys))

    def _add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        if not len(ids):
            return
        if self.index is None:
            self.index = ExactIndex(keys.shape[1], self.metric)
        self.index.add(ids, keys)


def unpack(vectors: list[bytes]) -> np.ndarray:
    """Stored keys, all of one length, as (n, dim) float16."""
    return np.frombuffer(b"".join(vectors), dtype="<f2").reshape(len(vectors), -1)
