"""What the store says to a database, within a transaction that the caller has begun."""

import json
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from solomonic.serve.store.base import KeyRecord, UserMemory, Utterance
from solomonic.serve.store.schema import KEYS, PHRASES, STATES, USERS, UTTERANCES

FORGET_AT_ONCE = 500
"""Old utterances looked at in one statement, where some are to be forgotten."""
COUNTED: tuple[str, ...] = ("users", "utterances", "phrases", "states", "keys")
"""What `erase` counts."""


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases write alike."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def upsert(
    connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]
) -> None:
    """Make a row or change the one of this key."""
    query = insert(connection, table).values(**key, **values)
    connection.execute(query.on_conflict_do_update(index_elements=list(key), set_=values))


def touch(connection: Connection, user: str, utterances: int = 0, size: int = 0) -> Row:
    """The user's next revision; makes the user, and keeps other writers of it waiting.

    Args:
        utterances, size: how many are about to be added, and their bytes.

    Returns:
        (id, revision, utterances, history_bytes) as they now are.
    """
    query = insert(connection, USERS).values(
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


def add_utterances(connection: Connection, user_id: int, utterances: list[Utterance]) -> None:
    """Insert utterances under their revisions."""
    rows = [
        {
            "user_id": user_id,
            "revision": utterance.revision,
            "text": utterance.text,
            "heard": utterance.heard,
            "time": utterance.time,
            "source": utterance.source,
            "bytes": utterance.nbytes,
        }
        for utterance in utterances
    ]
    if rows:
        connection.execute(UTTERANCES.insert(), rows)


def forget(connection: Connection, user: Row, most: int, most_bytes: int) -> None:
    """Delete the oldest utterances until so many, of so many bytes, are left; never the newest.

    Args:
        user: what `touch` returned.
    """
    count, size, until = user.utterances, user.history_bytes, 0
    while count > most or size > most_bytes:
        query = (
            select(UTTERANCES.c.revision, UTTERANCES.c.bytes)
            .where(UTTERANCES.c.user_id == user.id)
            .where(UTTERANCES.c.revision > until, UTTERANCES.c.revision < user.revision)
            .order_by(UTTERANCES.c.revision)
            .limit(FORGET_AT_ONCE)
        )
        rows = connection.execute(query).all()
        if not rows:  # the counts were wrong: only the newest is left
            newest = (UTTERANCES.c.user_id == user.id) & (UTTERANCES.c.revision == user.revision)
            count, size = 1, connection.scalar(select(UTTERANCES.c.bytes).where(newest)) or 0
            break
        for row in rows:
            if count <= most and size <= most_bytes:
                break
            count, size, until = count - 1, size - row.bytes, row.revision
    if (count, size) != (user.utterances, user.history_bytes):
        old = (UTTERANCES.c.user_id == user.id) & (UTTERANCES.c.revision <= until)
        connection.execute(delete(UTTERANCES).where(old))
        bounded = USERS.update().where(USERS.c.id == user.id)
        connection.execute(bounded.values(utterances=count, history_bytes=size))


def read_user(connection: Connection, user: str, last: int | None) -> tuple[UserMemory, Row | None]:
    """A user's record without the bytes of the state, and the row of the state.

    Args:
        last: most utterances; None for all.
    """
    row = connection.execute(by_name(user)).one_or_none()
    if row is None:
        return UserMemory(user), None
    query = select(UTTERANCES).where(UTTERANCES.c.user_id == row.id)
    query = query.order_by(UTTERANCES.c.revision.desc())
    if last is not None:
        query = query.limit(max(0, last))
    utterances = tuple(
        Utterance(found.text, found.heard, found.time, found.source, found.revision)
        for found in reversed(connection.execute(query).all())
    )
    phrases = read_phrases(connection, row.id)
    state = connection.execute(select(STATES).where(STATES.c.user_id == row.id)).one_or_none()
    return UserMemory(user, row.revision, phrases, utterances), state


def by_name(user: str) -> Select:
    """The row of a user."""
    return select(USERS).where(USERS.c.name == user)


def read_phrases(connection: Connection, user_id: int) -> tuple[str, ...]:
    """Personal words."""
    found = connection.scalar(select(PHRASES.c.phrases).where(PHRASES.c.user_id == user_id))
    return () if found is None else tuple(json.loads(found))


def write_phrases(connection: Connection, user_id: int, phrases: list[str]) -> None:
    """Replace personal words."""
    text = json.dumps(phrases, ensure_ascii=False)
    upsert(connection, PHRASES, {"user_id": user_id}, {"phrases": text})


def state_files(connection: Connection, user_id: int | None = None) -> list[str]:
    """Names of the files that rows name: of one user, or of all."""
    query = select(STATES.c.file).where(STATES.c.file.is_not(None))
    if user_id is not None:
        query = query.where(STATES.c.user_id == user_id)
    return list(connection.scalars(query))


def erase(connection: Connection, user: str) -> tuple[dict[str, int], list[str]]:
    """Delete all rows of a user and its keys: how many of each, and the files left without row."""
    counts = dict.fromkeys(COUNTED, 0)
    counts["keys"] = connection.execute(delete(KEYS).where(KEYS.c.user == user)).rowcount
    row = connection.execute(by_name(user).with_for_update()).one_or_none()
    if row is None:
        return counts, []
    files = state_files(connection, row.id)
    counts["phrases"] = len(read_phrases(connection, row.id))
    for name, table in (("utterances", UTTERANCES), ("states", STATES)):
        gone = delete(table).where(table.c.user_id == row.id)
        counts[name] = connection.execute(gone).rowcount
    counts["users"] = connection.execute(delete(USERS).where(USERS.c.id == row.id)).rowcount
    return counts, files


def add_key(connection: Connection, key: KeyRecord) -> bool:
    """Insert a key; False where its name or hash are there already."""
    values = {
        "name": key.name,
        "hash": key.key_hash,
        "user": key.user,
        "limits": json.dumps(key.limits),
        "created": key.created,
    }
    query = insert(connection, KEYS).values(**values).on_conflict_do_nothing()
    return connection.execute(query.returning(KEYS.c.name)).one_or_none() is not None


def read_keys(connection: Connection, key_hash: bytes | None = None) -> list[KeyRecord]:
    """All keys, or the one of a hash."""
    query = select(KEYS) if key_hash is None else select(KEYS).where(KEYS.c.hash == key_hash)
    return [
        KeyRecord(row.name, row.user, json.loads(row.limits), row.created, row.hash)
        for row in connection.execute(query)
    ]


def usage_query() -> Select:
    """The columns of `UserUsage` of every user."""
    state_bytes = func.coalesce(STATES.c.bytes, 0).label("state_bytes")
    columns = (USERS.c.name, USERS.c.revision, USERS.c.utterances, USERS.c.history_bytes)
    joined = USERS.outerjoin(STATES, STATES.c.user_id == USERS.c.id)
    return select(*columns, state_bytes).select_from(joined)
