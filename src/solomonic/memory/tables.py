"""Tables of a part's own in the file of a memory: the ground of the solver and of the claims.

The file is a memory like any other (`Memory.open` reads it); a part adds tables with a prefix and a
version of their own. Every change is one transaction on a connection of its own, so several parts
and processes can use one file. SQLite only: where a memory is in PostgreSQL, these parts take a
file beside it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from solomonic.core import CheckpointError, ConfigError, DataError, SolomonicError
from solomonic.memory.config import MemoryConfig
from solomonic.memory.sqlite import SqliteTruth, explain


class Tables:
    """A connection to a memory's file, with the tables of one part in it.

    Attributes:
        db: the connection; used inside `told` or `changing`.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        part: str,
        schema: str,
        version: int,
        must_exist: bool = False,
    ) -> None:
        """Open, and make the file and the tables where they are missing.

        Args:
            path: of the memory; None keeps all in this process.
            part: prefix of the tables, as 'solver'.
            must_exist: refuse to make a new file.

        Raises:
            ConfigError: a URL: only files are possible here.
            DataError: `must_exist` and there is no such file.
            CheckpointError: the file is something else, damaged, or of a newer version.
            StorageError: it cannot be opened or written.
        """
        if path is not None and "://" in str(path):
            raise ConfigError(
                f"the {part} tables are kept in a file, not at {str(path).split('://')[0]}://...; "
                "give a path."
            )
        self.place = ":memory:" if path in (None, ":memory:") else str(path)
        self.part = part
        if self.place != ":memory:":
            if must_exist and not Path(self.place).exists():
                raise DataError(f"there is no store {self.place}; check the path.")
            truth = SqliteTruth(Path(self.place), False, 30.0)
            try:
                truth.prepare(None, MemoryConfig().metric)
            finally:
                truth.close()
        with self.told():
            self.db = sqlite3.connect(self.place, timeout=30.0, isolation_level=None)
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute("PRAGMA secure_delete = ON")  # as in the memory itself
        self._make(schema, version)

    def _make(self, schema: str, version: int) -> None:
        name = f"{self.part}_version"
        with self.told():
            here = self.db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
            if here is None:
                # Another process may be doing the same: every statement says IF NOT EXISTS.
                self.db.executescript(
                    f"BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS {name} (version INTEGER);"
                    f"{schema}; INSERT INTO {name} SELECT {version} "
                    f"WHERE NOT EXISTS (SELECT 1 FROM {name}); COMMIT;"
                )
            (found,) = self.db.execute(f"SELECT version FROM {name}").fetchone()
        if found > version:
            self.db.close()
            raise CheckpointError(
                f"the {self.part} tables of {self.place} are of version {found}, newer than this "
                f"solomonic's {version}; update it."
            )

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise ConfigError(f"the store {self.place} is closed, or another thread's.") from error
        except sqlite3.Error as error:
            raise explain(error, self.place) from error

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction: all of it, or nothing."""
        with self.told():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error, SolomonicError):
                    if self.db.in_transaction:
                        self.db.execute("ROLLBACK")
                raise
