"""The index of large memories: inverted lists of short codes, and exact similarities after.

Keys are turned by a random rotation, which makes every direction count alike, and each four
dimensions (fewer below 128) become one of sixteen values (product quantisation, 1 bit a
dimension), which faiss compares 32 at a time in registers. A query visits a share of the lists, and
the best of the codes found there are compared exactly, on the float16 keys.

No list stays what it was when the index was made: what is written joins the nearest list, and a
list that outgrows the others is split in two about the means of its halves (`_split`), so that
lists follow what is written now. Codes do not depend on the centre of their list, so re-centring
moves them and changes none. Only when what is written has become so different that its codes lose
more than those they were learned from are all learned again (`_relearn`).

Sources: product quantisation, Jégou et al. 2011; scanning in registers, André et al. 2017;
splitting in place, SPFresh (Xu et al. 2023), here without reassigning neighbouring lists.
"""

import contextlib
import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from solomonic.memory.exact import Rows, prepared, similarities

TRAINED = 40
"""Vectors a list that k-means sees when the index is made."""
CODEBOOK = 20_000
"""Vectors that the sixteen values of each four dimensions are learned from."""
MOST_LISTS = 16_384
SPLIT = 2.5
"""A list is split when it is so many times longer than lists should be."""
FEW = 64
"""Vectors of which it is asked which lists they joined; after more, all lists are looked at."""
BATCH = 16_384
CHECK = 1024
"""Vectors after which the codes are looked at."""
SAMPLE = 512
"""Vectors that tell what codes lose."""
WORSE = 1.15
"""Times what codes lost when they were learned: more, and they are learned again."""
RESCORED = 100
"""Codes compared exactly, at least; four times as many as answers, if that is more."""
SEED = 20_26


def available() -> bool:
    """Is faiss installed?"""
    return importlib.util.find_spec("faiss") is not None


class IvfIndex:
    """Inverted lists of 4-bit codes over float16 keys (see the module).

    Args:
        rows: what is indexed at first; at least `4 * TRAINED` rows. The index keeps it.
        probes: share of the lists that a query visits.
    """

    name = "ivf"

    def __init__(self, rows: Rows, metric: str, probes: float, faiss_bytes: bytes | None) -> None:
        import faiss

        self._faiss: Any = faiss
        self.rows, self.metric, self.probes = rows, metric, probes
        self.dim = rows.dim
        together = max(1, min(4, self.dim // 32))
        self._parts = math.ceil(self.dim / together)
        self._width = together * self._parts
        turn = np.random.default_rng(SEED).normal(size=(self._width, self._width))
        self._turn = np.linalg.qr(turn)[0].astype(np.float32)[: self.dim]
        self._added = 0  # since the codes were last looked at
        self._learned = 0  # rows when they were learned
        self._error = 0.0  # what they lost then
        if faiss_bytes is None:
            with self._one_thread():
                self._make()
        else:
            # The object that was read owns what the two narrower ones only point to.
            self._read = faiss.deserialize_index(np.frombuffer(faiss_bytes, dtype=np.uint8))
            self._index: Any = faiss.downcast_index(self._read)
            self._centres: Any = faiss.downcast_index(self._index.quantizer)
            self._learned = len(rows)
            some = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)
            self._error = self._lost(self._turned(rows.matrix(some)))
        self._lists = self._index.invlists

    @classmethod
    def build(cls, rows: Rows, metric: str, probes: float) -> "IvfIndex":
        """Learn the lists from what is there and fill them."""
        return cls(rows, metric, probes, None)

    @classmethod
    def restore(cls, rows: Rows, metric: str, probes: float, state: bytes) -> "IvfIndex":
        """From `state()` and the rows it belongs to."""
        return cls(rows, metric, probes, state)

    def state(self) -> bytes:
        """Lists and codes, without the rows."""
        return self._faiss.serialize_index(self._index).tobytes()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._centres.ntotal)

    @contextlib.contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Calls here are short: waking threads takes longer, and on a busy machine much longer."""
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(before)

    # Making.

    def _make(self) -> None:
        faiss = self._faiss
        random = np.random.default_rng(SEED)
        self.rows.close_gaps()
        n = len(self.rows)
        lists = max(4, min(wanted_lists(n), n // TRAINED))
        sample = random.choice(n, min(n, TRAINED * lists), replace=False)
        vectors = self._turned(self.rows.matrix(np.sort(sample)))
        spherical = self.metric != "l2"
        means = faiss.Kmeans(
            self._width, lists, niter=8, seed=SEED, spherical=spherical,
            min_points_per_centroid=1, max_points_per_centroid=TRAINED,
        )  # fmt: skip
        means.train(vectors)
        kind = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self._centres = faiss.IndexFlat(self._width, kind)
        self._centres.add(means.centroids)
        self._index = faiss.IndexIVFPQFastScan(
            self._centres, self._width, MOST_LISTS, self._parts, 4, kind, 32
        )
        self._index.by_residual = False  # a code is the same in every list
        book = random.choice(n, min(n, CODEBOOK), replace=False)
        self._index.pq.cp.seed = SEED
        self._index.pq.cp.min_points_per_centroid = 1
        self._index.pq.train(self._turned(self.rows.matrix(np.sort(book))))
        self._index.is_trained = True
        self._lists = self._index.invlists
        for start in range(0, n, BATCH):
            part = np.arange(start, min(n, start + BATCH))
            self._index.add_with_ids(self._turned(self.rows.matrix(part)), self.rows.ids[part])
        self._learned = n
        self._error = self._lost(vectors[:SAMPLE])

    def _lost(self, turned: np.ndarray) -> float:
        """Share of the vectors' squared lengths that their codes lose."""
        book = self._index.pq
        codes = book.decode(book.compute_codes(np.ascontiguousarray(turned)))
        return float(np.square(turned - codes).sum() / max(float(np.square(turned).sum()), 1e-30))

    def _turned(self, keys: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(prepared(keys, self.metric) @ self._turn)

    # Following.

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """See `Index.add`."""
        self.rows.add(ids, keys)
        with self._one_thread():
            for start in range(0, len(ids), BATCH):
                part = slice(start, start + BATCH)
                turned = self._turned(keys[part])
                self._index.add_with_ids(turned, np.asarray(ids[part], dtype=np.int64))
                self._recentre(turned)
            self._added += len(ids)
            if self._added >= CHECK:
                self._added = 0
                self._relearn()

    def _relearn(self) -> None:
        """Learn the codes again where they no longer fit what is written."""
        n = len(self.rows.ids)
        if n - self._learned < max(CHECK, self._learned // 10):
            return
        recent = np.arange(max(0, n - SAMPLE), n)
        if self._lost(self._turned(self.rows.matrix(recent))) > WORSE * self._error:
            self._make()

    def _recentre(self, turned: np.ndarray) -> None:
        """Split lists that the vectors made too long."""
        touched: Any = range(self.lists)
        if len(turned) < FEW:
            touched = np.unique(self._centres.search(turned, 1)[1]).tolist()
        most = SPLIT * max(len(self.rows) / max(self.lists, wanted_lists(len(self.rows))), TRAINED)
        for number in touched:
            if self._lists.list_size(number) > most and self.lists < MOST_LISTS:
                self._split(number)

    def _split(self, number: int) -> None:
        """Two lists about the means of the halves of one; all of it joins what is nearest now."""
        faiss = self._faiss
        size = self._lists.list_size(number)
        ids = faiss.rev_swig_ptr(self._lists.get_ids(number), size).copy()
        ids = ids[self.rows.has(ids)]  # forgotten ones end here
        self._lists.resize(number, 0)
        self._index.ntotal -= size
        if not len(ids):
            return
        turned = self._turned(self.rows.matrix(self.rows.where(ids)))
        if len(ids) < 2:
            self._index.add_with_ids(turned, ids)
            return
        halves = faiss.Kmeans(
            self._width, 2, niter=6, seed=SEED, spherical=self.metric != "l2",
            min_points_per_centroid=1, max_points_per_centroid=1024,
        )  # fmt: skip
        halves.train(turned)
        centre = faiss.rev_swig_ptr(self._centres.get_xb(), self.lists * self._width)
        centre.reshape(self.lists, self._width)[number] = halves.centroids[0]
        self._centres.add(halves.centroids[1:])
        self._index.add_with_ids(turned, ids)

    def remove(self, ids: np.ndarray) -> None:
        """See `Index.remove`. Codes of removed items go when their list is split or made again."""
        self.rows.remove(ids)

    # Answering.

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`; the best of the lists visited, exactly compared."""
        turned = self._turned(np.asarray(query, dtype=np.float32)[None])
        self._index.nprobe = max(1, math.ceil(self.probes * self.lists))
        # Codes of removed items may still be in the way, at most as many as there are.
        dead = max(0, int(self._index.ntotal) - len(self.rows))
        fetched = max(4 * k, RESCORED) + min(dead, 4 * k)
        with self._one_thread():
            _, labels = self._index.search(turned, min(fetched, int(self._index.ntotal)))
        found = labels[0][labels[0] >= 0]
        found = found[self.rows.has(found)]
        if not len(found):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        scores = similarities(self.rows.raw(self.rows.where(found)), query, self.metric)
        best = np.lexsort((-found, -scores))[:k]
        return found[best], scores[best]

    def ids(self) -> np.ndarray:
        """See `Index.ids`."""
        return self.rows.living()

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """See `Index.keys`."""
        return self.rows.raw(self.rows.where(ids))

    def coded(self) -> np.ndarray:
        """Numbers that stand in a list, ascending: each living item must, and stand there once."""
        found = [np.empty(0, dtype=np.int64)]
        for number in range(self.lists):
            size = self._lists.list_size(number)
            found.append(self._faiss.rev_swig_ptr(self._lists.get_ids(number), size).copy())
        together = np.sort(np.concatenate(found))
        return together[self.rows.has(together)]


def wanted_lists(n: int) -> int:
    """Lists that n vectors should have: as many as each is long."""
    return max(4, min(MOST_LISTS // 2, math.isqrt(n)))
