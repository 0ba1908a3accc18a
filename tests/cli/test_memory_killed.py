"""`solomonic memory add` killed at a few moments: what it acknowledged is there, and the same
command completes it."""

import re
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from solomonic.memory import Memory
from solomonic.memory.documents.keeping import BATCH

from .conftest import COMMAND, Done

Cli = Callable[..., Done]
TEXTS = {
    name: "".join(f"Line {n} of the {name} log, which is short.\n" for n in range(lines))
    for name, lines in (("first", 90), ("second", 300), ("third", 2000))
}
MOMENTS = (0, 150, 500)
"""Passages that are there, at least, when the process is killed: while the store is made, in the
second document, in the third."""


def count(store: Path) -> int:
    """Passages that a reader sees now; -1 before there are tables."""
    if not store.exists():
        return -1
    reader = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)
    try:
        return reader.execute("SELECT count(*) FROM memory_item").fetchone()[0]
    except sqlite3.OperationalError:
        return -1
    finally:
        reader.close()


def add_and_kill(store: Path, folder: Path, moment: int) -> dict[str, int]:
    """Sources whose adding was acknowledged before the kill, and passages of each."""
    command = [*COMMAND, "memory", "add", str(store), str(folder), "--size", "50"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while count(store) < moment and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    _, said = process.communicate()
    lines = re.findall(r"^(.+): ([\d,]+) passages, .*\n", said, re.M)
    return {source: int(number.replace(",", "")) for source, number in lines}


def texts_of(store: Path) -> dict[str, list[str]]:
    """Passages of each source in their order; each stands where it says."""
    found: dict[str, list[str]] = {}
    with Memory.open(store) as memory:
        assert memory.verify().ok
        for item in memory.items():
            before = found.setdefault(item.source, [])
            assert item.offset == sum(map(len, before))
            before.append(item.text)
    return found


def test_a_killed_add_is_completed_by_the_next(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    whole = {}
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
        whole[str(folder / f"{name}.txt")] = text
    for moment in MOMENTS:
        for attempt in range(10):  # again when the kill came too late to cut anything
            store = tmp_path / f"{moment}-{attempt}.db"
            acknowledged = add_and_kill(store, folder, moment)
            there = texts_of(store)
            if cut := "".join(there.get(str(folder / "third.txt"), [])) != TEXTS["third"]:
                break
        assert cut
        assert set(acknowledged) <= set(there)
        assert sum(map(len, there.values())) >= moment
        for source, passages in there.items():
            done = "".join(passages) == whole[source]
            # A batch is there with all its passages or not at all.
            assert done or len(passages) % BATCH == 0
            assert whole[source].startswith("".join(passages))
            if source in acknowledged:
                assert done and len(passages) == acknowledged[source]
        again = cli("memory", "add", store, folder, "--size", "50", "--json")
        assert again.status == 0
        complete = texts_of(store)
        assert {source: "".join(passages) for source, passages in complete.items()} == whole
        written = sum(document["written"] for document in again.record["documents"])
        assert written == sum(map(len, complete.values())) - sum(map(len, there.values()))
