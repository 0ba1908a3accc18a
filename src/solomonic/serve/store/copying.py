"""From one store to another: from SQLite to PostgreSQL, or back, or into a fresh file."""

from sqlalchemy import Connection

from solomonic.core import DataError
from solomonic.serve.store import statements
from solomonic.serve.store.base import KeyRecord, UserMemory
from solomonic.serve.store.schema import USERS
from solomonic.serve.store.sql import Changes, SqlStore


def copy_store(source: SqlStore, target: SqlStore) -> dict[str, int]:
    """Copy every user and key, with revisions, times and states, a transaction for each.

    What is already there unchanged is left out, so that a copy that broke off is simply run
    again. The limits of `target` hold for what is said later, not for what is copied.

    Args:
        source: nobody should write to it meanwhile: later changes are not copied.

    Returns:
        How many "users" and "keys" were copied, and "present" ones left out.

    Raises:
        DataError: the target knows a user or key of the same name with another record.
    """
    counts = {"users": 0, "keys": 0, "present": 0}
    for user in source.users():
        memory = source.memory(user, last=None)
        if memory.revision:  # 0: deleted meanwhile
            counts["users" if _copy_user(memory, target) else "present"] += 1
    keys = source.keys()
    for key in keys:
        counts["keys" if _copy_key(key, target) else "present"] += 1
    return counts


def _copy_user(memory: UserMemory, target: SqlStore) -> bool:
    def work(connection: Connection, files: Changes) -> bool:
        row = connection.execute(statements.by_name(memory.user)).one_or_none()
        if row is not None:
            return False
        values = {
            "name": memory.user,
            "revision": memory.revision,
            "utterances": len(memory.utterances),
            "history_bytes": sum(utterance.nbytes for utterance in memory.utterances),
        }
        new = statements.insert(connection, USERS).values(**values).returning(USERS.c.id)
        user_id = connection.execute(new).scalar_one()
        statements.add_utterances(connection, user_id, list(memory.utterances))
        if memory.phrases:
            statements.write_phrases(connection, user_id, list(memory.phrases))
        if memory.state is not None:
            files.put(connection, user_id, memory.state_revision, memory.fingerprint)
        return True

    copied = target.write(work, memory.state)
    if not copied and target.memory(memory.user, last=None) != memory:
        raise DataError(
            f"{target.place} already has another record of a user that is to be copied; delete "
            "it there, or copy into an empty store."
        )
    return copied


def _copy_key(key: KeyRecord, target: SqlStore) -> bool:
    copied = target.write(lambda connection, _: statements.add_key(connection, key))
    present = [] if copied else target.keys()
    if not copied and key not in present:
        raise DataError(
            f"{target.place} already has another key '{key.name}', or the same key under another "
            "name; revoke it there, or copy into an empty store."
        )
    return copied
