"""The exact index: every vector compared with the query. The definition of what search answers."""

from typing import Protocol

import numpy as np

BLOCK = 4096
"""Rows that the matrix has room for at first."""


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
    if metric == "l2":
        return -np.square(keys - query).sum(axis=1)
    products = keys @ query
    if metric == "cosine":
        products /= np.maximum(norms(keys) * norms(query[None]), 1e-30)
    return products


def norms(keys: np.ndarray) -> np.ndarray:
    """Euclidean lengths of rows."""
    return np.sqrt(np.einsum("nd,nd->n", keys, keys, dtype=np.float32))


class ExactIndex:
    """A matrix of float32 copies of the keys, scanned whole for every query.

    One matrix product is the scan. For "cosine" rows are scaled to length one as they come; for
    "l2" their squared lengths stand beside them, as -|k - q|^2 = 2 k.q - |k|^2 - |q|^2.

    Memory: 4 bytes a dimension and item, up to twice that while it grows.
    """

    name = "exact"

    def __init__(self, dim: int, metric: str) -> None:
        self.dim, self.metric = dim, metric
        self._count = 0
        self._ids = np.empty(BLOCK, dtype=np.int64)
        self._raw = np.empty((BLOCK, dim), dtype=np.float16)
        self._matrix = np.empty((BLOCK, dim), dtype=np.float32)
        self._squares = np.empty(BLOCK, dtype=np.float32)

    def __len__(self) -> int:
        return self._count

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """See `Index.add`."""
        end = self._count + len(ids)
        if end > len(self._ids):
            room = max(end, 2 * len(self._ids))
            for name in ("_ids", "_raw", "_matrix", "_squares"):
                old = getattr(self, name)
                new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
                new[: self._count] = old[: self._count]
                setattr(self, name, new)
        part = slice(self._count, end)
        self._ids[part] = ids
        self._raw[part] = keys
        rows = np.asarray(keys, dtype=np.float32)
        if self.metric == "cosine":
            rows = rows / np.maximum(norms(rows), 1e-30)[:, None]
        self._matrix[part] = rows
        self._squares[part] = np.einsum("nd,nd->n", rows, rows)
        self._count = end

    def remove(self, ids: np.ndarray) -> None:
        """See `Index.remove`."""
        keep = ~np.isin(self._ids[: self._count], ids)
        left = int(keep.sum())
        if left == self._count:
            return
        for name in ("_ids", "_raw", "_matrix", "_squares"):
            array = getattr(self, name)
            first = int(np.argmin(keep))  # nothing moves before the first that goes
            array[first:left] = array[first : self._count][keep[first:]]
        self._count = left

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        n = self._count
        k = min(k, n)
        if k == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        query = np.asarray(query, dtype=np.float32)
        if self.metric == "cosine":
            query = query / max(float(norms(query[None])[0]), 1e-30)
        found = self._matrix[:n] @ query
        if self.metric == "l2":
            found = 2 * found - self._squares[:n] - np.float32(query @ query)
        best = np.argpartition(found, n - k)[n - k :] if k < n else np.arange(n)
        best = best[np.lexsort((-self._ids[best], -found[best]))]
        return self._ids[best], found[best]

    def ids(self) -> np.ndarray:
        """See `Index.ids`."""
        return self._ids[: self._count].copy()

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """See `Index.keys`."""
        return self._raw[np.searchsorted(self._ids[: self._count], ids)]
