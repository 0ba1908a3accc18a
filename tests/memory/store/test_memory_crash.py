"""Killed processes, readers beside a writer, full disks: nothing that was acknowledged is lost.

SOLOMONIC_KILLS=200 makes the long form of the test that kills.
"""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import memory_writer_support
from memory_writer_support import key_of, settings, text_of
from solomonic.core import ConfigError, StorageError
from solomonic.memory import Memory, NewItem, NotFoundError

WRITER = Path(memory_writer_support.__file__)
KILLS = int(os.environ.get("SOLOMONIC_KILLS", "3"))
LIMIT = 400
FRESH = 10  # kills of one memory


def writer(place: str | Path, seed: int) -> subprocess.Popen:
    command = [sys.executable, str(WRITER), str(place), str(seed), "exponential:50", str(LIMIT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


class Said:
    """What writers said: numbers of items that must be there, and that must not."""

    def __init__(self) -> None:
        self.alive: dict[int, int] = {}
        self.gone: set[int] = set()

    def read(self, lines: list[bytes]) -> None:
        for line in lines:
            if not line.endswith(b"}\n"):
                continue
            record = json.loads(line)
            self.alive.update(dict(record.get("wrote", [])))
            for id_ in record.get("gone", []):
                self.alive.pop(id_)
                self.gone.add(id_)

    def check(self, memory: Memory, chance: random.Random) -> int:
        """All that was said holds; how many items more there are than that."""
        items = {item.id: item for item in memory.items()}
        # One transaction may have been committed whose acknowledgement did not come through: it
        # may have added up to 200 items or forgotten up to 20, all or none.
        missing = [id_ for id_ in self.alive if id_ not in items]
        log = memory._truth.rows("SELECT item FROM memory_forgotten")  # pyright: ignore
        assert {*missing} <= {row[0] for row in log} and len(missing) <= 20, missing
        for id_ in missing:
            self.gone.add(id_)
            del self.alive[id_]
        assert not self.gone & items.keys()
        for id_, item in items.items():
            number = int(item.text.split()[0].removeprefix("item"))
            assert item.text == text_of(number) and item.vector is not None
            assert item.vector.tobytes() == key_of(number).tobytes()
            assert self.alive.setdefault(id_, number) == number
        assert len(memory.weights()) == len(items)
        for id_ in chance.sample(sorted(self.alive), min(20, len(self.alive))):
            hits = memory.search(key_of(self.alive[id_]), 3)
            assert hits[0].item.id == id_ or hits[0].score >= hits[0].item.log_weight
            assert not {hit.item.id for hit in hits} & self.gone
        return len(items)


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(folder: Path) -> None:
    chance = random.Random(5)
    said, path = Said(), folder / "m.db"
    for round_ in range(KILLS):
        if round_ % FRESH == 0:  # as all is read each time
            said, path = Said(), folder / f"m{round_}.db"
        process = writer(path, round_)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        said.read(lines)
        with Memory.open(path, config=settings("exponential:50", LIMIT)) as memory:
            said.check(memory, chance)
            found = memory.verify()
            assert found.ok, found.problems
            assert memory.stats()["notices"] == []
        assert not list(path.parent.glob(".*unfinished*"))
    assert said.alive and said.gone


def test_postgresql_loses_nothing_when_the_process_is_killed(database: str) -> None:
    chance = random.Random(6)
    said = Said()
    for round_ in range(max(1, KILLS // 4)):
        process = writer(database, round_)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randrange(1, 40))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        said.read(lines)
        with Memory.open(database, config=settings("exponential:50", LIMIT)) as memory:
            said.check(memory, chance)
            assert memory.verify().ok


@pytest.mark.parametrize("where", ["path", "database"])
def test_readers_follow_one_writer(where: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(where)
    with Memory.open(place, config=settings("none", 100)) as memory:
        memory.write("first", vector=key_of(0))
    process = writer(place, 1)
    assert process.stdout is not None
    said = Said()
    with Memory.open(place, config=settings("exponential:50", 100), read_only=True) as reader:
        for _ in range(30):
            line = process.stdout.readline()
            before = set(said.gone)
            said.read([line])
            if not said.alive:
                continue
            # Read after the acknowledgement: it must be seen, and what had gone before must not.
            id_, number = max(said.alive.items())
            with contextlib.suppress(NotFoundError):  # forgotten since
                assert reader.get(id_).text == text_of(number)
            hits = reader.search(key_of(number), 5)
            assert hits and not {hit.item.id for hit in hits} & before
            assert reader.search(text_of(number).split()[0])[:1] or number
        process.kill()
        said.read(process.stdout.readlines())
        process.wait()
        process.stdout.close()
        assert reader.verify().ok
        with pytest.raises(ConfigError, match="opened to be read only"):
            reader.write("no")


@pytest.mark.parametrize("where", ["path", "database"])
def test_a_second_writer_is_refused(where: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(where)
    config = settings("none", 100).replace(timeout=0.1)
    with Memory.open(place, config=config) as memory:
        with pytest.raises(StorageError, match="being written by .*process.* read_only"):
            Memory.open(place, config=config)
        memory.write("a")
    with Memory.open(place, config=config) as memory:
        assert len(memory) == 1


def test_a_full_disk_changes_nothing(path: Path) -> None:
    """The kernel refuses to let files grow."""
    memory = Memory.open(path)
    kept = memory.write("kept", vector=np.ones(16))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        with pytest.raises(StorageError, match=r"m\.db: the disk .*"):
            memory.write_many(NewItem(text="x" * 30_000, vector=key_of(n)) for n in range(100))
        assert len(memory) == 1
        for _ in range(5):  # and again, small ones until it is full
            with pytest.raises(StorageError):
                for n in range(100):
                    memory.write("y" * 30_000, vector=key_of(n))
        count = len(memory)
        assert [hit.item.text for hit in memory.search("kept")] == ["kept"]
        memory._index.save_now()  # pyright: ignore
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert memory.verify().ok
    memory.forget(kept)
    memory.write("after")
    assert len(memory) == count
    memory.close()


def test_a_full_database_says_so(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.write("kept")
        with memory.transaction():
            pass
        pages = memory._truth.one("PRAGMA page_count")  # pyright: ignore
        memory._truth.execute(f"PRAGMA max_page_count = {pages}")  # pyright: ignore
        with pytest.raises(StorageError, match=r"the disk is full, and nothing was changed: free"):
            memory.write("x" * 100_000)
        assert memory.verify().ok
        assert len(memory) == 1


def test_an_index_that_cannot_be_saved_is_only_a_notice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory.open(path) as memory:
        memory.write("a", vector=np.ones(16))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        memory._index.save_now()  # pyright: ignore
        monkeypatch.undo()
        (said,) = memory.stats()["notices"]
        assert "was not saved (No space left on device); nothing is lost" in said
        assert not list(path.parent.glob(".*unfinished*"))
