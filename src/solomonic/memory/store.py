"""The memory: verbatim items that words and vectors find, each with its place and its weight."""

import contextlib
import os
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from solomonic.core import ConfigError, DataError
from solomonic.memory.config import MemoryConfig
from solomonic.memory.eviction import Compaction, check_budget, consolidate, evict, merge
from solomonic.memory.item import Hit, Item, NewItem, NotFoundError, Segment, Vector
from solomonic.memory.opening import QUOTES, beside, open_index, open_truth
from solomonic.memory.rows import item_of, row_of
from solomonic.memory.schema import COLUMNS
from solomonic.memory.search import Searching
from solomonic.memory.truth import Filter, Truth
from solomonic.memory.verify import Verification, verify
from solomonic.memory.weighing import Weighing


class Memory:
    """A long-term memory in one SQLite file, or in PostgreSQL. Make one with `Memory.open`.

    One process at a time writes; any number read beside it. When a method that writes has
    returned, the change survives the end of the process, however it ends; when it has raised,
    nothing has changed. Methods may be called from any thread, one at a time runs.

    Attributes:
        place: what people call it: a path, or an address without its password.
        config: its settings.
        dim: of its vectors; None while there are none.
        read_only: nothing can be written.
    """

    def __init__(
        self, truth: Truth, config: MemoryConfig, dim: int | None, forgetting: object | None
    ) -> None:
        self._truth = truth
        self.place, self.read_only = truth.place, truth.read_only
        about = truth.about()
        if dim is not None and "dim" in about and int(about["dim"]) != dim:
            raise ConfigError(
                f"the memory {self.place} has vectors of {about['dim']} dimensions, not {dim}; use"
                " the model that it was written with, or another memory."
            )
        self.config = config.replace(metric=about["metric"])
        self.dim = int(about["dim"]) if "dim" in about else dim
        self._next = int(about["next"])
        self._weighing = Weighing(truth, config, forgetting)
        self._index = open_index(truth, self.config)
        self._searching = Searching(truth, self._index, self._weighing, self.config)
        self._used: dict[int, int] = {}  # answers since they were last written
        self._segment = int(truth.one("SELECT max(id) FROM memory_segment") or 1)
        self._open = True

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        dim: int | None = None,
        config: MemoryConfig | None = None,
        read_only: bool = False,
        forgetting: object | None = None,
    ) -> Self:
        """Open a memory, and make it where there is none.

        Args:
            path: of a file, ":memory:", or postgresql://USER:PASSWORD@HOST/DATABASE.
            dim: of the vectors; None takes what is there, or what is written first.
            read_only: read beside a process that writes.
            forgetting: a change detector; None takes what `config` names.

        Raises:
            ConfigError: another dimension or metric, or a package is missing.
            StorageError: it cannot be written, is not there to be read, or another process writes.
            CheckpointError: something else is there, or damaged, or of another version.
        """
        config = config or MemoryConfig()
        truth = open_truth(path, dim, config, read_only)
        try:
            return cls(truth, config, dim, forgetting)
        except BaseException:
            truth.close()
            raise

    # Writing.

    def write(
        self,
        text: str,
        *,
        vector: Vector | None = None,
        source: str = "",
        offset: int = 0,
        kind: str = "text",
        valid: tuple[float | None, float | None] = (None, None),
        time: float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        """Keep one item (the arguments are described at `Item`); its number.

        Raises:
            ShapeError: a vector of another dimension.
            DataError: something that cannot be kept as it is.
            StorageError: the disk is full; nothing was changed.
        """
        new = NewItem(
            text=text,
            vector=vector,
            source=source,
            offset=offset,
            kind=kind,
            valid=valid,
            time=time,
            meta=meta,
        )
        return self.write_many([new])[0]

    def write_many(self, items: Iterable[NewItem]) -> list[int]:
        """Keep all items in one transaction, or none; their numbers. Much faster than one by one.

        Raises:
            As `write`.
        """
        with self._truth.lock:
            self._live()
            rows, dim = [], self.dim
            place = (self._segment, self._weighing.step)
            for n, new in enumerate(items):
                row = row_of(new, dim, (self._next + n, *place))
                if dim is None and row[-1] is not None:
                    dim = len(row[-1]) // 2
                rows.append(row)
            if not rows:
                return []
            with self._changing():
                self._truth.insert(rows)
                if dim is not None and dim != self.dim:
                    self._truth.tell("dim", dim)
                self._truth.tell("next", self._next + len(rows))
            ids = [row[0] for row in rows]
            self.dim = dim
            self._next += len(rows)
            self._index.written(rows)
            self._index.save(ending=False)
            return ids

    def forget(self, ids: int | Iterable[int]) -> None:
        """Remove items: they never answer again.

        Raises:
            NotFoundError: one of them is not there; then none was removed.
        """
        wanted = [ids] if isinstance(ids, int | np.integer) else list(ids)
        wanted = list(dict.fromkeys(int(id_) for id_ in wanted))
        with self._truth.lock:
            self._live()
            there = {row[0] for row in self._truth.items(wanted)}
            absent = [id_ for id_ in wanted if id_ not in there]
            if absent:
                more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
                raise NotFoundError(
                    f"there is no item {absent[0]}{more} in {self.place}; nothing was forgotten."
                )
            self._remove(wanted)

    def forget_source(self, source: str) -> int:
        """Remove all items of a source; how many.

        Raises:
            NotFoundError: there is none.
        """
        with self._truth.lock:
            self._live()
            sql = "SELECT id FROM memory_item WHERE source = ?"
            ids = [row[0] for row in self._truth.rows(sql, [source])]
            if not ids:
                raise NotFoundError(
                    f"nothing in {self.place} is from '{source}'; nothing was forgotten."
                )
            self._remove(ids)
            return len(ids)

    def _remove(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        with self._changing():
            self._truth.delete(ids)
        for id_ in ids:
            self._used.pop(id_, None)
        self._index.forgotten(np.array(sorted(ids), dtype=np.int64))
        self._drop_quotes()

    def _drop_quotes(self) -> None:
        """Sorted texts could give away one that was forgotten; `quotes` sorts again when asked."""
        path = self.beside(QUOTES)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def observe(self, bits: float) -> None:
        """Tell the change detector what the next symbol cost; moves the stream by one step."""
        if not np.isfinite(bits):
            raise DataError(f"observed {bits} bits; give a finite number.")
        with self._truth.lock:
            self._live()
            if self._weighing.observe(float(bits)) and not self.read_only:
                with self._changing():
                    pass

    def begin_segment(self, stats: bytes = b"") -> int:
        """End the segment of the stream, keeping `stats` of it, and begin the next; its number."""
        with self._truth.lock:
            self._live()
            step, number = self._weighing.step, self._segment + 1
            with self._changing():
                self._truth.execute(
                    "UPDATE memory_segment SET t1 = ?, stats = ? WHERE id = ?",
                    (step, bytes(stats), self._segment),
                )
                self._truth.execute(
                    "INSERT INTO memory_segment VALUES (?, ?, NULL, ?)", (number, step, b"")
                )
            self._segment = number
            return number

    def set_state(self, name: str, data: bytes) -> None:
        """Keep bytes under a name, in the same file and as safely as items."""
        with self._truth.lock:
            self._live()
            with self._changing():
                self._truth.execute(
                    "INSERT INTO memory_state VALUES (?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET data = excluded.data",
                    (_state(name), bytes(data)),
                )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Truth]:
        """For other parts with tables of their own here: `execute` inside happens or does not."""
        with self._truth.lock:
            self._live()
            with self._truth.transaction():
                yield self._truth

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction that also writes what had been kept back: observations and uses."""
        with self._truth.transaction():
            yield
            self._weighing.flush()
            self._truth.execute_many(
                "UPDATE memory_item SET hits = hits + ? WHERE id = ?",
                [(count, id_) for id_, count in self._used.items()],
            )
        self._weighing.flushed()
        self._used.clear()

    # Reading.

    def search(
        self,
        query: str | Vector | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        vector: Vector | None = None,
        at: float | None = None,
        kind: str | None = None,
    ) -> list[Hit]:
        """The items that answer best, by similarity plus logarithm of the weight.

        Args:
            query: words (a string) or a vector; or give `text`, `vector`, or both, whose two
                rankings are then fused.
            at: only items valid at that time, unix seconds.
            kind: only items of that kind.

        Raises:
            ConfigError: nothing to look for, or `k` is not positive.
            ShapeError: a vector of another dimension.
        """
        if isinstance(query, str):
            text = query
        elif query is not None:
            vector = query
        if k < 1:
            raise ConfigError(f"k is {k}; ask for one answer or more.")
        if text is None and vector is None:
            raise ConfigError("nothing to look for; give words, a vector, or both.")
        with self._truth.lock:
            self._live()
            self._index.follow()
            hits = self._searching.search(text, vector, k, Filter(at, kind), self.dim)
            if not self.read_only:
                for hit in hits:
                    self._used[hit.item.id] = self._used.get(hit.item.id, 0) + 1
            return hits

    def get(self, id: int) -> Item:
        """One item.

        Raises:
            NotFoundError: it is not there.
        """
        with self._truth.lock:
            self._live()
            found = self._truth.items([int(id)])
            if not found:
                raise NotFoundError(f"there is no item {id} in {self.place}.")
            return self._item(found[0])

    def items(self, kind: str | None = None, after: int = 0) -> Iterator[Item]:
        """All items in order of their numbers, from the first beyond `after`."""
        with self._truth.lock:
            self._live()
        where, values = Filter(kind=kind).sql()
        for row in self._truth.scan(COLUMNS, where, values, after):
            yield self._item(row)

    def _item(self, row: Sequence[Any]) -> Item:
        return item_of(row, float(self._weighing.survival(np.array([row[9]]))[0]))

    def weights(self) -> np.ndarray:
        """(n,) float64 in (0, 1]: what every item counts for now, in order of their numbers."""
        with self._truth.lock:
            self._live()
            rows = self._truth.rows("SELECT step, log_weight FROM memory_item ORDER BY id")
            table = np.array(rows, dtype=np.float64).reshape(-1, 2)
            return np.exp(table[:, 1] + self._weighing.logs(table[:, 0].astype(np.int64)))

    def changes(self) -> list[int]:
        """Steps at which the change detector saw a change, oldest first; none without one."""
        with self._truth.lock:
            self._live()
            return self._weighing.changes()

    def segments(self) -> list[Segment]:
        """The segments of the stream so far; the last one lasts."""
        with self._truth.lock:
            self._live()
            rows = self._truth.rows("SELECT id, t0, t1, stats FROM memory_segment ORDER BY id")
            return [Segment(id_, t0, t1, bytes(stats)) for id_, t0, t1, stats in rows]

    def state(self, name: str) -> bytes | None:
        """What `set_state` kept under a name, or None."""
        with self._truth.lock:
            self._live()
            found = self._truth.one("SELECT data FROM memory_state WHERE name = ?", [_state(name)])
            return None if found is None else bytes(found)

    def beside(self, name: str) -> Path | None:
        """Where the derived file `name` of this memory stands; None where it is in no file."""
        return beside(self._truth, name)

    def __len__(self) -> int:
        with self._truth.lock:
            self._live()
            return self._truth.count()

    def stats(self) -> dict[str, Any]:
        """Figures for people, in JSON's types."""
        with self._truth.lock:
            self._live()
            self._index.follow()
            kinds = "SELECT kind, count(*) FROM memory_item GROUP BY kind ORDER BY kind"
            return {
                "place": self.place,
                "database": self._truth.dialect,
                "items": self._truth.count(),
                "kinds": {row[0]: row[1] for row in self._truth.rows(kinds)},
                "sources": self._truth.one("SELECT count(DISTINCT source) FROM memory_item"),
                "bytes": self._truth.used_bytes(),
                "dim": self.dim,
                "metric": self.config.metric,
                "index": self._index.describe(),
                "segments": self._segment,
                "step": self._weighing.step,
                "notices": list(self._index.notices),
            }

    # Keeping it whole and small.

    def compact(self, budget: int | None = None) -> Compaction:
        """Make the memory's file fit into `budget` bytes; where it fits, nothing goes.

        Copies of one text become one item that knows their places, then items go, lowest weight
        times use first. Whatever the budget, or without one, the file is written anew without
        anything that was forgotten, which needs as much free space as it takes.

        Raises:
            ConfigError: the budget is hardly more than an empty memory takes.
            StorageError: no space to write it anew; what had to go has gone all the same.
        """
        check_budget(budget, self._truth)
        with self._truth.lock:
            self._live()
            before, copies, gone = self._truth.used_bytes(), 0, []
            with self._changing():
                pass
            if budget is not None and before > budget:
                kept, copied = consolidate(self._truth)
                copies = len(copied)
                with self._truth.transaction():
                    merge(self._truth, kept.values())
                    self._truth.delete(copied)
                self._index.forgotten(np.array(sorted(copied), dtype=np.int64))
            self._truth.shrink()
            if budget is not None:
                gone = evict(self._truth, self._weighing, budget, self._remove)
            self._index.compacted()
            self._drop_quotes()
            after = self._truth.used_bytes()
            return Compaction(before, after, copies, tuple(gone), self._truth.count())

    def verify(self, repair: bool = False) -> Verification:
        """Check the tables, the index of words and the index of vectors, item by item.

        Args:
            repair: make an index that differs again; tables that are damaged need a backup.
        """
        with self._truth.lock:
            self._live()
            self._index.follow()
            return verify(self._truth, self._index, self.dim, repair)

    # Ending.

    def close(self) -> None:
        """Write what was kept back, and let others write; may be called twice."""
        with self._truth.lock:
            if not self._open:
                return
            self._open = False
            try:
                if not self.read_only:
                    with self._changing():
                        pass
                    self._index.save(ending=True)
            finally:
                self._truth.close()

    def _live(self) -> None:
        if not self._open:
            raise ConfigError(f"the memory {self.place} is closed; open it again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Memory({os.fspath(self.place)!r}, dim={self.dim})"


def _state(name: str) -> str:
    """States of other parts stand apart from the memory's own."""
    return f"user/{name}"
