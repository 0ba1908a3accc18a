"""What a solver remembers, in tables of its own beside a memory's, in the same SQLite file.

    solver_task       canonical task, its verified value, how it was found, all that was spent
    solver_frontier   where searches stand, so that a retry goes on there
    solver_rejected   digests of proposals that a verifier refused: never verified twice
    solver_count      counts of building blocks: the proposal distribution

Every change of one answer is one transaction. Several processes may use one file (WAL).
"""

import dataclasses
import hashlib
import json
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from solomonic.core import CheckpointError
from solomonic.memory.solver.task import Cost, Known
from solomonic.memory.tables import Tables

_VERSION = 1
_FRONTIER_BYTES = 64 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS solver_task (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, family TEXT NOT NULL, canonical TEXT NOT NULL,
    value TEXT, verifier TEXT NOT NULL DEFAULT '', proof TEXT NOT NULL DEFAULT '',
    path TEXT NOT NULL DEFAULT '', candidates INTEGER NOT NULL DEFAULT 0,
    verifications INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
    shares TEXT NOT NULL DEFAULT '{}', changed REAL NOT NULL);
CREATE INDEX IF NOT EXISTS solver_task_near ON solver_task (kind, family, changed);
CREATE TABLE IF NOT EXISTS solver_frontier (key TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS solver_rejected (
    key TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (key, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS solver_count (
    kind TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (kind, name)) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of one task: `value` is None where it was only tried. `shares` says what each
    contender of the search has spent."""

    value: str | None
    proof: str
    path: str
    spent: Cost
    shares: Mapping[str, Any]


@dataclasses.dataclass
class Outcome:
    """What one call changes."""

    value: str | None
    verifier: str
    proof: str
    path: str
    spent: Cost
    shares: Mapping[str, Any]
    counts: Mapping[str, Iterable[str]] = dataclasses.field(default_factory=dict)
    rejected: Iterable[str] = ()
    frontiers: Mapping[str, bytes | None] = dataclasses.field(default_factory=dict)


class Ledger(Tables):
    """The tables of a solver."""

    def __init__(self, path: Path | str | None = None) -> None:
        """Open them in the memory at `path` (made where it is missing; None: in this process).

        Raises:
            ConfigError, CheckpointError, StorageError: as `Tables`.
        """
        super().__init__(path, part="solver", schema=_SCHEMA, version=_VERSION)

    def find(self, task: Known) -> Record | None:
        """What is known of exactly this task."""
        with self.told():
            row = self.db.execute(
                "SELECT canonical, value, proof, path, candidates, verifications, seconds, shares "
                "FROM solver_task WHERE key = ?",
                (task.key,),
            ).fetchone()
        if row is None or row[0] != task.canonical:
            return None
        return Record(row[1], row[2], row[3], Cost(*row[4:7]), json.loads(row[7]))

    def near(self, task: Known, most: int) -> list[str]:
        """Verified values of other tasks of the same kind: those of the same family first, then
        what solved most, then the newest. Each value once."""
        with self.told():
            rows = self.db.execute(
                "SELECT value FROM solver_task WHERE kind = ? AND value IS NOT NULL AND key != ? "
                "GROUP BY value ORDER BY max(family = ?) DESC, count(*) DESC, max(changed) DESC "
                "LIMIT ?",
                (task.kind, task.key, task.family, most),
            ).fetchall()
        return [row[0] for row in rows]

    def examples(self, kind: str, most: int) -> list[tuple[str, str]]:
        """(canonical, value) of the newest solved tasks of a kind."""
        with self.told():
            return self.db.execute(
                "SELECT canonical, value FROM solver_task WHERE kind = ? AND value IS NOT NULL "
                "ORDER BY changed DESC LIMIT ?",
                (kind, most),
            ).fetchall()

    def counts(self, kind: str) -> dict[str, int]:
        """Of building blocks."""
        with self.told():
            return dict(
                self.db.execute("SELECT name, count FROM solver_count WHERE kind = ?", (kind,))
            )

    def frontier(self, key: str) -> bytes | None:
        """Where the search of this name stands.

        Raises:
            CheckpointError: what is stored is damaged.
        """
        with self.told():
            row = self.db.execute(
                "SELECT data FROM solver_frontier WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        try:
            return zlib.decompress(row[0])
        except zlib.error as error:
            raise CheckpointError(f"a frontier in {self.place} is damaged; search anew.") from error

    def was_rejected(self, task: Known, value: str) -> bool:
        """Whether a verifier has refused this value for this task."""
        with self.told():
            return (
                self.db.execute(
                    "SELECT 1 FROM solver_rejected WHERE key = ? AND digest = ?",
                    (task.key, _digest(value)),
                ).fetchone()
                is not None
            )

    def record(self, task: Known, outcome: Outcome) -> None:
        """Remember what one call did, in one transaction.

        Raises:
            StorageError: it cannot be written; nothing has changed then.
        """
        with self.changing():
            self.db.execute(
                "INSERT INTO solver_task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
                "verifier = excluded.verifier, proof = excluded.proof, path = excluded.path, "
                "candidates = excluded.candidates, verifications = excluded.verifications, "
                "seconds = excluded.seconds, shares = excluded.shares, changed = excluded.changed",
                (
                    *(task.key, task.kind, task.family, task.canonical),
                    *(outcome.value, outcome.verifier, outcome.proof, outcome.path),
                    *dataclasses.astuple(outcome.spent),
                    *(json.dumps(outcome.shares), time.time()),
                ),
            )
            for kind, names in outcome.counts.items():
                self.db.executemany(
                    "INSERT INTO solver_count VALUES (?, ?, 1) "
                    "ON CONFLICT (kind, name) DO UPDATE SET count = count + 1",
                    [(kind, name) for name in names],
                )
            self.db.executemany(
                "INSERT OR IGNORE INTO solver_rejected VALUES (?, ?)",
                [(task.key, _digest(value)) for value in outcome.rejected],
            )
            for key, data in outcome.frontiers.items():
                self._put_frontier(key, data)

    def _put_frontier(self, key: str, data: bytes | None) -> None:
        """Keep, or remove where `data` is None; one that is too large is not kept."""
        packed = None if data is None else zlib.compress(data, 1)
        if packed is None or len(packed) > _FRONTIER_BYTES:
            self.db.execute("DELETE FROM solver_frontier WHERE key = ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO solver_frontier VALUES (?, ?)", (key, packed))

    def forget(self, task: Known) -> bool:
        """Forget one task with its frontier; whether it was there. Counts stay."""
        with self.changing():
            gone = self.db.execute("DELETE FROM solver_task WHERE key = ?", (task.key,)).rowcount
            self.db.execute("DELETE FROM solver_frontier WHERE key = ?", (task.key,))
            self.db.execute("DELETE FROM solver_rejected WHERE key = ?", (task.key,))
        return gone > 0

    def summary(self) -> dict[str, dict[str, Any]]:
        """By kind: tasks, solved, and all that was spent."""
        with self.told():
            rows = self.db.execute(
                "SELECT kind, count(*), count(value), sum(candidates), sum(verifications), "
                "sum(seconds) FROM solver_task GROUP BY kind ORDER BY kind"
            ).fetchall()
        names = ("tasks", "solved", "candidates", "verifications", "seconds")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()[:16]
