"""Making a memory fit a budget of bytes: what is kept twice first, then what counts least.

Nothing is ever deleted for being old. Only a budget deletes: after copies of one text have become
one item, items go in the order of weight times use (the probability that the world is still the
one in which they were written, times one more than how often they have answered), lowest first.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from solomonic.core import ConfigError
from solomonic.memory.truth import Row, Truth
from solomonic.memory.weighing import Weighing

ROUNDS = 6
MARGIN = 0.98
"""Of the budget that is aimed at, as pages are never quite full."""
SOURCES = 100
"""Places that an item remembers of its copies."""


@dataclasses.dataclass(frozen=True)
class Compaction:
    """What `Memory.compact` did.

    Attributes:
        before: bytes of the memory before.
        after: bytes of the memory now.
        consolidated: copies that became part of another item.
        evicted: numbers of the items that went, in the order in which they did.
        items: how many there are now.
    """

    before: int
    after: int
    consolidated: int
    evicted: tuple[int, ...]
    items: int


Remove = Callable[[Sequence[int]], None]


def check_budget(budget: int | None, truth: Truth) -> None:
    """Refuse a budget that would empty the memory.

    Raises:
        ConfigError: it is hardly more than an empty memory takes.
    """
    least = 2 * truth.empty_bytes
    if budget is not None and budget < least:
        raise ConfigError(
            f"a budget of {budget} bytes is hardly more than an empty memory takes; give {least} or"
            " more."
        )


def consolidate(truth: Truth) -> tuple[dict[int, Row], list[int]]:
    """Which items are copies of others: same text, kind and times of validity, and no other vector.

    Returns:
        For every item that takes copies in: its row with their hits, its best weight and, in meta
        under "also", the places [source, offset, time] of the copies; and the copies' numbers.
        The newest one stays, as it weighs most.
    """
    sql = "SELECT text, kind FROM memory_item GROUP BY text, kind HAVING count(*) > 1"
    kept: dict[int, Row] = {}
    gone: list[int] = []
    columns = "id, source, start, time, log_weight, hits, meta, vector, valid_from, valid_to"
    for text, kind in truth.rows(sql):
        found = truth.rows(
            f"SELECT {columns} FROM memory_item WHERE text = ? AND kind = ? ORDER BY id DESC",
            [text, kind],
        )
        groups: dict[tuple, list[Row]] = {}
        for row in found:
            vector = None if row[7] is None else bytes(row[7])
            groups.setdefault((vector, row[8], row[9]), []).append(row)
        for first, *others in groups.values():
            if not others:
                continue
            meta = json.loads(first[6]) if first[6] else {}
            also = meta.get("also", [])
            for row in others:
                also += [[row[1], row[2], row[3]], *json.loads(row[6] or "{}").get("also", [])]
            places = list(dict.fromkeys(tuple(place) for place in also))[:SOURCES]
            weight = max(row[4] for row in (first, *others))
            hits = sum(row[5] for row in (first, *others))
            kept[first[0]] = (weight, hits, json.dumps({**meta, "also": places}), first[0])
            gone += [row[0] for row in others]
    return kept, gone


def merge(truth: Truth, kept: Iterable[Row]) -> None:
    """Write what `consolidate` found, inside a transaction."""
    truth.execute_many(
        "UPDATE memory_item SET log_weight = ?, hits = ?, meta = ? WHERE id = ?", kept
    )


def worth(truth: Truth, weighing: Weighing) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of all items in the order in which they would go, and the bytes of each."""
    size = "length(text) + length(source) + coalesce(length(meta), 0) + coalesce(length(vector), 0)"
    rows = truth.rows(f"SELECT id, step, log_weight, hits, {size} FROM memory_item ORDER BY id")
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    logs = table[:, 2] + weighing.logs(table[:, 1].astype(np.int64)) + np.log1p(table[:, 3])
    order = np.argsort(logs, kind="stable")  # of equal ones the oldest
    return table[order, 0].astype(np.int64), table[order, 4]


def evict(truth: Truth, weighing: Weighing, budget: int, remove: Remove) -> list[int]:
    """Remove what is worth least until all fits; numbers of what went."""
    gone: list[int] = []
    for _ in range(ROUNDS):
        used = truth.used_bytes()
        if used <= budget:
            return gone
        ids, sizes = worth(truth, weighing)
        if not len(ids):
            return gone
        # What an item takes in the file beyond its own bytes is the same for all, about.
        each = sizes + max(0.0, (used - truth.empty_bytes - sizes.sum()) / len(sizes))
        goal = used - MARGIN * budget
        count = int(np.searchsorted(np.cumsum(each), goal)) + 1
        part = ids[: min(count, len(ids))].tolist()
        remove(part)
        gone += part
        truth.shrink()
    return gone
