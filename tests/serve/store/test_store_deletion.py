"""Deleting a user deletes every trace: all bytes of the store are searched for it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import StorageError
from solomonic.serve.store import StoreConfig, UserMemory, Utterance, open_store
from solomonic.serve.store import sql as sql_module
from solomonic.serve.store.schema import metadata
from solomonic.serve.store.sql import SqlStore

USER = "Quetzalcoatl"
MARKS = [b"Quetzalcoatl", b"zyzzyva", b"xylophage", b"syzygium"]
"""The user's name, and words of its sentences, of what was heard, and of its own list."""


def talk(store: SqlStore, state, seed: int = 0, turns: int = 240) -> list[bytes]:
    """Many users among whom one is to vanish; pages split, states are replaced. Marks of it."""
    rng = np.random.default_rng(seed)
    marks = list(MARKS)
    users = [USER, *(f"user {index}" for index in range(6))]
    for turn in range(turns):
        user = users[int(rng.integers(0, len(users)))]
        filler = "lorem " * int(rng.integers(1, 60))
        data = None
        text, heard = f"{turn} {filler}", "h"
        if user == USER:
            text, heard = f"zyzzyva {turn} {filler}", f"xylophage {turn}"
        if rng.random() < 0.2:
            data = state(1000 * seed + turn)
            if user == USER:
                marks.append(data[-48:])
        fingerprint = "model-a" if data else ""
        store.commit(user, Utterance(text, heard), state=data, fingerprint=fingerprint)
        if turn % 40 == 7:
            store.set_phrases(user, ["syzygium" if user == USER else "word"] * (turn + 1))
    store.set_phrases(USER, ["syzygium"] * 400)
    store.commit(USER, Utterance("zyzzyva"), state=state(77_777), fingerprint="model-a")
    marks.append(state(77_777)[-48:])
    store.add_key(b"k" * 32, "a key", USER)
    return marks


def traces(folder: Path, marks: list[bytes]) -> list[tuple[str, int]]:
    """(file, number of the mark) for every mark in the bytes or the names below `folder`."""
    found = []
    for path in sorted(folder.rglob("*")):
        data = path.name.encode() + b"\n" + (path.read_bytes() if path.is_file() else b"")
        found += [(path.name, index) for index, mark in enumerate(marks) if mark in data]
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_no_byte_of_a_deleted_user_is_left(seed: int, tmp_path: Path, state) -> None:
    store = open_store(tmp_path / "s.db")
    marks = talk(store, state, seed)
    names = [user for user in store.users() if user != USER]
    others = [store.memory(user) for user in names]
    assert {mark for _, mark in traces(tmp_path, marks)} >= {0, 1, 2, 3, len(marks) - 1}
    counts = store.delete_user(USER)
    assert min(counts.values()) >= 1
    assert traces(tmp_path, marks) == []
    assert [store.memory(user) for user in names] == others
    assert store.memory(USER) == UserMemory(USER)
    store.check()
    store.commit("user 0", Utterance("life goes on"))
    store.close()
    assert traces(tmp_path, marks) == []


def test_what_was_forgotten_or_replaced_goes_too(tmp_path: Path, state) -> None:
    store = open_store(tmp_path / "s.db", StoreConfig(max_utterances=20))
    marks = talk(store, state)
    store.delete_user(USER)
    assert traces(tmp_path, marks) == []
    store.close()


def test_a_deletion_that_a_crash_broke_off_is_finished_at_the_next_start(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "s.db")
    marks = talk(store, state)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sql_module, "wipe", crash)
    monkeypatch.setattr(sql_module.StateFiles, "remove", crash)
    with pytest.raises(KeyboardInterrupt):
        store.delete_user(USER)
    monkeypatch.undo()
    assert {mark for _, mark in traces(tmp_path, marks)} >= {1, len(marks) - 1}
    store.close()
    store = open_store(tmp_path / "s.db")
    assert traces(tmp_path, marks) == []
    store.close()


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM solomonic_users").fetchall()
print("reading", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


def test_a_reader_that_holds_the_log_is_told_and_the_next_deletion_clears_it(
    tmp_path: Path, state, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    store = open_store(path, StoreConfig(timeout=0.3))
    marks = talk(store, state, turns=40)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        reader.stdout.readline()
        with pytest.raises(StorageError, match="is deleted, but"):
            store.delete_user(USER)
        assert USER not in store.users()
        other = open_store(path, StoreConfig(timeout=0.3))  # which cannot either, but starts
        assert "is deleted, but" in caplog.text
        other.close()
        assert traces(tmp_path, marks) != []
        reader.communicate(b"\n")
    store.delete_user("nobody")
    assert traces(tmp_path, marks) == []
    store.close()


def test_a_state_file_that_cannot_be_deleted_is_told(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "s.db")
    store.commit(USER, Utterance("a"), state=state(1), fingerprint="model-a")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="cannot be deleted"):
        store.delete_user(USER)
    monkeypatch.undo()
    store.delete_user(USER)
    assert os.listdir(tmp_path / "s.db-states") == []
    store.close()


def test_the_search_finds_what_plain_deletion_leaves(tmp_path: Path) -> None:
    """The measure itself can fail: a DELETE without more leaves bytes in the file or its log."""
    connection = sqlite3.connect(tmp_path / "plain.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE said (text TEXT)")
    connection.executemany("INSERT INTO said VALUES (?)", [("zyzzyva",)] * 500)
    connection.commit()
    connection.execute("DELETE FROM said")
    connection.commit()
    assert traces(tmp_path, MARKS) != []
    connection.close()


def test_postgresql_keeps_no_row_of_a_deleted_user(database: str, state) -> None:
    store = open_store(database)
    talk(store, state, turns=60)
    others = [store.memory(user) for user in store.users() if user != USER]
    user_id = store.read(
        lambda c: c.exec_driver_sql(
            "SELECT id FROM solomonic_users WHERE name = %s", (USER,)
        ).scalar_one()
    )
    store.delete_user(USER)
    for name, table in metadata.tables.items():
        rows = store.read(lambda c, table=table: c.execute(table.select()).all())
        text = repr(rows)
        assert not any(mark.decode() in text for mark in MARKS), name
        if "user_id" in table.columns:
            assert user_id not in [row.user_id for row in rows]
            assert rows != []
    assert [store.memory(user) for user in store.users()] == others
    store.close()
