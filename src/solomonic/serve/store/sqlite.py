"""SQLite as the store needs it: durable commits, and deletions that leave no bytes behind."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from solomonic.core import CheckpointError, StorageError
from solomonic.serve.store.base import StoreConfig
from solomonic.serve.store.database import Database
from solomonic.serve.store.schema import VERSION, refuse_others

OLDEST = (3, 35, 0)  # RETURNING
SMALLEST = 512  # bytes of a database that is not empty: one page
POLL_SECONDS = 0.05
LOG_BYTES = 4 << 20  # what a write-ahead log is cut to when it is used again from its start


def sqlite_engine(path: Path | None, config: StoreConfig) -> Engine:
    """An engine over a file, which is made where there is none, or over memory (None).

    Raises:
        StorageError: the folder cannot be written, or this SQLite is too old.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StorageError(
            f"the store needs SQLite {'.'.join(map(str, OLDEST))}, Python has "
            f"{sqlite3.sqlite_version}; install a newer Python."
        )
    pool: dict[str, Any] = {"poolclass": StaticPool}
    if path is not None:
        _create(path)
        pool = {
            "poolclass": QueuePool,
            "pool_size": config.connections,
            "max_overflow": 0,
            "pool_timeout": config.timeout,
        }
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=":memory:" if path is None else str(path)),
        hide_parameters=True,  # what users said stays out of messages
        connect_args={"check_same_thread": False, "timeout": config.timeout},
        **pool,
    )

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not by themselves
        for pragma in (
            "synchronous = FULL",  # a commit is on the disk before it is acknowledged
            "foreign_keys = ON",
            "secure_delete = ON",  # what is deleted is overwritten with zeros
            "temp_store = MEMORY",  # no sentence of a user in a folder of temporary files
            f"journal_size_limit = {LOG_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        # A transaction that writes takes the lock at once: to take it later can fail half-way.
        writes = connection.get_execution_options().get("solomonic_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create(path: Path) -> None:
    """An empty file for its owner's eyes only; the log beside it inherits the permissions.

    A file that is there is not even opened: to close it again would drop the locks that this
    process may have on it (POSIX), and others would take the database for unused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if 0 < path.stat().st_size < SMALLEST:  # SQLite would take it for empty
            raise CheckpointError(
                f"{path} is not a store of solomonic; give another place."
            ) from None
    except OSError as error:
        raise StorageError(
            f"the store {path} cannot be opened for writing ({error.strerror}); give a place "
            "where the server may write."
        ) from error


def prepare(database: Database) -> None:
    """Check a file and switch it to a write-ahead log, before the first transaction.

    Raises:
        CheckpointError: damaged, no database, or another program's, which is left as it was.
        StorageError: the file system cannot hold a log that processes share.
    """
    with database.outside() as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            reason = " ".join(found[0].split())[:100]
            raise CheckpointError(f"{database.place} is damaged ({reason}); restore a backup.")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        refuse_others({name for (name,) in tables}, database.place)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StorageError(
                f"{database.place}: this file system allows no write-ahead log (SQLite offers "
                f"'{mode}'); put the store on a local disk."
            )


def wipe(database: Database) -> None:
    """Overwrite what deleted rows left behind in the file and its log.

    Zeros over deleted rows are not enough: when SQLite splits a page, copies of rows can stay in
    its unused middle. So the file is rebuilt from what lives, and the log cut to nothing.

    Raises:
        StorageError: no space to rebuild, or another process reads without pause. The rows are
            gone all the same, and the next deletion or start tries again.
    """
    try:
        with database.outside() as connection:
            connection.execute("PRAGMA temp_store = FILE")  # of all users: too much for memory
            connection.execute("VACUUM")
            connection.execute("PRAGMA temp_store = MEMORY")
            _cut_log(connection, database.timeout)
    except StorageError as error:
        raise StorageError(
            f"the user is deleted, but {database.place} could not be cleared of old bytes yet "
            f"({error}); the next start or deletion tries again."
        ) from error
    database.write(lambda connection: connection.execute(VERSION.update().values(unwiped=0)))


def _cut_log(connection: sqlite3.Connection, timeout: float) -> None:
    end = time.monotonic() + timeout
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > end:
            raise StorageError("another process has been reading from it all the time")
        time.sleep(POLL_SECONDS)
