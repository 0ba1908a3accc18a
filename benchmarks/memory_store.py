"""The long-term memory: inserts a second, query time and recall at a million items, and churn.

    make bench ARGS="memory_store [FOLDER] [--items 1000000] [--only bulk,single,words,plain]"

Items are windows of 16 words of the books and articles in ../shared/data, in the order of the
texts, so that subjects drift while the memory grows. A key of 256 dimensions is the sum of random
vectors of its words, each weighted by its rarity; no model is near to it, and neighbours share as
few as 7 of 16 words, which makes it harder than keys of a network. Queries are windows that are
not in the memory. Recall compares with all similarities computed.

`bulk` writes all items in batches of 10,000 with texts, words and vectors, asks, forgets, asks
again, and opens the file again; `single` commits items one by one; `words` searches by words;
`plain` is a million vectors without any structure, the worst case of every index.
"""

import argparse
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.evals.report import markdown_table, save_report
from solomonic.memory import Memory, NewItem

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PARTS = ("bulk", "single", "words", "plain")
WIDTH = 16  # words of an item
DIM = 256
BATCH = 10_000
QUERIES = 300
K = 10


def words_of_the_texts() -> list[str]:
    """All words and marks of the books and articles, in order."""
    files = sorted((DATA / "text_gutenberg").rglob("*.txt"))
    files += sorted(p for p in (DATA / "text_wikitext2").iterdir() if p.is_file())
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    return re.findall(r"\w+|[^\w\s]", text)


class Windows:
    """Windows of words and their keys: number 2 n is item n, odd ones are for queries."""

    def __init__(self, items: int) -> None:
        self.words = words_of_the_texts()
        lower = np.array([word.lower() for word in self.words], dtype=object).astype(str)
        vocabulary, self._codes = np.unique(lower, return_inverse=True)
        counts = np.bincount(self._codes)
        rarity = np.log(len(self.words) / counts).astype(np.float32)
        random = np.random.default_rng(0)
        self._table = random.standard_normal((len(vocabulary), DIM), dtype=np.float32)
        self._table *= rarity[:, None]
        self.items = min(items, (len(self.words) - WIDTH) // 2)

    def keys(self, starts: np.ndarray) -> np.ndarray:
        """(n, DIM) float16 of windows that start at words (n,)."""
        total = np.zeros((len(starts), DIM), dtype=np.float32)
        for place in range(WIDTH):
            total += self._table[self._codes[starts + place]]
        return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float16)

    def batch(self, first: int, last: int) -> list[NewItem]:
        """Items from `first` to before `last`."""
        starts = 2 * np.arange(first, last)
        keys = self.keys(starts)
        return [
            NewItem(text=self.text(start), vector=keys[n], source="texts", offset=start)
            for n, start in enumerate(starts.tolist())
        ]

    def text(self, start: int) -> str:
        """The words of a window."""
        return " ".join(self.words[start : start + WIDTH])

    def queries(self) -> np.ndarray:
        """Starts of windows that are not in the memory."""
        random = np.random.default_rng(1)
        return 2 * random.choice(self.items - 1, QUERIES, replace=False) + 1


def fill(memory: Memory, windows: Windows) -> dict[str, float]:
    """Write all items in batches; making them is not counted."""
    taken = []
    for first in range(0, windows.items, BATCH):
        batch = windows.batch(first, min(windows.items, first + BATCH))
        started, used = time.perf_counter(), time.process_time()
        memory.write_many(batch)
        taken.append((time.perf_counter() - started, time.process_time() - used))
        if first % 100_000 == 0:
            print(f"{first} items: {BATCH / taken[-1][0]:.0f} a second", flush=True)
    table = np.array(taken)
    return {
        "per_second": windows.items / table[:, 0].sum(),
        "per_processor_second": windows.items / table[:, 1].sum(),
        "slowest_batch_seconds": float(table[:, 0].max()),
    }


def truth(keys: np.ndarray, queries: np.ndarray, gone: np.ndarray) -> list[set[int]]:
    """Numbers of the K nearest of all rows of `keys`, whose numbers begin with 1."""
    best = [(np.empty(0), np.empty(0, dtype=np.int64))] * len(queries)
    for start in range(0, len(keys), 50_000):
        block = keys[start : start + 50_000].astype(np.float32)
        numbers = np.arange(start + 1, start + len(block) + 1)
        found = queries @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
        found[:, np.isin(numbers, gone)] = -np.inf
        for n, row in enumerate(found):
            top = np.argpartition(-row, K)[:K]
            scores = np.concatenate([best[n][0], row[top]])
            ids = np.concatenate([best[n][1], numbers[top]])
            order = np.argsort(-scores)[:K]
            best[n] = scores[order], ids[order]
    return [set(ids.tolist()) for _, ids in best]


def ask(memory: Memory, queries: np.ndarray, right: list[set[int]]) -> dict[str, float]:
    """Times of one search each, in ms, and the share of the true answers."""
    for query in queries[:20]:
        memory.search(query, K)
    taken, used, found = [], [], 0
    for query, answers in zip(queries, right, strict=True):
        started, worked = time.perf_counter(), time.thread_time()
        hits = memory.search(query, K)
        taken.append(1000 * (time.perf_counter() - started))
        used.append(1000 * (time.thread_time() - worked))
        found += len(answers & {hit.item.id for hit in hits})
    p10, p50, p99 = np.percentile(taken, [10, 50, 99])
    return {
        "p10_ms": float(p10),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p50_processor_ms": float(np.median(used)),
        "recall_at_10": found / (K * len(queries)),
    }


def bulk(path: Path, windows: Windows) -> dict[str, Any]:
    """Fill, ask, forget a tenth (near the queries), ask, close, open, verify."""
    record: dict[str, Any] = {}
    memory = Memory.open(path, dim=DIM)
    record["insert"] = fill(memory, windows)
    record["index"] = memory.stats()["index"]
    starts = windows.queries()
    queries = windows.keys(starts).astype(np.float32)
    keys = windows.keys(2 * np.arange(windows.items))
    record["query"] = ask(memory, queries, truth(keys, queries, np.empty(0, dtype=np.int64)))
    print(record, flush=True)
    random = np.random.default_rng(2)
    gone = random.choice(windows.items, windows.items // 10, replace=False) + 1
    # The nearest neighbours of every third query go too: what is forgotten never answers.
    gone = np.union1d(gone, (starts[::3, None] // 2 + np.arange(-2, 3)).ravel().clip(1) + 1)
    started = time.perf_counter()
    memory.forget(gone.tolist())
    record["forget_per_second"] = len(gone) / (time.perf_counter() - started)
    record["after forgetting"] = ask(memory, queries, truth(keys, queries, gone))
    dead = set(gone.tolist())
    record["forgotten_answers"] = sum(
        hit.item.id in dead for query in queries for hit in memory.search(query, 50)
    )
    started = time.perf_counter()
    memory.close()
    record["close_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    memory = Memory.open(path)
    record["open_seconds"] = time.perf_counter() - started
    record["after opening"] = ask(memory, queries, truth(keys, queries, gone))
    started = time.perf_counter()
    record["verified"] = memory.verify().problems == ()
    record["verify_seconds"] = time.perf_counter() - started
    memory.close()
    record["file_bytes"] = {p.name: p.stat().st_size for p in sorted(path.parent.iterdir())}
    return record


def single(path: Path, windows: Windows) -> dict[str, float]:
    """Items committed one by one."""
    batch = windows.batch(0, min(windows.items, 5000))
    with Memory.open(path, dim=DIM) as memory:
        taken = []
        for new in batch:
            started = time.perf_counter()
            memory.write_many([new])
            taken.append(time.perf_counter() - started)
    p50, p99 = np.percentile(np.array(taken) * 1000, [50, 99])
    return {"per_second": len(taken) / sum(taken), "p50_ms": float(p50), "p99_ms": float(p99)}


def words(path: Path, windows: Windows) -> dict[str, float]:
    """Searching by words; needs no vectors, so the items have none."""
    with Memory.open(path) as memory:
        for first in range(0, windows.items, BATCH):
            last = min(windows.items, first + BATCH)
            memory.write_many(NewItem(text=windows.text(2 * n)) for n in range(first, last))
        taken, found = [], 0
        for start in windows.queries()[:100].tolist():
            started = time.perf_counter()
            hits = memory.search(windows.text(start), K)
            taken.append(1000 * (time.perf_counter() - started))
            near = {start // 2 + 1, start // 2 + 2}
            found += bool(near & {hit.item.id for hit in hits})
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "neighbour_found": found / len(taken)}


def plain(path: Path, windows: Windows) -> dict[str, Any]:
    """Vectors from a normal distribution: no list helps, all similarities are nearly alike."""
    random = np.random.default_rng(3)
    keys = np.empty((windows.items, DIM), dtype=np.float16)
    with Memory.open(path, dim=DIM) as memory:
        for first in range(0, windows.items, BATCH):
            part = slice(first, min(windows.items, first + BATCH))
            keys[part] = random.standard_normal((part.stop - first, DIM), dtype=np.float32)
            memory.write_many(NewItem(text="", vector=key) for key in keys[part])
        queries = random.standard_normal((100, DIM), dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        return ask(memory, queries, truth(keys, queries, np.empty(0, dtype=np.int64)))


def table(record: dict[str, Any]) -> str:
    """What people look for first."""
    rows = []
    if "bulk" in record:
        found = record["bulk"]
        rows.append(["inserts a second, batches of 10,000", f"{found['insert']['per_second']:.0f}"])
        for name in ("query", "after forgetting", "after opening"):
            figures = found[name]
            rows.append(
                [
                    f"{name}: p50 / p99 ms, recall@10",
                    f"{figures['p50_ms']:.2f} / {figures['p99_ms']:.2f}, "
                    f"{figures['recall_at_10']:.3f}",
                ]
            )
        rows.append(["forgotten items that answered", str(found["forgotten_answers"])])
        rows.append(["seconds to open, verify", f"{found['open_seconds']:.1f}, "
                     f"{found['verify_seconds']:.1f}"])  # fmt: skip
    for name in ("single", "words", "plain"):
        if name in record:
            said = ", ".join(f"{key} {value:.3g}" for key, value in record[name].items())
            rows.append([name, said])
    return markdown_table(["figure", "value"], rows)


def main(arguments: list[str]) -> None:
    """Measure, print a table, keep the record."""
    parser = argparse.ArgumentParser(prog="memory_store")
    parser.add_argument("folder", nargs="?", default=tempfile.gettempdir())
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--only", default=",".join(PARTS))
    given = parser.parse_args(arguments)
    windows = Windows(given.items)
    record: dict[str, Any] = {}
    for part in given.only.split(","):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            measure = {"bulk": bulk, "single": single, "words": words, "plain": plain}[part]
            record[part] = measure(Path(folder) / "memory.db", windows)
            print(part, record[part], flush=True)
    settings = {"items": windows.items, "dim": DIM, "queries": QUERIES, "batch": BATCH}
    report = {"settings": settings, "load": os.getloadavg(), "results": record}
    print(table(record))
    print(save_report(RESULTS, "memory_store", report))
