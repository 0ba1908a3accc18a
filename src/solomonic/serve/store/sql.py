"""The one store: the same statements for SQLite in memory, SQLite in a file, and PostgreSQL."""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Row, Select, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from solomonic.core import CheckpointError, DataError, StorageError
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
from solomonic.serve.store.schema import (
    KEYS,
    PHRASES,
    STATES,
    USERS,
    UTTERANCES,
    VERSION,
    migrate,
)
from solomonic.serve.store.sqlite import prepare, sqlite_engine, wipe
from solomonic.serve.store.states import StateFiles, checked, file_name, valid_state

FORGET_AT_ONCE = 500
"""Old utterances looked at in one statement, where some are to be forgotten."""
COUNTED: tuple[str, ...] = ("users", "utterances", "phrases", "states", "keys")
READ_TRIES = 5
"""Of a state whose file a newer commit removed between reading the row and the file."""


class SqlStore:
    """See `base.Store`. Made by `opening.open_store`.

    Attributes:
        config: its limits.
        place: path or URL, without a password.
    """

    def __init__(self, database: Database, files: StateFiles | None, config: StoreConfig) -> None:
        self.config = config
        self.place = database.place
        self._database = database
        self._files = files
        self._closed = False
        try:
            self._open()
        except BaseException:
            database.engine.dispose()
            raise

    @classmethod
    def in_memory(cls, config: StoreConfig) -> "SqlStore":
        """Nothing lasts."""
        return cls(Database(sqlite_engine(None, config), "the store in memory", config.timeout),
                   None, config)  # fmt: skip

    @classmethod
    def in_file(cls, path: Path, config: StoreConfig) -> "SqlStore":
        """A SQLite file, with a folder `<name>-states` beside it."""
        database = Database(sqlite_engine(path, config), str(path), config.timeout)
        return cls(database, StateFiles(path.with_name(path.name + "-states")), config)

    @classmethod
    def in_postgresql(cls, url: URL, config: StoreConfig) -> "SqlStore":
        """Everything in the tables of one database."""
        place = url.render_as_string(hide_password=True)
        return cls(Database(postgresql_engine(url, config), place, config.timeout), None, config)

    def memory(self, user: str, *, last: int = 1000, state: bool = True) -> UserMemory:
        """See `Store.memory`."""
        valid_name(user)
        for _ in range(READ_TRIES):
            found, row = self._database.read(lambda connection: _memory(connection, user, last))
            if row is None or not state:
                return found
            with contextlib.suppress(FileNotFoundError):
                return _with_state(found, row, self._state(row))
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
        written, replaced = [], []  # state files

        def work(connection: Connection) -> int:
            row = self._touch(connection, user, 1, utterance.nbytes)
            connection.execute(UTTERANCES.insert().values(**_columns(row, utterance)))
            self._forget(connection, row)
            if state is not None:
                replaced[:] = self._replace_state(connection, row, state, fingerprint, written)
            return row.revision

        revision = self._write(work, lambda: self._take_back(written))
        self._discard(replaced)
        return revision

    def set_phrases(self, user: str, phrases: Sequence[str]) -> None:
        """See `Store.set_phrases`."""
        valid_name(user)
        text = json.dumps(valid_phrases(phrases, self.config), ensure_ascii=False)

        def work(connection: Connection) -> None:
            row = self._touch(connection, user)
            self._upsert(connection, PHRASES, {"user_id": row.id}, {"phrases": text})

        self._write(work)

    def users(self) -> list[str]:
        """See `Store.users`."""
        return sorted(self._database.read(lambda c: c.scalars(select(USERS.c.name)).all()))

    def usage(self) -> list[UserUsage]:
        """See `Store.usage`."""
        state_bytes = func.coalesce(STATES.c.bytes, 0).label("state_bytes")
        columns = (USERS.c.name, USERS.c.revision, USERS.c.utterances, USERS.c.history_bytes)
        joined = USERS.outerjoin(STATES, STATES.c.user_id == USERS.c.id)
        query = select(*columns, state_bytes).select_from(joined)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return sorted((UserUsage(*row) for row in rows), key=lambda usage: usage.user)

    def delete_user(self, user: str) -> dict[str, int]:
        """See `Store.delete_user`.

        Returns:
            How many "users", "utterances", "phrases", "states" and "keys" were deleted.
        """
        valid_name(user)
        files: list[str] = []

        def work(connection: Connection) -> dict[str, int]:
            counts = dict.fromkeys(COUNTED, 0)
            counts["keys"] = connection.execute(delete(KEYS).where(KEYS.c.user == user)).rowcount
            row = connection.execute(_user(user).with_for_update()).one_or_none()
            if row is not None:
                files[:] = connection.scalars(
                    select(STATES.c.file).where(STATES.c.user_id == row.id, STATES.c.file != None)  # noqa: E711
                ).all()
                counts["phrases"] = len(_phrases(connection, row.id))
                for name, table in (("utterances", UTTERANCES), ("states", STATES)):
                    gone = delete(table).where(table.c.user_id == row.id)
                    counts[name] = connection.execute(gone).rowcount
                gone = delete(USERS).where(USERS.c.id == row.id)
                counts["users"] = connection.execute(gone).rowcount
            if any(counts.values()) and self._wipes:
                connection.execute(VERSION.update().values(unwiped=1))
            return counts

        counts = self._write(work)
        if self._files:
            self._files.remove(files, durable=True)
        self._wipe()
        return counts

    def add_key(
        self, key_hash: bytes, name: str, user: str = "", limits: dict[str, Any] | None = None
    ) -> None:
        """See `Store.add_key`."""
        valid_name(name, "key")
        if user:
            valid_name(user)
        values = {"name": name, "hash": key_hash, "user": user, "created": time.time()}
        values["limits"] = json.dumps(limits or {})

        def work(connection: Connection) -> None:
            # Nothing is returned where the name or the hash is there already.
            query = self._insert(KEYS).values(**values).on_conflict_do_nothing()
            if connection.execute(query.returning(KEYS.c.name)).one_or_none() is None:
                raise DataError(f"there is a key '{name}' already; choose another name.")

        self._write(work)

    def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """See `Store.find_key`."""
        query = select(KEYS).where(KEYS.c.hash == key_hash)
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _key(row)

    def keys(self) -> list[KeyRecord]:
        """See `Store.keys`."""
        rows = self._database.read(lambda connection: connection.execute(select(KEYS)).all())
        return sorted((_key(row) for row in rows), key=lambda key: key.name)

    def revoke_key(self, name: str) -> bool:
        """See `Store.revoke_key`."""
        query = delete(KEYS).where(KEYS.c.name == name)
        return self._write(lambda connection: connection.execute(query).rowcount) > 0

    def check(self) -> None:
        """See `Store.check`."""
        if self._closed:
            raise StorageError(f"{self.place} is closed.")
        if self._files and not self._files.folder.is_dir():
            raise StorageError(f"{self._files.folder} is gone; restore the store from a backup.")
        self._database.read(lambda connection: connection.execute(select(VERSION.c.version)).one())

    def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        self._database.engine.dispose()

    # Opening and keeping clean.

    def _open(self) -> None:
        if self._files:
            prepare(self._database)
            self._files.prepare()
        self._database.write(lambda connection: migrate(connection, self.place))
        self._sweep()
        self._wipe()

    @property
    def _wipes(self) -> bool:
        """Whether deleted rows leave bytes in a file of ours."""
        return self._files is not None

    def _wipe(self) -> None:
        """Finish what `delete_user` began, here or before a crash."""
        if self._wipes and self._database.read(lambda c: c.scalar(select(VERSION.c.unwiped))):
            wipe(self._database)

    def _sweep(self) -> None:
        """Remove state files that a crash or a failed commit left without a row."""
        files = self._files
        if files:
            query = select(STATES.c.file)
            self._database.write(lambda c: files.sweep({n for n in c.scalars(query) if n}))
        self._database.unsure = False

    def _write(self, work: Any, undo: Any = None) -> Any:
        result = self._database.write(work, undo)
        if self._database.unsure:
            self._sweep()
        return result

    def _take_back(self, written: list[str]) -> None:
        """Remove the files of a transaction that did not happen."""
        self._discard(written)
        written.clear()

    def _discard(self, names: list[str]) -> None:
        """Remove files that are of no use; one that resists goes with the next sweep."""
        if self._files:
            with contextlib.suppress(StorageError):
                self._files.remove(names)

    # Statements.

    def _insert(self, table: Any) -> Any:
        dialect = sqlite if self._database.dialect == "sqlite" else postgresql
        return dialect.insert(table)

    def _upsert(self, connection: Connection, table: Any, key: dict, values: dict) -> None:
        query = self._insert(table).values(**key, **values)
        connection.execute(query.on_conflict_do_update(index_elements=list(key), set_=values))

    def _touch(self, connection: Connection, user: str, utterances: int = 0, size: int = 0) -> Row:
        """The user's next revision; makes the user, and keeps other writers of it waiting."""
        query = self._insert(USERS).values(
            name=user, revision=1, utterances=utterances, history_bytes=size
        )
        query = query.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "revision": USERS.c.revision + 1,
                "utterances": USERS.c.utterances + utterances,
                "history_bytes": USERS.c.history_bytes + size,
            },
        )
        columns = (USERS.c.id, USERS.c.revision, USERS.c.utterances, USERS.c.history_bytes)
        return connection.execute(query.returning(*columns)).one()

    def _forget(self, connection: Connection, user: Row) -> None:
        """Delete the oldest utterances until the user is within the bounds."""
        count, size = user.utterances, user.history_bytes
        limits = (self.config.max_utterances, self.config.max_history_bytes)
        until = 0
        while count > limits[0] or size > limits[1]:
            query = (
                select(UTTERANCES.c.revision, UTTERANCES.c.bytes)
                .where(UTTERANCES.c.user_id == user.id, UTTERANCES.c.revision > until)
                .order_by(UTTERANCES.c.revision)
                .limit(FORGET_AT_ONCE)
            )
            for row in connection.execute(query).all():
                if count <= limits[0] and size <= limits[1]:
                    break
                count, size, until = count - 1, size - row.bytes, row.revision
        if until:
            old = (UTTERANCES.c.user_id == user.id) & (UTTERANCES.c.revision <= until)
            connection.execute(delete(UTTERANCES).where(old))
            bounded = USERS.update().where(USERS.c.id == user.id)
            connection.execute(bounded.values(utterances=count, history_bytes=size))

    def _replace_state(
        self, connection: Connection, user: Row, state: bytes, fingerprint: str, written: list[str]
    ) -> list[str]:
        """Put a state in the place of the one before; the files that are then without use."""
        values: dict[str, Any] = {
            "revision": user.revision,
            "fingerprint": fingerprint,
            "bytes": len(state),
            "sha256": hashlib.sha256(state).digest(),
            "file": None,
            "data": None if self._files else state,
        }
        replaced = []
        if self._files:
            old = select(STATES.c.file).where(STATES.c.user_id == user.id)
            replaced = [name for name in connection.scalars(old) if name]
            values["file"] = file_name(user.id, user.revision, state)
            written.append(values["file"])
            self._files.write(values["file"], state)
        self._upsert(connection, STATES, {"user_id": user.id}, values)
        return replaced

    def _state(self, row: Row) -> bytes:
        if row.file is None:
            return checked(row.data, row.sha256, f"{self.place}: the state of a user")
        assert self._files is not None
        data = self._files.read(row.file)
        return checked(data, row.sha256, f"state file {self._files.folder / row.file}")


def _user(user: str) -> Select:
    return select(USERS).where(USERS.c.name == user)


def _memory(connection: Connection, user: str, last: int) -> tuple[UserMemory, Row | None]:
    """A user's record without the state, and the row of the state."""
    row = connection.execute(_user(user)).one_or_none()
    if row is None:
        return UserMemory(user), None
    query = select(UTTERANCES).where(UTTERANCES.c.user_id == row.id)
    newest = query.order_by(UTTERANCES.c.revision.desc()).limit(max(0, last))
    utterances = tuple(
        Utterance(found.text, found.heard, found.time, found.source, found.revision)
        for found in reversed(connection.execute(newest).all())
    )
    phrases = _phrases(connection, row.id)
    state = connection.execute(select(STATES).where(STATES.c.user_id == row.id)).one_or_none()
    return UserMemory(user, row.revision, phrases, utterances), state


def _phrases(connection: Connection, user_id: int) -> tuple[str, ...]:
    found = connection.scalar(select(PHRASES.c.phrases).where(PHRASES.c.user_id == user_id))
    return () if found is None else tuple(json.loads(found))


def _with_state(memory: UserMemory, row: Row, state: bytes) -> UserMemory:
    return UserMemory(
        memory.user,
        memory.revision,
        memory.phrases,
        memory.utterances,
        state,
        row.fingerprint,
        row.revision,
    )


def _columns(user: Row, utterance: Utterance) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "revision": user.revision,
        "text": utterance.text,
        "heard": utterance.heard,
        "time": utterance.time,
        "source": utterance.source,
        "bytes": utterance.nbytes,
    }


def _key(row: Row) -> KeyRecord:
    return KeyRecord(row.name, row.user, json.loads(row.limits), row.created, row.hash)
