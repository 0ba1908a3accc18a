"""Transactions over one database: who waits for whom, what is tried again, how failures read."""

import contextlib
import dataclasses
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, SQLAlchemyError

from solomonic.core import CheckpointError, SolomonicError, StorageError

T = TypeVar("T")
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT)
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: look for space and its health",
    sqlite3.SQLITE_READONLY: "it may only be read: give the server the right to write there",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the folder and its permissions",
    sqlite3.SQLITE_PERM: "it may not be opened: check the permissions",
    sqlite3.SQLITE_BUSY: "another process has kept it locked: find it, or raise the timeout",
    sqlite3.SQLITE_LOCKED: "another process has kept it locked: find it, or raise the timeout",
}
"""By SQLite's primary code: what happened and what to do."""
DETAIL = 200  # characters of a database's own words in a message
TOGETHER = 64  # changes in one transaction at most


@dataclasses.dataclass(eq=False)
class _Change:
    """One caller's change, on its way through a transaction."""

    work: Callable[[Connection], Any]
    undo: Callable[[], None]
    result: Any = None
    error: BaseException | None = None
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    def answer(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class Database:
    """An engine; with SQLite, what threads want to change at the same time is one transaction.

    SQLite has one writer at a time, and each commit waits for the disk. So threads queue here, and
    the first in the queue commits the changes of all who wait, each within a savepoint: twenty
    speakers wait for the disk once, not twenty times. PostgreSQL does the like by itself.

    Attributes:
        place: what people call it: a path, or a URL without its password.
        before_commit: called at the end of every transaction that writes.
        unsure: a COMMIT failed: its outcome is known again when the next one has succeeded.
    """

    def __init__(self, engine: Engine, place: str, timeout: float) -> None:
        self.engine = engine
        self.place = place
        self.timeout = timeout
        self.unsure = False
        self.dialect = engine.dialect.name
        self.in_memory = self.dialect == "sqlite" and engine.url.database in (None, "", ":memory:")
        self.before_commit: Callable[[], None] = lambda: None
        self._turn = threading.Lock() if self.dialect == "sqlite" else None
        self._queue: deque[_Change] = deque()
        self._queueing = threading.Lock()
        # A snapshot: what several statements read belongs together (SQLite always gives one).
        snapshot = {} if self.dialect == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(**snapshot)
        self._writer = engine.execution_options(solomonic_write=True)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot, once more where the connection was lost."""
        with self._alone() if self.in_memory else contextlib.nullcontext():
            return self._twice(lambda: self._read(work))

    def write(self, work: Callable[[Connection], T], undo: Callable[[], None] | None = None) -> T:
        """Run `work` as one transaction that writes, once more where it surely did not happen.

        Args:
            undo: takes back what `work` did outside the database; called when the transaction
                surely did not happen.

        Raises:
            StorageError: it did not happen, or the message says that this is not known.
        """
        change = _Change(work, undo or (lambda: None))
        if self._turn is None:
            self._twice(lambda: self._transact([change]))
            return change.answer()
        with self._queueing:
            self._queue.append(change)
        try:
            with self._alone():
                while not change.done.is_set():
                    self._lead()
        except StorageError:
            with self._queueing:
                waits = change in self._queue
                if waits:
                    self._queue.remove(change)
            if waits:
                change.undo()
                raise
            change.done.wait()  # another thread has begun to commit it
        return change.answer()

    @contextlib.contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """A bare SQLite connection without a transaction, while no other thread writes."""
        with self._alone(), self._explained():
            pooled = self.engine.raw_connection()
            try:
                yield pooled.driver_connection  # pyright: ignore[reportReturnType]
            finally:
                pooled.close()

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._explained(), self._reader.connect() as connection, connection.begin():
            return work(connection)

    def _lead(self) -> None:
        """Commit what waits, and tell everybody how it went. The caller has the turn."""
        with self._queueing:
            batch = [self._queue.popleft() for _ in range(min(TOGETHER, len(self._queue)))]
        try:
            self._transact(batch)
        except SolomonicError as error:
            for change in batch:  # one error each, as tracebacks are added to it
                change.error = change.error or type(error)(*error.args)
                change.error.__cause__ = change.error.__cause__ or error.__cause__
        except BaseException:
            for change in batch:
                change.error = change.error or StorageError(
                    f"{self.place}: the change was broken off and did not happen; send it again."
                )
            raise
        finally:
            for change in batch:
                change.done.set()

    def _transact(self, batch: list[_Change]) -> None:
        """Run changes as one transaction. Raises what concerns all, keeps what concerns one."""
        committing = False
        try:
            with self._explained(), self._writer.connect() as connection:
                transaction = connection.begin()
                for change in batch:
                    self._attempt(connection, change, alone=len(batch) == 1)
                self.before_commit()
                committing = True
                try:
                    transaction.commit()
                except DBAPIError as error:
                    self.unsure = True
                    raise self._failed_commit(error) from error
        except BaseException:  # the connection, given back, has taken back what it did
            if not committing:
                for change in batch:
                    change.undo()
            raise

    def _attempt(self, connection: Connection, change: _Change, alone: bool) -> None:
        if alone:
            change.result = change.work(connection)
            return
        savepoint = connection.begin_nested()
        try:
            change.result = change.work(connection)
        except DBAPIError:  # SQLite may have given up the whole transaction
            raise
        except Exception as error:
            savepoint.rollback()
            change.undo()
            change.error = error
        else:
            savepoint.commit()

    def _failed_commit(self, error: DBAPIError) -> SolomonicError:
        """A SQLite that lives takes a failed COMMIT back; of a lost server nobody knows."""
        if self.dialect == "sqlite":
            return explain(error, self.place)
        return StorageError(
            f"{self.place}: the connection was lost while a change was being committed "
            f"({words(error)}); it may or may not have happened: read the user's record before "
            "sending it again."
        )

    def _twice(self, attempt: Callable[[], T]) -> T:
        try:
            return attempt()
        except _LostError:
            return attempt()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=self.timeout):
            raise StorageError(
                f"{self.place}: other changes took longer than {self.timeout:g} s; the disk is "
                "too slow or the server asks too much of it."
            )
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = explain(error, self.place)
            if error.connection_invalidated:
                raise _LostError(str(reason)) from error
            raise reason from error
        except sqlite3.Error as error:
            raise explain(error, self.place) from error
        except SQLAlchemyError as error:
            raise StorageError(
                f"{self.place}: the database did not answer ({words(error)}); try again."
            ) from error


class _LostError(StorageError):
    """The connection went away before anything was committed."""


def explain(error: DBAPIError | sqlite3.Error, place: str) -> SolomonicError:
    """A database's error as one sentence that carries no values of a statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None and (code & 0xFF) in DAMAGED:
        return CheckpointError(
            f"{place} is not a store of solomonic, or is damaged ({words(error)}); give another "
            "place or restore a backup."
        )
    if code is not None:
        advice = ADVICE.get(code & 0xFF, "nothing was changed; try again")
        return StorageError(f"{place}: {advice} ({words(error)}).")
    lost = isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error, InterfaceError)
    )
    state = "the connection was lost" if lost else "the database refused or is not there"
    return StorageError(f"{place}: {state} ({words(error)}); see that it runs, then try again.")


def words(error: Exception) -> str:
    """The first line of what a database says: the following ones may quote values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:DETAIL].rstrip(".") if lines else type(cause).__name__
