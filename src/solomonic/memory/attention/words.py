"""Which chunks share rare tokens with the last ones read: BM25 over tokens and their pairs.

Source: Robertson and Zaragoza, "The probabilistic relevance framework", 2009. Chunks are of equal
length, so the length normalisation falls away, and a term counts once a chunk: in 64 tokens its
number says little. Terms are tokens and pairs of neighbours: the pieces of a name are common, not
their order. Wang et al. (arXiv 2305.16243) found that what retrieval gives a language
model is mostly such overlap on the surface.
"""

from array import array
from collections.abc import Iterable
from itertools import pairwise

import numpy as np


def terms(tokens: Iterable[int]) -> set[int]:
    """The tokens, and each pair of neighbours as one number beyond them."""
    line = [int(token) for token in tokens]
    return {*line, *(((a + 1) << 32) | b for a, b in pairwise(line))}


class Words:
    """For every term the chunks that hold it, in order; grows at its end."""

    def __init__(self) -> None:
        self._chunks: dict[int, array[int]] = {}
        self.count = 0

    def add(self, tokens: Iterable[int]) -> None:
        """The tokens of the next chunk."""
        for term in terms(tokens):
            self._chunks.setdefault(term, array("q")).append(self.count)
        self.count += 1

    def scores(self, tokens: Iterable[int], limit: int) -> np.ndarray:
        """BM25 (limit,) float32 of the first `limit` chunks for a query of tokens.

        What comes after `limit` has no influence, not even through a term's rarity.
        """
        found = np.zeros(limit, dtype=np.float32)
        for term in terms(tokens):
            chunks = self._chunks.get(term)
            if chunks is None:
                continue
            held = np.frombuffer(chunks, dtype=np.int64)
            held = held[: int(np.searchsorted(held, limit))]
            if len(held):
                rarity = np.log1p((limit - len(held) + 0.5) / (len(held) + 0.5))
                found[held] += np.float32(rarity)
            # An exported buffer forbids its array to grow.
            del held
        return found
