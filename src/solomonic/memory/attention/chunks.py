"""Chunks of text that were read, with what attention needs to read them again.

A chunk is C tokens; for every chosen layer the memory keeps the keys and values that the layer had
when it read them (float16), so that recalling costs a copy and not a reading. The similarity of
chunks is that of their words or of vectors that the caller gives.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from solomonic.core import ShapeError
from solomonic.memory.attention.words import Words

SEARCHES = ("words", "vector")


class ChunkPlace(NamedTuple):
    """Where a chunk stood: characters begin .. end - 1 of `source`."""

    source: str
    begin: int
    end: int


class ChunkHit(NamedTuple):
    """A chunk found: its number, score = similarity + log weight, and its log weight."""

    chunk: int
    score: float
    log_weight: float


class Shape(NamedTuple):
    """What a chunk holds: tokens, layers (their indices), key groups, head size, vector size."""

    tokens: int
    layers: tuple[int, ...]
    groups: int
    size: int
    vector: int


class ChunkMemory:
    """A growing list of chunks.

    Args:
        shape: of a chunk.
        kind: type of stored keys and values; float16 unless something is to be proved.

    Attributes:
        places: where each chunk stood.
        log_weight: (n,) float32, at most 0, added to a chunk's similarity and to the scores of its
            tokens in attention: the logarithm of how much of it still counts. Writable.
    """

    def __init__(self, shape: Shape, kind: type = np.float16) -> None:
        self.shape, self.kind = shape, np.dtype(kind)
        self.places: list[ChunkPlace] = []
        self._words = Words()
        self._arrays: dict[str, np.ndarray] = {
            "tokens": np.empty((0, shape.tokens), dtype=np.int32),
            "vectors": np.empty((0, shape.vector), dtype=np.float16),
            "log_weight": np.empty(0, dtype=np.float32),
        }
        for layer in shape.layers:
            pair = (0, shape.tokens, 2, shape.groups, shape.size)
            self._arrays[f"pairs.{layer}"] = np.empty(pair, dtype=self.kind)
        self._sum = np.zeros(shape.vector)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def tokens(self) -> np.ndarray:
        """(n, C) int32."""
        return self._arrays["tokens"][: len(self)]

    @property
    def vectors(self) -> np.ndarray:
        """(n, d) float16, as they were given."""
        return self._arrays["vectors"][: len(self)]

    @property
    def log_weight(self) -> np.ndarray:
        return self._arrays["log_weight"][: len(self)]

    @property
    def nbytes(self) -> int:
        """Bytes of what the chunks hold."""
        return sum(part[: len(self)].nbytes for part in self._arrays.values())

    def pairs(self, layer: int, chunks: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(chunks), C, 2, G, D) of one layer."""
        return self._arrays[f"pairs.{layer}"][np.asarray(chunks, dtype=np.int64)]

    def add(
        self,
        tokens: np.ndarray,
        pairs: Mapping[int, np.ndarray],
        vector: np.ndarray,
        place: ChunkPlace,
        log_weight: float = 0.0,
    ) -> int:
        """Append a chunk; returns its number.

        Raises:
            ShapeError: something has another size than the chunks of this memory.
        """
        values = {"tokens": tokens, "vectors": vector, "log_weight": np.float32(log_weight)}
        values |= {f"pairs.{layer}": pairs[layer] for layer in self.shape.layers}
        for name, value in values.items():
            wanted = self._arrays[name].shape[1:]
            if np.shape(value) != wanted:
                raise ShapeError(
                    f"a chunk of this memory has {name} of shape {wanted}, not {np.shape(value)}; "
                    "read it with the model and the chunk size of the memory."
                )
        number = len(self)
        if number == len(self._arrays["log_weight"]):
            self._grow(max(16, 2 * number))
        for name, value in values.items():
            self._arrays[name][number] = value
        self._words.add(tokens)
        self._sum += np.asarray(self._arrays["vectors"][number], dtype=np.float64)
        self.places.append(place)
        return number

    def search(
        self, query: np.ndarray, count: int, *, by: str = "words", limit: int | None = None
    ) -> list[ChunkHit]:
        """The best chunks among the first `limit`, best first, the earlier one on a tie.

        Args:
            query: token ids (any number) for `by` = "words", a vector (d,) for "vector".
            limit: None means all. Chunks from `limit` on have no influence at all.

        Raises:
            ShapeError: the vector has another size.
        """
        limit = len(self) if limit is None else max(min(limit, len(self)), 0)
        if limit == 0 or count == 0:
            return []
        if by == "words":
            similar = self._words.scores(query, limit)
            possible = similar > 0
        else:
            similar = self._cosines(np.asarray(query, dtype=np.float64), limit)
            possible = np.ones(limit, dtype=bool)
        weights = self.log_weight[:limit]
        score = np.where(possible, similar + weights, -np.inf)
        count = min(count, limit)
        best = np.argpartition(-score, count - 1)[:count]
        # argpartition may cut anywhere within a tie; take all that tie and cut in order.
        best = np.flatnonzero(score >= score[best].min())
        best = best[np.argsort(-score[best], kind="stable")][:count]
        return [
            ChunkHit(int(i), float(score[i]), float(weights[i])) for i in best if score[i] > -np.inf
        ]

    def following(self, chunk: int, limit: int | None = None) -> int | None:
        """The chunk that continues `chunk` in its source, if it is among the first `limit`."""
        after = chunk + 1
        if after >= (len(self) if limit is None else limit):
            return None
        one, two = self.places[chunk], self.places[after]
        return after if one.source == two.source and one.end == two.begin else None

    def copy(self, count: int | None = None) -> "ChunkMemory":
        """The first `count` chunks in a memory of their own."""
        count = len(self) if count is None else count
        other = ChunkMemory(self.shape, self.kind.type)
        for name, values in self._arrays.items():
            other._arrays[name] = values[:count].copy()
        other.places = self.places[:count]
        other._sum = other._arrays["vectors"].astype(np.float64).sum(0)
        for tokens in other._arrays["tokens"]:
            other._words.add(tokens)
        return other

    def _cosines(self, query: np.ndarray, limit: int) -> np.ndarray:
        """Cosines about the mean of the chunks: what all texts have in common says nothing."""
        if query.shape != (self.shape.vector,):
            raise ShapeError(
                f"the query has shape {query.shape}, the chunks vectors of {self.shape.vector}; "
                "use the model that read them."
            )
        known = self._arrays["vectors"][:limit].astype(np.float32)
        whole = limit == len(self)
        mean = (self._sum / limit if whole else known.mean(0, dtype=np.float64)).astype(np.float32)
        centred, query = known - mean, query.astype(np.float32) - mean
        norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(query)
        return (centred @ query) / np.maximum(norms, 1e-12)

    def _grow(self, size: int) -> None:
        for name, values in self._arrays.items():
            larger = np.empty((size, *values.shape[1:]), dtype=values.dtype)
            larger[: len(values)] = values
            self._arrays[name] = larger
