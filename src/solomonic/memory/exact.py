"""The exact index: every vector compared with the query. The definition of what search answers."""

from typing import Protocol

import numpy as np

ROOM = 1024
"""Rows that there is room for at first."""
BLOCK = 16_384
"""Rows turned from float16 at once, so that they stay in the cache."""


class Index(Protocol):
    """Vectors by number. Derived: everything in it can be made again from the truth."""

    name: str
    dim: int

    def __len__(self) -> int: ...

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """Add vectors: ids (n,) int64, ascending and higher than all before; keys (n, dim)."""
        ...

    def remove(self, ids: np.ndarray) -> None:
        """Remove vectors (n,) int64; those that are not there are left out."""
        ...

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` most alike: numbers and similarities, best first; fewer if there are fewer."""
        ...

    def ids(self) -> np.ndarray:
        """All numbers, ascending."""
        ...

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) float16 of numbers that are there, as the index has them."""
        ...


def similarities(keys: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """How alike `query` (dim,) is to each of `keys` (n, dim): (n,) float32."""
    keys = np.asarray(keys, dtype=np.float32)
    query = np.asarray(query, dtype=np.float32)
    if metric == "l2":
        return -np.square(keys - query).sum(axis=1)
    products = keys @ query
    if metric == "cosine":
        products /= np.maximum(norms(keys) * norms(query[None]), 1e-30)
    return products


def prepared(keys: np.ndarray, metric: str) -> np.ndarray:
    """Keys (n, dim) as float32; for "cosine" of length one, so that products are similarities."""
    rows = np.asarray(keys, dtype=np.float32)
    return rows / np.maximum(norms(rows), 1e-30)[:, None] if metric == "cosine" else rows


def norms(keys: np.ndarray) -> np.ndarray:
    """Euclidean lengths of rows."""
    return np.sqrt(np.einsum("nd,nd->n", keys, keys, dtype=np.float32))


class Rows:
    """Float16 keys (n, dim) and their numbers, ascending; grows at the end, removes by marking.

    Attributes:
        ids: (n,) int64, removed ones included.
        alive: (n,) bool.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._count = 0
        self._living = 0
        self._ids = np.empty(ROOM, dtype=np.int64)
        self._alive = np.empty(ROOM, dtype=bool)
        self._keys = np.empty((ROOM, dim), dtype=np.float16)

    @classmethod
    def of(cls, ids: np.ndarray, keys: np.ndarray) -> "Rows":
        """Rows around two arrays, which are not copied."""
        rows = cls(keys.shape[1])
        rows._ids, rows._keys, rows._alive = ids, keys, np.ones(len(ids), dtype=bool)
        rows._count = rows._living = len(ids)
        return rows

    def __len__(self) -> int:
        return self._living

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: self._count]

    @property
    def alive(self) -> np.ndarray:
        return self._alive[: self._count]

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """Add at the end; `ids` are higher than all before."""
        end = self._count + len(ids)
        if end > len(self._ids):
            room = max(end, len(self._ids) * 3 // 2)
            for name in ("_ids", "_alive", "_keys"):
                old = getattr(self, name)
                new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
                new[: self._count] = old[: self._count]
                setattr(self, name, new)
        self._ids[self._count : end] = ids
        self._keys[self._count : end] = keys
        self._alive[self._count : end] = True
        self._count = end
        self._living += len(ids)

    def remove(self, ids: np.ndarray) -> None:
        """Mark as removed; close the gaps when half of all are."""
        ids = np.unique(np.asarray(ids, dtype=np.int64))
        gone = ids[self.has(ids)]
        self._alive[self.where(gone)] = False
        self._living -= len(gone)
        if self._count > ROOM and self._living < self._count // 2:
            self.close_gaps()

    def close_gaps(self) -> None:
        """Let go of removed rows."""
        if self._living < self._count:
            keep = np.flatnonzero(self.alive)
            self._ids, self._keys = self.ids[keep], self._keys[keep]
            self._alive = np.ones(len(keep), dtype=bool)
            self._count = len(keep)

    def where(self, ids: np.ndarray) -> np.ndarray:
        """Rows (n,) of numbers that are there."""
        return np.searchsorted(self.ids, ids)

    def has(self, ids: np.ndarray) -> np.ndarray:
        """Which of the numbers are there, (n,) bool."""
        rows = np.searchsorted(self.ids, ids)
        found = rows < self._count
        inside = rows[found]
        found[found] = (self.ids[inside] == np.asarray(ids)[found]) & self.alive[inside]
        return found

    def living(self) -> np.ndarray:
        """Numbers that are there, ascending."""
        return self.ids[self.alive]

    def raw(self, rows: np.ndarray | slice) -> np.ndarray:
        """Keys of rows as they are kept: float16."""
        return self._keys[: self._count][rows]

    def matrix(self, rows: np.ndarray | slice) -> np.ndarray:
        """Keys of rows as float32."""
        return self.raw(rows).astype(np.float32)


class ExactIndex:
    """All keys compared with each query: a matrix product over float32 copies of them.

    Memory: 6 bytes a dimension and item, up to half as much again while it grows.
    """

    name = "exact"

    def __init__(self, rows: Rows, metric: str) -> None:
        self.rows, self.metric, self.dim = rows, metric, rows.dim
        self._matrix = np.empty((0, self.dim), dtype=np.float32)
        self._prepared = 0  # rows that the matrix has
        self._base = rows.ids

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """See `Index.add`."""
        self.rows.add(ids, keys)

    def remove(self, ids: np.ndarray) -> None:
        """See `Index.remove`."""
        before = len(self.rows.ids)
        self.rows.remove(ids)
        if len(self.rows.ids) != before:  # gaps were closed
            self._prepared = 0

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        k = min(k, len(self))
        if k <= 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        self._catch_up()
        n = self._prepared
        query = prepared(np.asarray(query)[None], self.metric)[0]
        found = self._matrix[:n] @ query
        if self.metric == "l2":
            found = 2 * found - self._squares[:n] - np.float32(query @ query)
        found[~self.rows.alive] = -np.inf
        best = np.argpartition(found, n - k)[n - k :] if k < n else np.arange(n)
        best = best[np.lexsort((-self.rows.ids[best], -found[best]))][:k]
        return self.rows.ids[best], found[best]

    def _catch_up(self) -> None:
        """Turn the keys that were added since the last search into float32."""
        count = len(self.rows.ids)
        if count > len(self._matrix):
            new = np.empty((max(count, len(self._matrix) * 3 // 2), self.dim), dtype=np.float32)
            new[: self._prepared] = self._matrix[: self._prepared]
            squares = np.empty(len(new), dtype=np.float32)
            squares[: self._prepared] = self._squares[: self._prepared] if self._prepared else 0
            self._matrix, self._squares = new, squares
        for start in range(self._prepared, count, BLOCK):
            part = slice(start, min(count, start + BLOCK))
            block = prepared(self.rows.matrix(part), self.metric)
            self._matrix[part] = block
            self._squares[part] = np.einsum("nd,nd->n", block, block)
        self._prepared = count

    def ids(self) -> np.ndarray:
        """See `Index.ids`."""
        return self.rows.living()

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """See `Index.keys`."""
        return self.rows.raw(self.rows.where(ids))
