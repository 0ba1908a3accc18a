"""The truth in one SQLite file with a write-ahead log: one writer, any number of readers."""

import contextlib
import os
import re
import sqlite3
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from solomonic.core import CheckpointError, SolomonicError, StorageError
from solomonic.memory import schema
from solomonic.memory.lock import WriterLock
from solomonic.memory.truth import Filter, Row, Truth

DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT)
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full, and nothing was changed: free some space",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: look for space and its health",
    sqlite3.SQLITE_READONLY: "it may only be read: ask for the right to write there",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the folder and its permissions",
    sqlite3.SQLITE_PERM: "it may not be opened: check the permissions",
    sqlite3.SQLITE_BUSY: "another process has kept it locked: find it, or raise the timeout",
    sqlite3.SQLITE_LOCKED: "another process has kept it locked: find it, or raise the timeout",
    sqlite3.SQLITE_TOOBIG: "a text is longer than SQLite can keep: write it in parts",
}
"""By SQLite's primary code: what happened and what to do."""
PRAGMAS = (
    "synchronous = NORMAL",  # a commit survives the process; a power cut may take the last ones
    "secure_delete = ON",  # what is forgotten is overwritten with zeros
    "temp_store = MEMORY",
    "cache_size = -65536",  # KiB
    f"journal_size_limit = {64 << 20}",
)
WORD = re.compile(r"\w+")
MOST_WORDS = 64  # of a query
READ = 30_000
"""Entries of the index of words that a query reads: BM25 reads every entry of every word it is
given, and "the" has one for each item, which tells nothing."""
TERMS = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS temp.memory_terms"
    " USING fts5vocab('main', 'memory_words', 'row')"
)


class SqliteTruth(Truth):
    """Tables in a file, or in memory (None)."""

    dialect = "sqlite"
    empty_bytes = 60_000

    def __init__(
        self, path: Path | None, read_only: bool, timeout: float, lock: WriterLock | None = None
    ) -> None:
        super().__init__(str(path) if path else ":memory:", read_only)
        self.path = path
        self._writing = lock
        self._frequent: tuple[int, dict[str, int]] = (0, {})  # items then, and items with a word
        with self.explained():
            self._connection = sqlite3.connect(
                _address(path, read_only),
                uri=True,
                timeout=timeout,
                isolation_level=None,  # transactions begin where we say
                check_same_thread=False,
            )

    def prepare(self, dim: int | None, metric: str) -> None:
        """Check what is there; make the tables where there is nothing.

        Raises:
            CheckpointError: damaged, something else, or another version's; it is left as it was.
        """
        with self.explained():
            application = self.execute("PRAGMA application_id").fetchone()[0]
            tables = self.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and application != schema.APPLICATION_ID:
                raise CheckpointError(
                    f"{self.place} is a database of another program, not a memory of solomonic;"
                    " give another path."
                )
            if tables:
                schema.check_version(self.execute("PRAGMA user_version").fetchone()[0], self.place)
            elif self.read_only:
                raise CheckpointError(f"{self.place} is empty; write to it before it is read.")
            if not self.read_only:
                self._settle()
            if not tables:
                with self.transaction():
                    self.create(dim, metric)
                    for statement in schema.WORDS:
                        self.execute(statement)
                    self.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
                    self.execute(f"PRAGMA user_version = {schema.VERSION}")

    def _settle(self) -> None:
        mode = self.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if self.path is not None and mode != "wal":
            raise StorageError(
                f"{self.place}: this file system allows no write-ahead log (SQLite offers "
                f"'{mode}'); put the memory on a local disk."
            )
        for pragma in PRAGMAS:
            self.execute(f"PRAGMA {pragma}")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[Row]) -> None:
        self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.place) from error

    def changed(self) -> Hashable:
        with self.lock, self.explained():
            return self.execute("PRAGMA data_version").fetchone()[0]

    def words(self, query: str, limit: int, where: Filter) -> list[tuple[int, float]]:
        found = list(dict.fromkeys(WORD.findall(query)))[:MOST_WORDS]
        if not found:
            return []
        match = " OR ".join(f'"{word}"' for word in self._telling(found))
        sql = "SELECT rowid, -rank FROM memory_words WHERE memory_words MATCH ?"
        extra, values = where.sql()
        if where:
            sql += f" AND rowid IN (SELECT id FROM memory_item WHERE 1 = 1{extra})"
        return [
            (id_, float(rank))
            for id_, rank in self.rows(f"{sql} ORDER BY rank LIMIT ?", [match, *values, limit])
        ]

    def _telling(self, words: list[str]) -> list[str]:
        """The rarest words, as many as `READ` entries of the index allow, and one at least."""
        items = int(self.one("SELECT value FROM memory_about WHERE name = 'next'"))
        if items * len(words) <= READ:
            return words
        with self.lock, self.explained():
            then, known = self._frequent
            if not then or items > 2 * then:
                self.execute(TERMS)
                self._frequent = items, (known := {})
            for word in words:
                if word not in known:
                    sql = "SELECT doc FROM memory_terms WHERE term = ?"
                    known[word] = (self.execute(sql, [_term(word)]).fetchone() or [0])[0]
        chosen, entries = [], 0
        for word in sorted(words, key=known.__getitem__):
            entries += known[word]
            if chosen and entries > READ:
                break
            chosen.append(word)
        return chosen

    def used_bytes(self) -> int:
        pages, free, size = (
            self.one(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def shrink(self) -> None:
        with self.lock, self.explained():
            self.execute("INSERT INTO memory_words (memory_words) VALUES ('optimize')")
            self.execute("PRAGMA temp_store = FILE")  # all of it: too much for memory
            self._frequent = 0, {}  # the setting drops every temporary table
            try:
                self.execute("VACUUM")
            finally:
                self.execute("PRAGMA temp_store = MEMORY")
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def problems(self) -> list[str]:
        return [
            f"{self.place} is damaged ({' '.join(str(row[0]).split())[:100]}); restore a backup."
            for row in self.rows("PRAGMA quick_check(1)")
            if row[0] != "ok"
        ]

    def words_problems(self) -> list[str]:
        if self.read_only:  # SQLite checks words only for who may write
            return []
        try:
            with self.lock:
                self.execute(
                    "INSERT INTO memory_words (memory_words, rank) VALUES ('integrity-check', 1)"
                )
        except sqlite3.DatabaseError:
            return ["the index of words differs from the texts; verify with repair mends it."]
        return []

    def rebuild_words(self) -> None:
        with self.transaction():
            self.execute("INSERT INTO memory_words (memory_words) VALUES ('rebuild')")

    def close(self) -> None:
        with self.lock, self.explained():
            try:
                self._connection.close()
            finally:
                if self._writing is not None:
                    self._writing.release()


def _term(word: str) -> str:
    """A word as the index of words has it (`unicode61 remove_diacritics 2`)."""
    apart = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _address(path: Path | None, read_only: bool) -> str:
    """What to connect to; makes an empty file for its owner's eyes only.

    Raises:
        StorageError: the folder cannot be written, or there is nothing to read.
        CheckpointError: a file too short to be a database.
    """
    if path is None:
        return ":memory:"
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(
            f"the memory {path} cannot be made ({error.strerror}); give a place that you may write."
        ) from error
    if not path.exists():
        raise StorageError(f"there is no memory at {path}; check the path, or write to it first.")
    if 0 < path.stat().st_size < 512:  # SQLite would take it for empty
        raise CheckpointError(f"{path} is not a memory of solomonic; give another path.")
    return path.absolute().as_uri() + ("?mode=ro" if read_only else "?mode=rw")


def explain(error: sqlite3.Error, place: str) -> SolomonicError:
    """An error of SQLite as one sentence."""
    code = getattr(error, "sqlite_errorcode", None)
    said = str(error).rstrip(".")
    if code is not None and (code & 0xFF) in DAMAGED:
        return CheckpointError(
            f"{place} is not a memory of solomonic, or is damaged ({said}); give another path or"
            " restore a backup."
        )
    advice = ADVICE.get((code or 0) & 0xFF, "nothing was changed; try again")
    return StorageError(f"{place}: {advice} ({said}).")
