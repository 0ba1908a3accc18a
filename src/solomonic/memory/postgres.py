"""The truth in PostgreSQL, for memories that outgrow one machine.

Texts are found by PostgreSQL's own text search (`ts_rank_cd`, which is not BM25). Every process
makes the same index of vectors as over SQLite, from the table.
"""

import contextlib
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from solomonic.core import CheckpointError, ConfigError, DataError, SolomonicError, StorageError
from solomonic.memory import schema
from solomonic.memory.config import MemoryConfig
from solomonic.memory.sqlite import MOST_WORDS, WORD
from solomonic.memory.truth import Filter, Row, Truth

LOCK = 0x536F6C4D  # of the writer, together with the schema that the tables are in
WORDS = ("CREATE INDEX memory_item_words ON memory_item USING gin (to_tsvector('simple', text))",)


def open_postgres(
    address: str, dim: int | None, config: MemoryConfig, read_only: bool
) -> "PostgresTruth":
    """Connect, take the right to write, and make the tables where there are none.

    Raises:
        ConfigError: psycopg is missing.
        StorageError: the server does not answer, or another process writes.
        CheckpointError: tables of another version.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs psycopg; install it with pip install 'solomonic[postgres]'."
        ) from error
    truth = PostgresTruth(address, config, read_only)
    try:
        truth.prepare(dim, config.metric)
    except BaseException:
        truth.close()
        raise
    return truth


class PostgresTruth(Truth):
    """Tables in the first schema of the connection's search path."""

    dialect = "postgresql"
    empty_bytes = 200_000

    def __init__(self, address: str, config: MemoryConfig, read_only: bool) -> None:
        import psycopg

        super().__init__(re.sub(r"//[^/@]*@", "//", address), read_only)
        self.path = None
        self._psycopg = psycopg
        wait = int(1000 * config.timeout)
        with self.explained():
            self._connection = psycopg.connect(address, autocommit=True, connect_timeout=10)
            self.execute(f"SET lock_timeout = {max(1, wait)}")
            self._connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
            try:
                if not read_only:
                    self._take(config.timeout)
            except BaseException:
                self._connection.close()
                raise

    def _take(self, timeout: float) -> None:
        """One writer: the lock goes when the connection does, however it ends."""
        import time

        end = time.monotonic() + timeout
        take = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
        while not self._connection.execute(take, [LOCK]).fetchone()[0]:  # pyright: ignore
            if time.monotonic() >= end:
                raise StorageError(
                    f"the memory {self.place} is being written by another process; wait until it"
                    " ends, or open it with read_only."
                )
            time.sleep(0.05)

    def prepare(self, dim: int | None, metric: str) -> None:
        """Make the tables where there are none, and look for pgvector.

        Raises:
            CheckpointError: tables of another version.
            StorageError: there is nothing to read.
        """
        with self.explained():
            there = self.one("SELECT to_regclass('memory_about') IS NOT NULL")
            if not there:
                if self.read_only:
                    raise StorageError(
                        f"there is no memory in {self.place}; check the address, or write to it"
                        " first."
                    )
                with self.transaction():
                    self.create(dim, metric)
                    for statement in WORDS:
                        self.execute(statement)
            version = self.about().get("version", "0")
            if not version.isdecimal():
                raise CheckpointError(f"{self.place} holds no memory of solomonic.")
            schema.check_version(int(version), self.place)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(_percent(sql), values or None)  # pyright: ignore

    def execute_many(self, sql: str, rows: Iterable[Row]) -> None:
        with self._connection.cursor() as cursor:
            if sql.startswith("INSERT INTO memory_item ("):
                self._copy(cursor, rows)
            else:
                cursor.executemany(_percent(sql), rows)  # pyright: ignore

    def _copy(self, cursor: Any, rows: Iterable[Row]) -> None:
        columns = f"COPY memory_item ({schema.COLUMNS}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(columns) as copy:
            copy.set_types(
                ["int8", "float8", "text", "text", "text", "int8", "float8", "float8", "int8",
                 "int8", "float8", "int8", "text", "bytea"]
            )  # fmt: skip
            for row in rows:
                copy.write_row(row)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise explain(error, self.place) from error

    def changed(self) -> Hashable:
        sql = (
            "SELECT (SELECT max(id) FROM memory_item), (SELECT max(seq) FROM memory_forgotten),"
            " (SELECT value FROM memory_about WHERE name = 'next')"
        )
        return tuple(self.rows(sql)[0])

    def words(self, query: str, limit: int, where: Filter) -> list[tuple[int, float]]:
        found = dict.fromkeys(WORD.findall(query))
        if not found:
            return []
        match = " | ".join(f"'{word}'" for word in list(found)[:MOST_WORDS])
        extra, values = where.sql()
        vector = "to_tsvector('simple', text)"
        sql = (
            f"SELECT id, ts_rank_cd({vector}, query) AS rank FROM memory_item,"
            f" to_tsquery('simple', ?) query WHERE {vector} @@ query{extra}"
            " ORDER BY rank DESC, id DESC LIMIT ?"
        )
        return [(id_, float(rank)) for id_, rank in self.rows(sql, [match, *values, limit])]

    def used_bytes(self) -> int:
        tables = ["item", "about", "segment", "state", "observed", "forgotten"]
        sizes = " + ".join(f"pg_total_relation_size('memory_{name}')" for name in tables)
        return int(self.one(f"SELECT {sizes}"))

    def shrink(self) -> None:
        with self.lock, self.explained():
            for name in ("item", "forgotten", "observed", "state"):
                self.execute(f"VACUUM FULL memory_{name}")

    def problems(self) -> list[str]:
        return []  # the server checks its own pages

    def words_problems(self) -> list[str]:
        return []  # an index of the table itself: the server keeps it in step

    def rebuild_words(self) -> None:
        with self.lock, self.explained():
            self.execute("REINDEX INDEX memory_item_words")

    def close(self) -> None:
        with self.lock, self.explained():
            self._connection.close()


def _percent(sql: str) -> str:
    """psycopg's marks for values."""
    return sql.replace("%", "%%").replace("?", "%s")


def explain(error: Exception, place: str) -> SolomonicError:
    """An error of PostgreSQL as one sentence without values of a statement."""
    lines = str(error).strip().splitlines()
    said = lines[0][:200].rstrip(".") if lines else type(error).__name__
    state = getattr(error, "sqlstate", None) or ""
    if "NUL" in said or "0x00" in said:
        return DataError(
            "PostgreSQL keeps no text with a NUL character; remove it, or keep the memory in a"
            " file."
        )
    if state in ("53100", "53200"):
        return StorageError(
            f"{place}: the server's disk or memory is full, and nothing was changed: free some"
            f" space ({said})."
        )
    return StorageError(
        f"{place}: the server did not do it, and nothing was changed ({said}); see that it runs"
        " and try again."
    )
