"""Neighbour memory: hidden states that a model had before, and the token that came after each.

The distribution is p(w) proportional to the sum over memories i with token w of
exp(theta h.h_i + log omega_i) (Grave et al. 2017, the continuous cache; Khandelwal et al. 2020, the
same over a training set). Over the stream that is being read it is a ring scanned whole; over a
datastore it is an inverted index, of which the nearest are scanned. Never a graph: it could not be
written at every token. `definition.neighbour_distribution` is the same in plain loops.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from solomonic.core import CheckpointError, Config, ShapeError, require


class Neighbours(NamedTuple):
    """Memories near a key: similarity h.h_i (float64), tokens, positions (int64), log weights.

    All (m,). Positions are what was given with the keys.
    """

    similarity: np.ndarray
    tokens: np.ndarray
    positions: np.ndarray
    log_weights: np.ndarray

    def weights(self, theta: float) -> np.ndarray:
        """Share of each memory in the distribution, (m,); they sum to 1."""
        scores = theta * self.similarity + self.log_weights
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()


def distribution(found: Neighbours, theta: float, vocabulary: int) -> np.ndarray:
    """Probability of every token, (vocabulary,) float64; there must be a memory."""
    return np.bincount(found.tokens, found.weights(theta), vocabulary)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighbourConfig(Config):
    """How much of the stream is kept, and which scales of similarity are experts of their own.

    Raises:
        ConfigError: a value out of range.
    """

    capacity: int = 8192
    """Tokens of the stream that are kept; older ones are overwritten."""
    sharpness: tuple[float, ...] = (8.0, 40.0)
    """theta times the mean square of a key: one expert each. 0 is how often each token came."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sharpness", tuple(self.sharpness))
        require(self.capacity >= 1, f"capacity = {self.capacity} must be 1 or more.")
        require(
            all(value >= 0 for value in self.sharpness),
            f"sharpness = {self.sharpness} must not be negative.",
        )


class TokenMemory:
    """A ring of (key, next token, position), scanned whole.

    Args:
        dim: of a key.
        capacity: how many are kept.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self.dim, self.capacity = dim, capacity
        room = min(capacity, 256)
        self._keys = np.zeros((room, dim), dtype=np.float32)
        self._tokens = np.zeros(room, dtype=np.int64)
        self._positions = np.zeros(room, dtype=np.int64)
        self.written = 0
        """Memories ever added."""
        self.square = 0.0
        """Sum of the squared lengths of all keys ever added."""

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._tokens.nbytes + self._positions.nbytes

    @property
    def mean_square(self) -> float:
        """Mean of h.h over what was added; 1 before."""
        return self.square / self.written if self.written and self.square else 1.0

    @property
    def positions(self) -> np.ndarray:
        """(n,) of what is kept, in the order of `search`."""
        return self._positions[: len(self)]

    def add(self, key: np.ndarray, token: int, position: int) -> None:
        """Remember that `token` at `position` came after `key` (dim,)."""
        if key.shape != (self.dim,):
            raise ShapeError(f"a key has shape {key.shape}; this memory's keys are ({self.dim},).")
        if self.written == len(self._tokens) < self.capacity:
            self._grow()
        place = self.written % self.capacity
        self._keys[place] = key
        self._tokens[place], self._positions[place] = token, position
        self.written += 1
        self.square += float(key @ key)

    def search(self, key: np.ndarray, log_weights: np.ndarray | None = None) -> Neighbours:
        """All that is kept, with its similarity to `key` (dim,).

        Args:
            log_weights: (n,) log omega of each, as in `positions`; None: 0.
        """
        size = len(self)
        similarity = (self._keys[:size] @ key.astype(np.float32)).astype(np.float64)
        given = np.zeros(size) if log_weights is None else log_weights
        return Neighbours(similarity, self._tokens[:size], self._positions[:size], given)

    def copy(self) -> "TokenMemory":
        other = TokenMemory(self.dim, self.capacity)
        other._keys, other._tokens = self._keys.copy(), self._tokens.copy()
        other._positions = self._positions.copy()
        other.written, other.square = self.written, self.square
        return other

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What is kept, and how much was ever added."""
        size = len(self)
        return {
            "keys": self._keys[:size].copy(),
            "tokens": self._tokens[:size].copy(),
            "positions": self._positions[:size].copy(),
            "written": np.array([self.written]),
            "square": np.array([self.square]),
        }

    def load_arrays(self, stored: Mapping[str, np.ndarray]) -> None:
        """Become what `to_arrays` of a memory of the same size was.

        Raises:
            ShapeError: it was of another size.
        """
        keys, written = stored["keys"], int(stored["written"][0])
        if keys.shape != (min(written, self.capacity), self.dim):
            raise ShapeError(
                f"stored keys {keys.shape} do not fit a memory of "
                f"{self.capacity} keys of {self.dim}."
            )
        while len(self._keys) < len(keys):
            self._grow()
        size = len(keys)
        self._keys[:size] = keys
        self._tokens[:size], self._positions[:size] = stored["tokens"], stored["positions"]
        self.written, self.square = written, float(stored["square"][0])

    def _grow(self) -> None:
        room = min(self.capacity, 2 * len(self._tokens))
        more = room - len(self._tokens)
        self._keys = np.pad(self._keys, ((0, more), (0, 0)))
        self._tokens = np.pad(self._tokens, (0, more))
        self._positions = np.pad(self._positions, (0, more))


class Datastore:
    """Keys and next tokens of texts read once, searched by an inverted index; read-only.

    Args:
        keys: (n, d) float16 or float32, kept as given (a memory map stays one).
        tokens: (n,) the token that came after each; its position is its index.
        nearest: memories that a search finds.
        lists, probes: of the inverted index; None: by size. Below 50,000 keys all are scanned.
    """

    def __init__(
        self,
        keys: np.ndarray,
        tokens: np.ndarray,
        nearest: int = 512,
        lists: int | None = None,
        probes: int | None = None,
    ) -> None:
        if keys.ndim != 2 or tokens.shape != keys.shape[:1] or not len(keys):
            raise ShapeError(
                f"keys {keys.shape} and tokens {tokens.shape} must be (n, d) and (n,) with n > 0."
            )
        self.dim = keys.shape[1]
        self.nearest = min(nearest, len(keys))
        self._keys, self._tokens = keys, np.asarray(tokens, dtype=np.int64)
        some = np.asarray(keys[:: max(1, len(keys) // 4096)], dtype=np.float32)
        self.mean_square = float((some * some).sum(axis=1).mean()) or 1.0
        self._index = None
        if len(keys) >= 50_000 or lists is not None:
            self._index = _inverted(keys, lists or round(2 * len(keys) ** 0.5), probes)

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes * (1 if self._index is None else 2) + self._tokens.nbytes

    def search(self, key: np.ndarray) -> Neighbours:
        """The `nearest` memories by h.h_i (of those in the lists probed)."""
        query = key.astype(np.float32)
        if self._index is None:
            similarity = np.asarray(self._keys, dtype=np.float32) @ query
            names = np.argpartition(-similarity, self.nearest - 1)[: self.nearest]
            found = similarity[names]
        else:
            scores, ids = self._index.search(query[None], self.nearest)
            names, found = ids[0][ids[0] >= 0], scores[0][ids[0] >= 0]
        names = names.astype(np.int64)
        return Neighbours(
            found.astype(np.float64), self._tokens[names], names, np.zeros(len(names))
        )

    def save(self, path: str | Path) -> None:
        """Write keys and tokens as one .npz; the index is built again by `load`."""
        np.savez(path, keys=self._keys.astype(np.float16), tokens=self._tokens)

    @classmethod
    def load(cls, path: str | Path, nearest: int = 512) -> "Datastore":
        """What `save` wrote.

        Raises:
            CheckpointError: it is no datastore, or cut short.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return cls(stored["keys"], stored["tokens"], nearest)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                f"{path} is no datastore, or it is cut short ({error})."
            ) from None


def _inverted(keys: np.ndarray, lists: int, probes: int | None) -> Any:
    """An inverted index over half-precision copies of the keys, by inner product."""
    import faiss

    dim = keys.shape[1]
    coarse = faiss.IndexFlatIP(dim)
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(coarse, dim, lists, kind, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.cp.seed = 1
    sample = np.random.default_rng(1).permutation(len(keys))[: 40 * lists]
    index.train(np.asarray(keys[np.sort(sample)], dtype=np.float32))
    for begin in range(0, len(keys), 65536):
        index.add(np.asarray(keys[begin : begin + 65536], dtype=np.float32))
    index.nprobe = probes or max(1, lists // 32)
    return index
