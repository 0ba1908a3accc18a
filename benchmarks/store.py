"""The store of users: commits a second, and how long reading a user takes, with 1,000 users.

    make bench ARGS="store [FOLDER] [--users 1000] [--seconds 5]"

SQLite in FOLDER (a temporary one of /tmp if none) and PostgreSQL, started there from the system's
package with its own defaults (fsync on); left out where it is not installed. Every commit waits
for the disk, so the disk's own time for that (`fsync_ms`) stands beside the figures. States are
random bytes of a size that a small model's state has.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.evals.report import markdown_table, save_report
from solomonic.serve.store import Store, Utterance, open_store

RESULTS = Path(__file__).parent / "results"
THREADS = (1, 8, 20)
STATE_BYTES = 200_000
HISTORY = 10  # utterances of a user when reading is measured
WORDS = ("turn", "on", "the", "kettle", "in", "kitchen", "and", "call", "siobhan", "when", "boils")


def state_of(seed: int) -> bytes:
    """A safetensors file of one tensor."""
    data = np.random.default_rng(seed).bytes(STATE_BYTES)
    entry = {"dtype": "U8", "shape": [STATE_BYTES], "data_offsets": [0, STATE_BYTES]}
    header = json.dumps({"__metadata__": {"format": "solomonic-state"}, "x": entry}).encode()
    return len(header).to_bytes(8, "little") + header + data


def sentence(seed: int) -> Utterance:
    """Ten words."""
    chosen = np.random.default_rng(seed).choice(WORDS, 10)
    return Utterance(" ".join(chosen), " ".join(reversed(chosen)), source="benchmark")


def fsync_ms(folder: Path, times: int = 50) -> float:
    """Median time for 4 KiB to reach the disk."""
    path, taken = folder / "fsync", []
    with path.open("wb") as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return 1000 * float(np.median(taken))


def fill(store: Store, users: int) -> float:
    """Give every user a history and a state; seconds."""
    started = time.perf_counter()

    def some(first: int) -> None:
        for user in range(first, users, THREADS[-1]):
            for turn in range(HISTORY):
                data = state_of(user) if turn == HISTORY - 1 else None
                store.commit(f"user-{user}", sentence(HISTORY * user + turn), state=data)

    _together(THREADS[-1], some)
    return time.perf_counter() - started


def commits(store: Store, threads: int, seconds: float, state: bytes | None) -> dict[str, float]:
    """Commits a second of so many users at once, and their times in ms."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def speak(index: int) -> None:
        while (started := time.perf_counter()) < end:
            store.commit(f"speaker-{index}", sentence(index), state=state)
            taken.append(time.perf_counter() - started)

    _together(threads, speak)
    return {"per_second": len(taken) / seconds, **_percentiles(taken)}


def reads(store: Store, users: int, seconds: float, state: bool) -> dict[str, float]:
    """Times of `memory` of users at random, in ms."""
    rng, taken = np.random.default_rng(1), []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        memory = store.memory(f"user-{int(rng.integers(0, users))}", state=state)
        taken.append(time.perf_counter() - started)
        assert len(memory.utterances) == HISTORY
    return {"per_second": len(taken) / seconds, **_percentiles(taken)}


def _percentiles(taken: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(taken) * 1000, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _together(threads: int, work: Any) -> None:
    running = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def measure(place: str | Path, users: int, seconds: float) -> dict[str, Any]:
    """All figures of one store."""
    store = open_store(place)
    record: dict[str, Any] = {"fill_seconds": fill(store, users)}
    for name, state in (("text", None), ("text and state", state_of(0))):
        for threads in THREADS:
            record[f"commit, {name}, {threads}"] = commits(store, threads, seconds, state)
    record["memory with state"] = reads(store, users, seconds, True)
    record["memory without state"] = reads(store, users, seconds, False)
    started = time.perf_counter()
    store.delete_user("user-0")
    record["delete_seconds"] = time.perf_counter() - started
    store.close()
    return record


@contextmanager
def postgresql(folder: Path) -> Iterator[str | None]:
    """The URL of a server in `folder`, or None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.geteuid() == 0 and not shutil.which("runuser")):
        yield None
        return
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, "postgres")
    data, bins = str(folder / "data"), found[-1].parent

    def run(program: str, *arguments: str) -> None:
        with (folder / "log").open("ab") as log:
            command = [*prefix, str(bins / program), "-D", data, *arguments]
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder)

    run("initdb", "-U", "solomonic", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
    run("pg_ctl", "-w", "-o", f"-c listen_addresses='' -k {folder}", "start")
    try:
        yield f"postgresql+psycopg://solomonic@/postgres?host={folder}"
    finally:
        with suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-w", "-m", "fast", "stop")


def table(records: dict[str, dict[str, Any]]) -> str:
    """One row a figure, two columns a store."""
    names = [
        name for name, value in next(iter(records.values())).items() if isinstance(value, dict)
    ]
    header = [
        "",
        *(f"{store}: {what}" for store in records for what in ("a second", "p50 / p99 ms")),
    ]
    rows = []
    for name in names:
        row = [name]
        for record in records.values():
            figures = record[name]
            row += [f"{figures['per_second']:.0f}"]
            row += [f"{figures['p50_ms']:.1f} / {figures['p99_ms']:.1f}"]
        rows.append(row)
    return markdown_table(header, rows)


def main(arguments: list[str]) -> None:
    """Measure both stores, print a table, keep the record."""
    parser = argparse.ArgumentParser(prog="store")
    parser.add_argument("folder", nargs="?", default=tempfile.gettempdir())
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args(arguments)
    records: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        before = fsync_ms(folder)
        records["SQLite"] = measure(folder / "store.db", given.users, given.seconds)
        kept = [path for path in folder.rglob("*") if path.is_file()]
        records["SQLite"]["disk_bytes"] = sum(path.stat().st_size for path in kept)
        server = folder / "pg"
        server.mkdir()
        folder.chmod(0o755)
        with postgresql(server) as url:
            if url is not None:
                records["PostgreSQL"] = measure(url, given.users, given.seconds)
        disk = {"before": before, "after": fsync_ms(folder)}
    print(table(records))
    settings = {"users": given.users, "history": HISTORY, "state_bytes": STATE_BYTES,
                "seconds": given.seconds}  # fmt: skip
    report = {"settings": settings, "fsync_ms": disk, "load": os.getloadavg(), "results": records}
    print(save_report(RESULTS, "store", report))
