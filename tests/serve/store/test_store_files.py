"""The SQLite file and the folder of states beside it: opening, refusing, migrating, sweeping."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, inspect

from solomonic.core import CheckpointError, ConfigError, StorageError
from solomonic.serve.store import StoreConfig, Utterance, open_store
from solomonic.serve.store import schema as schema_module
from solomonic.serve.store.schema import STEPS, Step, metadata
from solomonic.serve.store.sql import SqlStore


def filled(path: Path, state, users: int = 3) -> None:
    """A closed store with some users."""
    store = open_store(path)
    for user in range(users):
        for turn in range(30):
            data = state(user) if turn % 10 == 0 else None
            fingerprint = "model-a" if data else ""
            store.commit(
                f"user {user}", Utterance(f"{turn} " * 20), state=data, fingerprint=fingerprint
            )
    store.close()


def records(store: SqlStore) -> list:
    return [store.memory(user) for user in store.users()]


def states(path: Path) -> list[str]:
    return sorted(os.listdir(path.with_name(path.name + "-states")))


@pytest.mark.parametrize("form", ["path", "text", "url", "folder", "missing/folder"])
def test_a_place_can_be_given_in_many_ways(form: str, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    given = {"path": file, "text": str(file), "url": f"sqlite:///{file}", "folder": tmp_path,
             "missing/folder": tmp_path / "a" / "b.db"}[form]  # fmt: skip
    for text in ("one", "two"):
        store = open_store(given)
        store.commit("ana", Utterance(text))
        store.close()
    store = open_store(given)
    assert [u.text for u in store.memory("ana").utterances] == ["one", "two"]
    store.close()


@pytest.mark.parametrize("form", [None, "", "sqlite://", "sqlite:///:memory:"])
def test_nothing_lasts_in_memory(form: str | None) -> None:
    for _ in range(2):
        store = open_store(form)
        assert store.commit("ana", Utterance("a")) == 1
        store.close()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "://", "postgresql+asyncpg://x/y", "sqlite+nothing:///x"]
)
def test_other_addresses_are_refused_and_the_forms_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg://"):
        open_store(url)


def test_files_are_for_their_owner_only(tmp_path: Path, state) -> None:
    store = open_store(tmp_path / "s.db")
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    for entry in tmp_path.iterdir():
        assert entry.stat().st_mode & 0o077 == 0, entry
    store.close()


def test_one_state_file_a_user_is_left(tmp_path: Path, state) -> None:
    filled(tmp_path / "s.db", state)
    names = states(tmp_path / "s.db")
    assert len(names) == 3
    assert not any("user" in name for name in names)


def test_orphans_are_swept_when_the_store_opens_and_other_files_are_left(
    tmp_path: Path, state
) -> None:
    path = tmp_path / "s.db"
    filled(path, state)
    before, folder = states(path), tmp_path / "s.db-states"
    for name in ("9-9-00.safetensors", ".unfinished-abc", "notes.txt"):
        (folder / name).write_bytes(b"x")
    store = open_store(path)
    assert states(path) == sorted([*before, "notes.txt"])
    assert all(memory.state == state(index) for index, memory in enumerate(records(store)))
    store.close()


@pytest.mark.parametrize("harm", ["missing", "cut", "changed"])
def test_a_state_file_that_was_harmed_is_one_clear_error_until_the_next_commit(
    harm: str, tmp_path: Path, state
) -> None:
    path = tmp_path / "s.db"
    filled(path, state, 1)
    file = tmp_path / "s.db-states" / states(path)[0]
    data = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    store = open_store(path)
    with pytest.raises(CheckpointError, match=r"missing|damaged"):
        store.memory("user 0")
    assert len(store.memory("user 0", state=False).utterances) == 30
    store.commit("user 0", Utterance("new"), state=state(5), fingerprint="model-a")
    assert store.memory("user 0").state == state(5)
    assert len(states(path)) == 1
    store.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name, content in (("text", b"these are notes, not a store\n" * 99), ("short", b"x")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a store of solomonic"):
            open_store(path)
        assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute("INSERT INTO bookmarks VALUES ('x')")
        connection.commit()
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"another program.*'bookmarks'"):
        open_store(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["other.db"]


def test_a_newer_store_is_refused(tmp_path: Path, state) -> None:
    path = tmp_path / "s.db"
    filled(path, state)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE solomonic_version SET version = 99")
        connection.commit()
    with pytest.raises(CheckpointError, match="newer solomonic"):
        open_store(path)


def test_random_harm_to_the_file_is_a_clear_error_or_no_harm(tmp_path: Path, state) -> None:
    path = tmp_path / "s.db"
    filled(path, state)
    whole = path.read_bytes()
    store = open_store(path)
    expected = records(store)
    store.close()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(25):
        harmed = bytearray(whole)
        if rng.random() < 0.3:
            del harmed[int(rng.integers(1, len(harmed))) :]
        else:
            start = int(rng.integers(0, len(harmed) - 300))
            harmed[start : start + 300] = rng.bytes(300)
        path.write_bytes(harmed)
        for left in (path.with_name("s.db-wal"), path.with_name("s.db-shm")):
            left.unlink(missing_ok=True)
        try:
            store = open_store(path)
        except (CheckpointError, StorageError) as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
            continue
        try:
            for memory, original in zip(records(store), expected, strict=True):
                assert memory.revision == original.revision
        except (CheckpointError, StorageError):
            refused += 1
        finally:
            store.close()
    assert refused > 5


@contextlib.contextmanager
def without_rights() -> Iterator[Path]:
    """A folder that may be read but not written, by whoever runs the tests."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yielded = folder / "store"
        yielded.mkdir()
        folder.chmod(0o755)
        try:
            if root:
                os.seteuid(65534)
            else:
                yielded.chmod(0o555)
            yield yielded
        finally:
            if root:
                os.seteuid(0)
            yielded.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_one_clear_error() -> None:
    open_store(None).close()  # imports first: nobody may read the site-packages
    with without_rights() as folder, pytest.raises(StorageError, match="may write"):
        open_store(folder / "s.db")


def test_a_store_that_may_only_be_read_is_one_clear_error(state) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a file that it may not write")
    open_store(None).close()
    with without_rights() as folder:
        os.seteuid(0)
        filled(folder / "s.db", state, 1)
        for mode, message in ((0o644, "may only be read"), (0o600, "permissions")):
            (folder / "s.db").chmod(mode)
            os.seteuid(65534)
            with pytest.raises(StorageError, match=message):
                open_store(folder / "s.db")
            os.seteuid(0)


def test_the_steps_make_the_tables_that_the_statements_name(tmp_path: Path) -> None:
    open_store(tmp_path / "s.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 's.db'}")
    found = inspect(engine)
    assert set(found.get_table_names()) == set(metadata.tables)
    for name, table in metadata.tables.items():
        columns = {column["name"]: column for column in found.get_columns(name)}
        assert set(columns) == set(table.columns.keys())
        for column in table.columns:
            if not column.primary_key:
                assert columns[column.name]["nullable"] == column.nullable
    engine.dispose()


def migrating(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    """As if a newer program had one more step."""
    monkeypatch.setattr(schema_module, "STEPS", (*STEPS, Step(statements)))


def test_an_older_store_is_migrated_with_all_it_has(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    filled(path, state)
    store = open_store(path)
    before = records(store)
    store.close()
    migrating(monkeypatch, "ALTER TABLE solomonic_users ADD COLUMN colour TEXT DEFAULT 'blue'")
    for _ in range(2):  # the second time there is nothing to do
        store = open_store(path)
        assert records(store) == before
        colours = store.read(lambda c: c.exec_driver_sql("SELECT colour FROM solomonic_users"))
        assert colours is not None
        store.close()
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="newer solomonic"):
        open_store(path)


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    filled(path, state)
    migrating(monkeypatch, "DELETE FROM solomonic_utterances", "SELECT nonsense FROM nowhere")
    with pytest.raises(StorageError, match="nowhere"):
        open_store(path)
    monkeypatch.undo()
    store = open_store(path)
    assert [len(memory.utterances) for memory in records(store)] == [30, 30, 30]
    store.close()


@pytest.mark.parametrize(
    "setting",
    [
        {"max_utterances": 0},
        {"timeout": 0.0},
        {"timeout": float("inf")},
        {"max_history_bytes": 10},
        {"connections": 0},
    ],
)
def test_settings_are_checked(setting: dict) -> None:
    with pytest.raises(ConfigError):
        StoreConfig(**setting)


def test_errors_do_not_carry_what_users_said(tmp_path: Path, state) -> None:
    path = tmp_path / "s.db"
    store = open_store(path, StoreConfig(timeout=0.2))
    store.commit("ana", Utterance("x"))
    rename = "ALTER TABLE {} RENAME TO {}"
    harms = [
        ("locked", "BEGIN IMMEDIATE", "ROLLBACK"),
        (
            "no such table",
            rename.format("solomonic_utterances", "gone"),
            rename.format("gone", "solomonic_utterances"),
        ),
    ]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        for message, harm, mending in harms:
            other.execute(harm)
            with pytest.raises(StorageError, match=message) as caught:
                store.commit("ana", Utterance("my secret sentence"), state=state(1))
            other.execute(mending)
            chain: BaseException | None = caught.value
            while chain is not None:
                assert "secret" not in str(chain)
                chain = chain.__cause__ or chain.__context__
    assert states(path) == []
    assert store.commit("ana", Utterance("y")) == 2
    store.close()


def test_a_second_opening_does_not_drop_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX forgets a process's locks on a file when it closes any handle of it; then another
    process takes itself for the last and removes the log under our feet."""
    path = tmp_path / "s.db"
    store = open_store(path)
    open_store(path).close()
    store.commit("ana", Utterance("a"))
    log = path.with_name("s.db-wal").stat()
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM"
    code += " solomonic_users').fetchall(); c.close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.with_name("s.db-wal").stat().st_ino == log.st_ino
    assert path.with_name("s.db-wal").stat().st_size == log.st_size > 0
    store.close()
