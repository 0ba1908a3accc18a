"""Searching: candidates by similarity or words, weighed, until no other item can be better."""

from collections.abc import Callable

import numpy as np

from solomonic.memory.config import MemoryConfig
from solomonic.memory.index import Following
from solomonic.memory.item import Hit, Vector
from solomonic.memory.rows import item_of, key
from solomonic.memory.truth import Filter, Row, Truth
from solomonic.memory.weighing import Weighing

RANKS = 60
"""Of reciprocal rank fusion: how fast a place in a ranking loses worth."""

Candidates = Callable[[int], list[tuple[int, float]]]
"""The given number of items with their similarities, best first."""


class Searching:
    """Answers of one memory."""

    def __init__(
        self, truth: Truth, index: Following, weighing: Weighing, config: MemoryConfig
    ) -> None:
        self.truth, self.index, self.weighing, self.config = truth, index, weighing, config

    def search(
        self, text: str | None, vector: Vector | None, k: int, where: Filter, dim: int | None
    ) -> list[Hit]:
        """See `Memory.search`; `dim` is that of the memory's vectors, None without any."""
        if vector is None:
            return self.by_words(text or "", k, where)
        query = key(vector, dim, "the query").astype(np.float32)
        if text is None:
            return self.by_vector(query, k, where)
        return self.by_both(text, query, k, where)

    def by_words(self, text: str, k: int, where: Filter) -> list[Hit]:
        """Best by BM25, weighed.

        A weight can only lower a score, so the search ends when the k-th answer scores at least
        what the last candidate had before it was weighed; else it asks for more candidates.
        """
        return self._widening(k, lambda m: self.truth.words(text, m, where), where)

    def by_vector(self, query: np.ndarray, k: int, where: Filter) -> list[Hit]:
        """Best by similarity, weighed; ends as `by_words` does."""

        def candidates(m: int) -> list[tuple[int, float]]:
            ids, found = self.index.search(query, m)
            return list(zip(ids.tolist(), found.tolist(), strict=True))

        return self._widening(k, candidates, where)

    def by_both(self, text: str, query: np.ndarray, k: int, where: Filter) -> list[Hit]:
        """Two rankings fused by the reciprocals of the ranks, scaled to at most one."""
        wide = max(4 * k, 50)
        scores: dict[int, float] = {}
        items = {}
        for hits in (self.by_words(text, wide, where), self.by_vector(query, wide, where)):
            for rank, hit in enumerate(hits):
                items[hit.item.id] = hit
                worth = (RANKS + 1) / 2 / (RANKS + 1 + rank)
                scores[hit.item.id] = scores.get(hit.item.id, 0.0) + worth
        fused = [
            Hit(hit.item, scores[id_] + self._log(hit.item.log_weight), scores[id_], hit.weight)
            for id_, hit in items.items()
        ]
        return sorted(fused, key=_order)[:k]

    def _widening(self, k: int, candidates: Candidates, where: Filter) -> list[Hit]:
        plain = self.weighing.detector is None and not where
        m = k + 6 if plain else max(4 * k, 64)
        while True:
            found, hits = candidates(m), []
            # Reading an item costs more than finding it: most often the first k are the answer.
            first = min(k, len(found)) if plain else len(found)
            rows: list[Row] = []
            for start, end in ((0, first), (first, len(found))):
                if start == end:
                    continue
                rows += self.truth.items([id_ for id_, _ in found[start:end]], where)
                hits = self._weighed(rows, dict(found))
                if len(hits) >= k and hits[k - 1].score >= found[end - 1][1]:
                    return hits[:k]
            if len(found) < m or m >= self.config.candidates:
                return hits[:k]
            m = min(4 * m, self.config.candidates)

    def _weighed(self, rows: list[Row], similarity: dict[int, float]) -> list[Hit]:
        survival = self.weighing.survival(np.array([row[9] for row in rows], dtype=np.int64))
        hits = []
        for row, alive in zip(rows, survival.tolist(), strict=True):
            item = item_of(row, alive)
            found = similarity[item.id]
            score = found + self._log(item.log_weight)
            hits.append(Hit(item, score, found, float(np.exp(item.log_weight))))
        return sorted(hits, key=_order)

    def _log(self, weight: float) -> float:
        return self.config.weight_scale * weight


def _order(hit: Hit) -> tuple[float, int]:
    """Best first; of equal ones the newest."""
    return (-hit.score, -hit.item.id)
