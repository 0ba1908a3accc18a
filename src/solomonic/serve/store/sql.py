"""The one store: the same statements for SQLite in memory, SQLite in a file, and PostgreSQL."""

import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Row, delete, select

from solomonic.core import CheckpointError, DataError, StorageError
from solomonic.serve.store import statements
from solomonic.serve.store.base import (
    KeyRecord,
    StoreConfig,
    UserMemory,
    UserUsage,
    Utterance,
    valid_name,
    valid_phrases,
    valid_utterance,
)
from solomonic.serve.store.database import Database
from solomonic.serve.store.postgresql import postgresql_engine
from solomonic.serve.store.schema import KEYS, STATES, USERS, VERSION, migrate
from solomonic.serve.store.sqlite import prepare, sqlite_engine, wipe
from solomonic.serve.store.states import StateFiles, checked, file_name, valid_state

T = TypeVar("T")
LOG = logging.getLogger(__name__)
READ_TRIES = 5
"""Of a state whose file a newer commit removed between reading the row and the file."""
BESIDE = "-states"
"""What the folder of states is called after the name of the database."""


class SqlStore:
    """See `base.Store`. Made by `opening.open_store`.

    Attributes:
        config: its limits.
        place: path or URL, without a password.
        files: where states are, or None where they are in the rows.
    """

    def __init__(self, database: Database, files: StateFiles | None, config: StoreConfig) -> None:
        self.config = config
        self.place = database.place
        self.files = files
        self._database = database
        self._closed = False
        try:
            self._open()
        except BaseException:
            database.engine.dispose()
            raise

    @classmethod
    def in_memory(cls, config: StoreConfig) -> "SqlStore":
        """Nothing lasts."""
        database = Database(sqlite_engine(None, config), "the store in memory", config.timeout)
        return cls(database, None, config)

    @classmethod
    def in_file(cls, path: Path, config: StoreConfig) -> "SqlStore":
        """A SQLite file, and a folder of states beside it."""
        database = Database(sqlite_engine(path, config), str(path), config.timeout)
        return cls(database, StateFiles(path.with_name(path.name + BESIDE)), config)

    @classmethod
    def in_postgresql(cls, url: URL, config: StoreConfig) -> "SqlStore":
        """Everything in the tables of one database."""
        place = url.render_as_string(hide_password=True)
        return cls(Database(postgresql_engine(url, config), place, config.timeout), None, config)

    def memory(self, user: str, *, last: int | None = 1000, state: bool = True) -> UserMemory:
        """See `Store.memory`."""
        valid_name(user)
        for _ in range(READ_TRIES):
            found, row = self.read(lambda c: statements.read_user(c, user, last))
            if row is None or not state:
                return found
            with contextlib.suppress(FileNotFoundError):
                return dataclasses.replace(
                    found,
                    state=self._state(row),
                    fingerprint=row.fingerprint,
                    state_revision=row.revision,
                )
        raise CheckpointError(
            f"{self.place}: the state file {row.file} is missing; restore it from a backup, or "
            "let the user's next utterance write a new one."
        )

    def commit(
        self, user: str, utterance: Utterance, *, state: bytes | None = None, fingerprint: str = ""
    ) -> int:
        """See `Store.commit`."""
        valid_name(user)
        utterance = valid_utterance(utterance, self.config)
        if state is not None:
            valid_state(state, fingerprint, self.config.max_state_bytes)
        most, most_bytes = self.config.max_utterances, self.config.max_history_bytes

        def work(connection: Connection, files: "Changes") -> int:
            row = statements.touch(connection, user, 1, utterance.nbytes)
            added = dataclasses.replace(utterance, revision=row.revision)
            statements.add_utterances(connection, row.id, [added])
            statements.forget(connection, row, most, most_bytes)
            if state is not None:
                files.put(connection, row.id, row.revision, fingerprint)
            return row.revision

        return self.write(work, state)

    def set_phrases(self, user: str, phrases: Sequence[str]) -> None:
        """See `Store.set_phrases`."""
        valid_name(user)
        words = valid_phrases(phrases, self.config)

        def work(connection: Connection, _: "Changes") -> None:
            row = statements.touch(connection, user)
            statements.write_phrases(connection, row.id, words)

        self.write(work)

    def users(self) -> list[str]:
        """See `Store.users`."""
        return sorted(self.read(lambda c: c.scalars(select(USERS.c.name)).all()))

    def usage(self) -> list[UserUsage]:
        """See `Store.usage`."""
        rows = self.read(lambda c: c.execute(statements.usage_query()).all())
        return sorted((UserUsage(*row) for row in rows), key=lambda usage: usage.user)

    def delete_user(self, user: str) -> dict[str, int]:
        """See `Store.delete_user`.

        Returns:
            How many "users", "utterances", "phrases", "states" and "keys" were deleted.
        """
        valid_name(user)

        def work(connection: Connection, files: "Changes") -> dict[str, int]:
            counts, replaced = statements.erase(connection, user)
            files.replaced += replaced
            if self.files and any(counts.values()):
                connection.execute(VERSION.update().values(unwiped=1))
            return counts

        counts = self.write(work)
        self._wipe()
        return counts

    def add_key(
        self, key_hash: bytes, name: str, user: str = "", limits: dict[str, Any] | None = None
    ) -> None:
        """See `Store.add_key`."""
        valid_name(name, "key")
        if user:
            valid_name(user)
        key = KeyRecord(name, user, limits or {}, time.time(), key_hash)
        if not self.write(lambda connection, _: statements.add_key(connection, key)):
            raise DataError(f"there is a key '{name}' already; choose another name.")

    def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """See `Store.find_key`."""
        return next(iter(self.read(lambda c: statements.read_keys(c, key_hash))), None)

    def keys(self) -> list[KeyRecord]:
        """See `Store.keys`."""
        return sorted(self.read(statements.read_keys), key=lambda key: key.name)

    def revoke_key(self, name: str) -> bool:
        """See `Store.revoke_key`."""
        query = delete(KEYS).where(KEYS.c.name == name)
        return self.write(lambda connection, _: connection.execute(query).rowcount) > 0

    def check(self) -> None:
        """See `Store.check`."""
        if self.files and not self.files.folder.is_dir():
            raise StorageError(f"{self.files.folder} is gone; restore the store from a backup.")
        self.read(lambda connection: connection.execute(select(VERSION.c.version)).one())

    def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        self._database.engine.dispose()

    # What follows is for this package.

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot of the database."""
        self._usable()
        return self._database.read(work)

    def write(self, work: "Callable[[Connection, Changes], T]", state: bytes | None = None) -> T:
        """Run `work` as one transaction; files come before it is committed and go after it.

        Args:
            state: what `work` will `put`.
        """
        self._usable()
        changes = Changes(self.files, state)
        result = self._database.write(lambda c: work(c, changes), changes.take_back)
        changes.discard()
        if self._database.unsure:
            self._sweep()
        return result

    def _usable(self) -> None:
        if self._closed:
            raise StorageError(f"{self.place} was closed; open it again.")

    def _open(self) -> None:
        if self.files:
            prepare(self._database)
            self.files.prepare()
            self._database.before_commit = self.files.settle
        self._database.write(lambda connection: migrate(connection, self.place))
        self._sweep()
        try:
            self._wipe()
        except StorageError as error:  # no reason not to start
            LOG.warning("%s", error)

    def _wipe(self) -> None:
        """Finish what `delete_user` began, here or before a crash."""
        if self.files and self.read(lambda c: c.scalar(select(VERSION.c.unwiped))):
            self._sweep()
            self.files.sync()  # the disk must have forgotten the names too
            wipe(self._database)

    def _sweep(self) -> None:
        """Remove state files that a crash or a failed commit left without a row."""
        files = self.files
        if files:
            self._database.write(lambda c: files.sweep(set(statements.state_files(c))))
        self._database.unsure = False

    def _state(self, row: Row) -> bytes:
        if row.file is None:
            return checked(row.data, row.sha256, f"{self.place}: the state of a user")
        assert self.files is not None
        what = f"state file {self.files.folder / row.file}"
        return checked(self.files.read(row.file), row.sha256, what)


class Changes:
    """The state of one transaction: its file is there before its end, the former goes after it.

    Raises:
        StorageError: the disk is full or cannot be written.
    """

    def __init__(self, files: StateFiles | None, state: bytes | None = None) -> None:
        self._files = files
        self._state = state
        self._staged = files.stage(state) if files and state is not None else None
        self.written: list[str] = []
        self.replaced: list[str] = []

    def put(self, connection: Connection, user_id: int, revision: int, fingerprint: str) -> None:
        """Store the state in the place of the user's one before."""
        state = self._state
        assert state is not None
        values: dict[str, Any] = {
            "revision": revision,
            "fingerprint": fingerprint,
            "bytes": len(state),
            "sha256": hashlib.sha256(state).digest(),
            "file": None,
            "data": None if self._files else state,
        }
        if self._files:
            self.replaced += statements.state_files(connection, user_id)
            values["file"] = file_name(user_id, revision, state)
            self.written.append(values["file"])
            self._files.adopt(self._staged, values["file"], state)
        statements.upsert(connection, STATES, {"user_id": user_id}, values)

    def take_back(self) -> None:
        """The transaction did not happen."""
        self._remove(self.written)
        self.written.clear()
        self.replaced.clear()
        self._drop_staged()

    def discard(self) -> None:
        """The transaction happened: its former files are of no use."""
        self._remove(self.replaced)
        self._drop_staged()  # there where nothing was put

    def _drop_staged(self) -> None:
        if self._staged is not None:
            self._remove([self._staged])

    def _remove(self, names: list[str]) -> None:
        if self._files:
            with contextlib.suppress(StorageError):  # the next sweep removes it
                self._files.remove(names)
