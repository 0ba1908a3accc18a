"""The derived index of a memory: kept in step with the truth, made again when it cannot be."""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from solomonic.core import StorageError
from solomonic.memory import ivf, snapshot
from solomonic.memory.config import MemoryConfig
from solomonic.memory.exact import ExactIndex, Rows
from solomonic.memory.ivf import IvfIndex
from solomonic.memory.truth import Row, Truth

LOAD = 10_000
"""Vectors added at once when an index is made from the truth."""
KEPT_LOG = 100_000
"""Forgotten items that stay in the log, so that readers and older snapshots can follow."""
LEAST = 5_000
"""Changes that are sooner made again than saved."""


class Following(Protocol):
    """What a memory asks of its index, be it in this process or in the database."""

    notices: list[str]

    def __len__(self) -> int: ...

    def written(self, rows: Sequence[Row]) -> None:
        """Take rows that this process has just committed."""
        ...

    def forgotten(self, ids: np.ndarray) -> None:
        """Remove what this process has just forgotten."""
        ...

    def follow(self) -> None:
        """Take what other processes have committed since."""
        ...

    def rebuild(self) -> None:
        """Make the index again from the truth."""
        ...

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The most alike: numbers (n,) int64 and similarities (n,), best first."""
        ...

    def save(self, ending: bool) -> None:
        """Keep a snapshot where that is worth while; `ending`: the memory is being closed."""
        ...

    def compacted(self) -> None:
        """Let go of what was forgotten, in memory and in the snapshot."""
        ...

    def problems(self) -> list[str]:
        """How it differs from the truth: one sentence each."""
        ...

    def describe(self) -> dict[str, Any]:
        """Figures for people."""
        ...


class DerivedIndex:
    """An index in this process, with snapshots beside the memory's file.

    Attributes:
        index: the vectors; None while the memory has none.
        notices: what had to be made again and why, one sentence each.
    """

    def __init__(self, truth: Truth, config: MemoryConfig, path: Path | None) -> None:
        self.truth, self.config, self.path = truth, config, path
        self.index: ExactIndex | IvfIndex | None = None
        self.notices: list[str] = []
        self._last_id = 0  # newest item looked at
        self._last_gone = 0  # number in the log of the newest forgotten item looked at
        self._changes = 0  # since the snapshot
        self._seen: object = None
        if path is not None:
            if not truth.read_only:
                snapshot.sweep(path)
            self._restore(path)
        self.follow()

    def written(self, rows: Sequence[Row]) -> None:
        """See `Following.written`."""
        kept = [row for row in rows if row[-1] is not None]
        if kept:
            self._add(
                np.array([row[0] for row in kept], dtype=np.int64),
                unpack([row[-1] for row in kept]),
            )
        self._last_id = rows[-1][0]

    def forgotten(self, ids: np.ndarray) -> None:
        """See `Following.forgotten`."""
        if self.index is not None:
            self.index.remove(ids)
        self._last_gone += len(ids)
        self._changes += len(ids)

    def follow(self) -> None:
        """See `Following.follow`."""
        seen = self.truth.changed()
        if seen == self._seen:
            return
        if self._last_gone < int(self.truth.about()["log_floor"]):
            self.rebuild()
        sql = "SELECT seq, item FROM memory_forgotten WHERE seq > ? ORDER BY seq"
        gone = self.truth.rows(sql, [self._last_gone])
        self._load()
        if gone:
            if self.index is not None:
                self.index.remove(np.array([row[1] for row in gone], dtype=np.int64))
            self._last_gone = int(gone[-1][0])
            self._changes += len(gone)
        self._seen = seen

    def rebuild(self) -> None:
        """See `Following.rebuild`."""
        self.index, self._last_id = None, 0
        self._last_gone = max(
            int(self.truth.about()["log_floor"]),
            int(self.truth.one("SELECT max(seq) FROM memory_forgotten") or 0),
        )
        self._load()

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Following.search`."""
        if self.index is None:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        return self.index.search(query, k)

    def __len__(self) -> int:
        return 0 if self.index is None else len(self.index)

    def describe(self) -> dict[str, Any]:
        """See `Following.describe`."""
        found: dict[str, Any] = {"kind": self.index.name if self.index else "none"}
        found["vectors"] = len(self)
        if isinstance(self.index, IvfIndex):
            found["lists"] = self.index.lists
        return found

    def _load(self) -> None:
        """Add what is newer than `_last_id`."""
        fresh = self.index is None
        rows: Rows | None = None
        ids: list[int] = []
        keys: list[bytes] = []

        def take() -> None:
            nonlocal rows
            if not ids:
                return
            numbers, matrix = np.array(ids, dtype=np.int64), unpack(keys)
            if fresh:
                rows = rows or Rows(matrix.shape[1])
                rows.add(numbers, matrix)
            else:
                self._add(numbers, matrix)
            ids.clear()
            keys.clear()

        for id_, vector in self.truth.scan("id, vector", after=self._last_id):
            self._last_id = id_
            if vector is not None:
                ids.append(id_)
                keys.append(vector)
            if len(ids) == LOAD:
                take()
        take()
        if rows is not None:
            self.index = self._made(rows, b"")
            self._changes += len(rows)

    def _add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        if self.index is None:
            self.index = ExactIndex(Rows(keys.shape[1]), self.config.metric)
        self.index.add(ids, keys)
        self._changes += len(ids)
        if isinstance(self.index, ExactIndex) and len(self) > self.config.exact_limit:
            self.index = self._made(self.index.rows, b"")

    def _made(self, rows: Rows, lists: bytes) -> ExactIndex | IvfIndex:
        config = self.config
        if len(rows) <= max(config.exact_limit, 4 * ivf.TRAINED):
            return ExactIndex(rows, config.metric)
        if not ivf.available():
            said = (
                f"this memory has more than {config.exact_limit} vectors and faiss is missing, so"
                " each query compares all of them: pip install 'solomonic[memory]'."
            )
            self.notices += [] if said in self.notices else [said]
            return ExactIndex(rows, config.metric)
        if lists:
            return IvfIndex.restore(rows, config.metric, config.probes, lists)
        return IvfIndex.build(rows, config.metric, config.probes)

    # Snapshots.

    def _restore(self, path: Path) -> None:
        started = time.perf_counter()
        try:
            found = snapshot.load(path)  # before `about`, which then knows its token
            about = self.truth.about()
            reason = None
            if found.uuid != about["uuid"]:
                reason = "belongs to another memory"
            elif found.token not in about.get("snapshots", "").split():
                reason = "was made of another state of this memory"
            elif found.metric != self.config.metric or str(found.keys.shape[1]) != about["dim"]:
                reason = "has vectors of another kind"
            elif found.last_gone < int(about["log_floor"]):
                reason = "is too old to follow what was forgotten since"
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        except snapshot.UnusableError as error:
            reason = str(error)
        if reason is None:
            self.index = self._made(Rows.of(found.ids, found.keys), found.lists)
            self._last_id, self._last_gone = found.last_id, found.last_gone
            return
        self.follow()
        took = time.perf_counter() - started
        self.notices.append(f"the index {path} {reason}; it was made again in {took:.1f} s.")

    def save(self, ending: bool) -> None:
        """See `Following.save`."""
        worth = max(LEAST, len(self) // (20 if ending else 2))
        if self.path is None or self.truth.read_only or self._changes < worth:
            return
        self.save_now()

    def compacted(self) -> None:
        """See `Following.compacted`."""
        self.rebuild()
        if self.path is not None and (self.path.exists() or len(self) >= LEAST):
            if self.index is None:
                self.path.unlink(missing_ok=True)
            self.save_now()

    def save_now(self) -> None:
        """Write a snapshot; a failure is a notice, as nothing is lost by it."""
        if self.path is None or self.index is None:
            return
        rows, about = self.index.rows, self.truth.about()
        token = uuid.uuid4().hex
        keep = slice(None) if len(rows) == len(rows.ids) else np.flatnonzero(rows.alive)
        lists = self.index.state() if isinstance(self.index, IvfIndex) else b""
        try:
            written = snapshot.save(
                self.path,
                snapshot.Snapshot(
                    about["uuid"], token, self.config.metric, self._last_id, self._last_gone,
                    rows.ids[keep], rows.raw(keep), lists,
                ),
            )  # fmt: skip
        except StorageError as error:
            self.notices.append(str(error))
            return
        try:
            with self.truth.transaction():
                # First known, then there: a crash between leaves the one before, known as well.
                known = about.get("snapshots", "").split()
                self.truth.tell("snapshots", " ".join([token, *known[:1]]))
                if self._last_gone - int(about["log_floor"]) > 2 * KEPT_LOG:
                    floor = self._last_gone - KEPT_LOG
                    self.truth.execute("DELETE FROM memory_forgotten WHERE seq <= ?", [floor])
                    self.truth.tell("log_floor", floor)
            written.put()
            self._changes = 0
        except StorageError as error:
            written.drop()
            self.notices.append(str(error))

    def problems(self) -> list[str]:
        """See `Following.problems`."""
        sql = "SELECT count(*) FROM memory_item WHERE vector IS NOT NULL"
        expected = int(self.truth.one(sql))
        if self.index is None:
            return [f"the index lacks all {expected} vectors."] if expected else []
        there, wrong, missing = self.index.ids(), 0, 0
        if isinstance(self.index, IvfIndex) and not np.array_equal(self.index.coded(), there):
            return ["the lists of the index do not hold each of its vectors once."]
        where = " AND vector IS NOT NULL"
        pending: list[Row] = []

        def compare() -> None:
            nonlocal wrong, missing
            ids = np.array([row[0] for row in pending], dtype=np.int64)
            known = np.isin(ids, there, assume_unique=True)
            missing += int((~known).sum())
            matrix = unpack([row[1] for row in pending])[known]
            found = self.index.keys(ids[known]) if known.any() else matrix  # pyright: ignore
            wrong += int((matrix.view(np.uint16) != found.view(np.uint16)).any(axis=1).sum())
            pending.clear()

        for row in self.truth.scan("id, vector", where):
            pending.append(row)
            if len(pending) == LOAD:
                compare()
        if pending:
            compare()
        extra = len(there) - (expected - missing)
        said = ((missing, "lacks"), (extra, "has too many:"), (wrong, "has other values for"))
        return [f"the index {what} {count} vectors." for count, what in said if count]


def unpack(vectors: Sequence[bytes]) -> np.ndarray:
    """Stored keys, all of one length, as (n, dim) float16."""
    return np.frombuffer(b"".join(vectors), dtype="<f2").reshape(len(vectors), -1)
