"""Killed processes, several processes at once, and disks that are full: nothing acknowledged goes.

SOLOMONIC_KILLS=40 makes the long form of the test that kills.
"""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solomonic.core import DataError, StorageError
from solomonic.serve.store import StoreConfig, Utterance, open_store, statements
from solomonic.serve.store.database import Database
from solomonic.serve.store.sql import SqlStore
from solomonic.serve.store.states import StateFiles

SPEAKER = Path(__file__).with_name("speaker.py")
KILLS = int(os.environ.get("SOLOMONIC_KILLS", "3"))
USERS = 20
STATE_BYTES = 20_000


def speaker(place: str | Path, users: int, turns: int, seed: int, prefix: str = "") -> list[str]:
    arguments = [str(place), str(users), str(turns), str(seed), str(STATE_BYTES), prefix]
    return [sys.executable, str(SPEAKER), *arguments]


def acknowledged(lines: list[bytes]) -> dict[str, dict[int, tuple[str, int | None]]]:
    """user -> revision -> (text, seed of the state), from whole lines of speakers."""
    found: dict[str, dict[int, tuple[str, int | None]]] = {}
    for line in lines:
        if line.startswith(b"[") and line.endswith(b"]\n"):
            user, revision, text, seed = json.loads(line)
            assert revision not in found.setdefault(user, {})
            found[user][revision] = (text, seed)
    return found


def check_all(store: SqlStore, said: dict[str, dict[int, tuple[str, int | None]]], state) -> None:
    """Every acknowledged utterance and state is there; what else is there is whole."""
    for user, revisions in said.items():
        memory = store.memory(user, last=None)
        kept = {utterance.revision: utterance for utterance in memory.utterances}
        for revision, (text, _) in revisions.items():
            assert kept[revision].text == text
        assert sorted(kept) == list(range(1, memory.revision + 1))  # none lost, none twice
        for utterance in memory.utterances:
            head, *words = utterance.text.split()
            assert all(word == "word" for word in words), head
            assert utterance.heard.startswith("heard ")
        states = {revision: seed for revision, (_, seed) in revisions.items() if seed is not None}
        if states:
            newest = max(states)
            assert memory.state_revision >= newest
            if memory.state_revision == newest:
                assert memory.state == state(states[newest], STATE_BYTES)
        for usage in store.usage():
            if usage.user == user:
                assert usage.utterances == len(kept)
                assert usage.history_bytes == sum(u.nbytes for u in memory.utterances)


def files_of(path: Path) -> set[str]:
    return set(os.listdir(path.with_name(path.name + "-states")))


def named(store: SqlStore) -> set[str]:
    query = "SELECT file FROM solomonic_states WHERE file IS NOT NULL"
    return set(store.read(lambda c: c.exec_driver_sql(query).scalars().all()))


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path, state) -> None:
    path = tmp_path / "s.db"
    chance = random.Random(11)
    lines: list[bytes] = []
    swept = 0
    for round_ in range(KILLS):
        command = speaker(path, USERS, 50, round_, f"r{round_}-")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            # A moment counted in commits, then a little more, so that it falls anywhere in one.
            for _ in range(chance.randrange(1, 200)):
                lines.append(process.stdout.readline())
            time.sleep(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        left = files_of(path)
        store = open_store(path)
        assert files_of(path) == named(store)
        swept += len(left - files_of(path))
        check_all(store, acknowledged(lines), state)
        assert store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
        store.close()
    assert len(lines) > KILLS
    if KILLS >= 20:
        assert swept > 0  # some kills fell between a file and its row


def test_postgresql_loses_nothing_when_the_process_is_killed(database: str, state) -> None:
    chance = random.Random(12)
    lines: list[bytes] = []
    for round_ in range(max(1, KILLS // 4)):
        command = speaker(database, USERS, 50, round_, f"r{round_}-")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for _ in range(chance.randrange(1, 200)):
                lines.append(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        store = open_store(database)
        check_all(store, acknowledged(lines), state)
        store.close()
    assert len(lines) > 1


def test_processes_share_one_file(tmp_path: Path, state) -> None:
    path = tmp_path / "s.db"
    processes = [
        subprocess.Popen(speaker(path, 3, 12, seed, f"p{seed}-"), stdout=subprocess.PIPE)
        for seed in range(2)
    ]
    lines = [line for process in processes for line in process.communicate()[0].splitlines(True)]
    assert [process.returncode for process in processes] == [0, 0]
    said = acknowledged(lines)  # which also finds a revision given twice
    assert {user: sorted(revisions) for user, revisions in said.items()} == {
        f"user-{index}": list(range(1, 25)) for index in range(3)
    }
    store = open_store(path)
    check_all(store, said, state)
    assert files_of(path) == named(store)
    store.close()


def test_a_second_opening_leaves_the_files_of_a_commit_that_is_under_way(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep waits for the transaction whose row will name the file, and then finds the row."""
    path = tmp_path / "s.db"
    store = open_store(path)
    code = "import sys; from solomonic.serve.store import *; open_store(sys.argv[1]).close()"
    opened: list[subprocess.Popen] = []
    adopt = StateFiles.adopt

    def slow(files: StateFiles, *arguments) -> None:
        adopt(files, *arguments)
        opened.append(subprocess.Popen([sys.executable, "-c", code, str(path)]))
        with pytest.raises(subprocess.TimeoutExpired):
            opened[0].wait(3)  # it cannot pass while this transaction runs

    monkeypatch.setattr(StateFiles, "adopt", slow)
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    assert opened[0].wait(60) == 0
    assert store.memory("ana").state == state(1)
    store.close()


def test_a_sweep_waits_for_the_row_of_a_file_that_has_its_name(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_store(tmp_path / "s.db"), open_store(tmp_path / "s.db")
    sweeping = threading.Thread(target=other._sweep)
    adopt = StateFiles.adopt

    def slow(files: StateFiles, *arguments) -> None:
        adopt(files, *arguments)
        sweeping.start()
        sweeping.join(0.5)
        assert sweeping.is_alive()

    monkeypatch.setattr(StateFiles, "adopt", slow)
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    sweeping.join()
    assert store.memory("ana").state == state(1)
    store.close()
    other.close()


def test_a_sweep_that_meets_a_file_without_a_name_yet_harms_no_commit(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    store = open_store(path)
    stage = StateFiles.stage
    swept: list[int] = []

    def slow(files: StateFiles, data: bytes) -> str | None:
        name = stage(files, data)
        before = len(files_of(path))
        open_store(path).close()
        swept.append(before - len(files_of(path)))
        return name

    monkeypatch.setattr(StateFiles, "stage", slow)
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    assert swept == [1]
    assert store.memory("ana").state == state(1)
    assert files_of(path) == named(store)
    store.close()


@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_changes_that_come_together_are_committed_together_and_fail_alone(
    store: SqlStore, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    transact = Database._transact

    def counted(database: Database, batch: list) -> None:
        commits.append(len(batch))
        transact(database, batch)

    monkeypatch.setattr(Database, "_transact", counted)
    holding, released = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        holding.set()
        assert released.wait(60)

    outcomes: dict[int, object] = {}

    def speak(index: int) -> None:
        def work(connection, changes) -> int:
            row = statements.touch(connection, f"user-{index}")
            if index % 4 == 3:
                raise DataError(f"number {index}")
            if index % 2:
                changes.put(connection, row.id, row.revision, "model-a")
            return row.revision

        try:
            outcomes[index] = store.write(work, state(index))
        except DataError as error:
            outcomes[index] = str(error)

    threads = [threading.Thread(target=store.write, args=(hold,))]
    threads[0].start()
    assert holding.wait(60)
    threads += [threading.Thread(target=speak, args=(index,)) for index in range(12)]
    for thread in threads[1:]:
        thread.start()
    while len(store._database._queue) < 12:
        time.sleep(0.01)
    released.set()
    for thread in threads:
        thread.join()
    assert commits == [1, 12]
    wrong = {index: f"number {index}" for index in (3, 7, 11)}
    assert outcomes == dict.fromkeys(range(12), 1) | wrong
    good = [f"user-{index}" for index in range(12) if index not in wrong]
    assert store.users() == sorted(good)
    for index in (1, 5, 9):
        assert store.memory(f"user-{index}").state == state(index)
    if store.files:
        assert set(os.listdir(store.files.folder)) == named(store)


def test_one_commit_that_fails_for_all_is_told_to_all(
    tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "s.db")
    errors: list[BaseException] = []
    holding, released = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        holding.set()
        assert released.wait(60)

    def speak(index: int) -> None:
        try:
            data = state(index)
            store.commit(f"user-{index}", Utterance("a"), state=data, fingerprint="model-a")
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=store.write, args=(hold,))]
    threads[0].start()
    assert holding.wait(60)
    threads += [threading.Thread(target=speak, args=(index,)) for index in range(5)]
    for thread in threads[1:]:
        thread.start()
    while len(store._database._queue) < 5:
        time.sleep(0.01)

    ends: list[int] = []

    def full() -> None:
        ends.append(1)
        if len(ends) > 1:  # the first end is that of `hold`
            raise StorageError("the disk is full")

    store._database.before_commit = full
    released.set()
    for thread in threads:
        thread.join()
    assert len(errors) == 5
    assert len({id(error) for error in errors}) == 5
    assert store.users() == [] and files_of(tmp_path / "s.db") == set()
    assert store.files is not None
    store._database.before_commit = store.files.settle
    assert store.commit("user-1", Utterance("b")) == 1
    store.close()


def test_a_change_that_waited_too_long_does_not_happen_later(tmp_path: Path, state) -> None:
    store = open_store(tmp_path / "s.db", StoreConfig(timeout=0.3))
    holding, released = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        holding.set()
        assert released.wait(60)

    thread = threading.Thread(target=store.write, args=(hold,))
    thread.start()
    assert holding.wait(60)
    with pytest.raises(StorageError, match="took longer"):
        store.commit("ana", Utterance("late"), state=state(1), fingerprint="model-a")
    released.set()
    thread.join()
    store.commit("bo", Utterance("a"))
    assert store.users() == ["bo"] and files_of(tmp_path / "s.db") == set()
    store.close()


@contextlib.contextmanager
def small_disk(tmp_path: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes; skips where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small disk")
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, state) -> None:
    with small_disk(tmp_path, "1m") as disk:
        path = disk / "s.db"
        store = open_store(path)
        texts: list[str] = []
        with pytest.raises(StorageError, match=r"space|full"):
            for turn in range(400):
                text = f"{turn} " + "x" * 3000
                data = state(turn, 50_000)
                store.commit(f"user {turn}", Utterance(text), state=data, fingerprint="model-a")
                texts.append(text)
        assert 3 < len(texts) < 100
        for _ in range(3):  # and again, with the same answer
            with pytest.raises(StorageError, match=r"space|full"):
                store.commit("late", Utterance("y" * 60_000), state=state(1, 500_000))
        for turn, text in enumerate(texts):
            memory = store.memory(f"user {turn}")
            assert [u.text for u in memory.utterances] == [text]
            assert memory.state == state(turn, 50_000)
        assert "late" not in store.users()
        store.close()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        store = open_store(path)
        assert files_of(path) == named(store)
        assert sorted(store.users()) == sorted(f"user {turn}" for turn in range(len(texts)))
        assert store.commit("user 0", Utterance("space again")) == 2
        store.close()


def test_the_same_store_goes_on_when_there_is_space_again(tmp_path: Path, state) -> None:
    with small_disk(tmp_path, "1m") as disk:
        store = open_store(disk / "s.db")
        store.commit("ana", Utterance("before"), state=state(1), fingerprint="model-a")
        store.commit("ana", Utterance("x" * 60_000))
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"z" * 4096):
                pass
        for _ in range(3):
            with pytest.raises(StorageError, match=r"space|full"):
                store.commit("ana", Utterance("y" * 60_000), state=state(2), fingerprint="model-a")
            with pytest.raises(StorageError, match=r"space|full"):
                store.commit("ana", Utterance("y" * 60_000))
        assert [len(u.text) for u in store.memory("ana").utterances] == [6, 60_000]
        (disk / "filler").unlink()
        assert store.commit("ana", Utterance("after"), state=state(3), fingerprint="model-a") == 3
        assert store.memory("ana").state == state(3)
        assert files_of(disk / "s.db") == named(store)
        store.close()


def test_a_limit_on_file_sizes_reads_like_a_full_disk(tmp_path: Path, state) -> None:
    """Without root: the kernel refuses to let files grow."""
    store = open_store(tmp_path / "s.db")
    store.commit("ana", Utterance("before"))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(StorageError):
            store.commit("ana", Utterance("a"), state=state(1, 200_000), fingerprint="model-a")
        with pytest.raises(StorageError):
            for _ in range(20):
                store.commit("bo", Utterance("x" * 30_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [u.text for u in store.memory("ana").utterances] == ["before"]
    count = len(store.memory("bo").utterances)
    assert store.commit("bo", Utterance("after")) == count + 1
    assert files_of(tmp_path / "s.db") == set()
    store.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_state_that_cannot_be_written_takes_its_utterance_back(
    what: str, error: int, tmp_path: Path, state, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "s.db", StoreConfig(max_utterances=2))
    for text in ("a", "b"):
        store.commit("ana", Utterance(text), state=state(1), fingerprint="model-a")
    before = store.memory("ana")
    fsync = os.fsync

    def fail(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == (what == "folder"):
            raise OSError(error, os.strerror(error))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="cannot write"):
        store.commit("ana", Utterance("c"), state=state(2), fingerprint="model-a")
    monkeypatch.undo()
    assert store.memory("ana") == before
    assert files_of(tmp_path / "s.db") == named(store)
    assert store.commit("ana", Utterance("c"), state=state(2), fingerprint="model-a") == 3
    store.close()
