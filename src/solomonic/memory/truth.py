"""The truth of a memory: its tables, through one set of statements for SQLite and PostgreSQL."""

import abc
import contextlib
import dataclasses
import threading
import uuid
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from solomonic.core import ConfigError
from solomonic.memory import schema

CHUNK = 500
"""Numbers in one IN (...): SQLite allows 32,766, and statements of equal length are kept ready."""
ROWS = 10_000
"""Rows read at once when all are."""
Row = Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which items a search may answer with: of `kind`, and valid `at` a time; None for all."""

    at: float | None = None
    kind: str | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """Conditions that begin with AND, and their values."""
        words, values = "", []
        if self.kind is not None:
            words += " AND kind = ?"
            values.append(self.kind)
        if self.at is not None:
            words += " AND (valid_from IS NULL OR valid_from <= ?)"
            words += " AND (valid_to IS NULL OR ? < valid_to)"
            values += [self.at, self.at]
        return words, values

    def __bool__(self) -> bool:
        return self.at is not None or self.kind is not None


class Truth(abc.ABC):
    """Tables of one memory. One process writes; every method may be called from any thread.

    Attributes:
        place: what people call it: a path, or an address without its password.
        read_only: nothing can be written.
        dialect: "sqlite" or "postgresql".
        empty_bytes: what tables without items take, about.
    """

    dialect: str
    empty_bytes: int

    def __init__(self, place: str, read_only: bool) -> None:
        self.place = place
        self.read_only = read_only
        self.lock = threading.RLock()
        self._depth = 0

    # What differs between the two.

    @abc.abstractmethod
    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Run one statement, with a ? for each value; a cursor over its rows."""

    @abc.abstractmethod
    def execute_many(self, sql: str, rows: Iterable[Row]) -> None:
        """Run one statement for every row."""

    @abc.abstractmethod
    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Turns the database's errors into sentences."""

    @abc.abstractmethod
    def changed(self) -> Hashable:
        """A value that differs from the last one when another process may have written."""

    @abc.abstractmethod
    def words(self, query: str, limit: int, where: Filter) -> list[tuple[int, float]]:
        """Items with words of `query`: (id, similarity), best first."""

    @abc.abstractmethod
    def used_bytes(self) -> int:
        """Bytes of what is stored, without free pages."""

    @abc.abstractmethod
    def shrink(self) -> None:
        """Write everything anew without what was deleted, and give free space back."""

    @abc.abstractmethod
    def problems(self) -> list[str]:
        """What is wrong with the tables themselves: one sentence each."""

    @abc.abstractmethod
    def words_problems(self) -> list[str]:
        """How the index of words differs from the texts: one sentence each."""

    @abc.abstractmethod
    def rebuild_words(self) -> None:
        """Make the index of words again from the texts."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the connection; may be called twice."""

    # What is the same.

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Truth"]:
        """All that is executed inside happens together, or, when an error leaves it, not at all."""
        with self.lock:
            if self._depth:  # inside another: part of it
                yield self
                return
            if self.read_only:
                raise ConfigError(
                    f"the memory {self.place} was opened to be read only; open it without"
                    " read_only to change it."
                )
            with self.explained():
                self.execute("BEGIN" if self.dialect == "postgresql" else "BEGIN IMMEDIATE")
                self._depth = 1
                try:
                    yield self
                    self.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(Exception):  # SQLite may have rolled back by itself
                        self.execute("ROLLBACK")
                    raise
                finally:
                    self._depth = 0

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        with self.lock, self.explained():
            return self.execute(sql, values).fetchall()

    def one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(sql, values)
        return found[0][0] if found else None

    def create(self, dim: int | None, metric: str) -> None:
        """Make the tables of an empty database."""
        with self.transaction():
            for statement in schema.statements(self.dialect):
                self.execute(statement)
            for name, value in (
                ("version", schema.VERSION),
                ("uuid", uuid.uuid4().hex),
                ("metric", metric),
                ("next", 1),  # id of the next item
                ("log_floor", 0),  # items that went up to this number are no longer in the log
            ):
                self.tell(name, value)
            if dim is not None:
                self.tell("dim", dim)
            self.execute("INSERT INTO memory_segment VALUES (1, 0, NULL, ?)", (b"",))

    def about(self) -> dict[str, str]:
        """What is known of the memory as a whole."""
        return dict(self.rows("SELECT name, value FROM memory_about"))  # pyright: ignore

    def tell(self, name: str, value: object) -> None:
        """Set one entry of `about`, inside a transaction."""
        self.execute(
            "INSERT INTO memory_about VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, str(value)),
        )

    def insert(self, rows: Iterable[Row]) -> None:
        """Add items, in the order of `schema.COLUMNS`, inside a transaction."""
        marks = ", ".join("?" * (schema.COLUMNS.count(",") + 1))
        self.execute_many(f"INSERT INTO memory_item ({schema.COLUMNS}) VALUES ({marks})", rows)

    def delete(self, ids: Sequence[int]) -> None:
        """Remove items and note that they went, inside a transaction."""
        self.execute_many("DELETE FROM memory_item WHERE id = ?", ((id_,) for id_ in ids))
        first = (self.execute("SELECT max(seq) FROM memory_forgotten").fetchone()[0] or 0) + 1
        floor = int(
            self.execute("SELECT value FROM memory_about WHERE name = 'log_floor'").fetchone()[0]
        )
        first = max(first, floor + 1)
        self.execute_many(
            "INSERT INTO memory_forgotten (seq, item) VALUES (?, ?)",
            ((first + n, id_) for n, id_ in enumerate(ids)),
        )

    def items(self, ids: Sequence[int], where: Filter | None = None) -> list[Row]:
        """Those of the items that are there and pass, in order of their numbers."""
        extra, values = (where or Filter()).sql()
        found: list[Row] = []
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            marks = ",".join("?" * len(part))
            sql = f"SELECT {schema.COLUMNS} FROM memory_item WHERE id IN ({marks}){extra}"
            found += self.rows(sql, [*part, *values])
        return sorted(found, key=lambda row: row[0])

    def scan(
        self, columns: str, where: str = "", values: Sequence[Any] = (), after: int = 0
    ) -> Iterator[Row]:
        """All items in order of their numbers, some at a time.

        Args:
            columns: what to read, beginning with id.
            where: conditions that begin with AND, with `values` for their ?.
        """
        sql = f"SELECT {columns} FROM memory_item WHERE id > ?{where} ORDER BY id LIMIT {ROWS}"
        while True:
            found = self.rows(sql, [after, *values])
            yield from found
            if len(found) < ROWS:
                return
            after = found[-1][0]

    def count(self, where: str = "") -> int:
        """How many items there are."""
        return int(self.one(f"SELECT count(*) FROM memory_item {where}"))
