"""All short sequence programs, each value once, by cost: bottom-up enumeration in numpy.

A level of cost c holds every sequence (its first `TERMS` terms) that no cheaper program gives.
Two programs with equal terms are one (observational equivalence), so the bank grows by what is
new and not by what can be written. The bank belongs to no task: it is made once, kept in the store
(three columns a row; the terms are computed again when it is read), and looked up ever after.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Self

import numpy as np

from solomonic.core import CheckpointError
from solomonic.memory.solver.programs import Tree
from solomonic.memory.solver.sequence_terms import BINARY, BLOCKS, LEAVES, UNARY

TERMS = 12
LIMIT = 1 << 45
"""Rows with a larger absolute term are dropped: products stay exact in int64 and float64."""
_COMMUTE = {"add", "mul"}
_CHUNK = 100_000  # candidates evaluated at once
_HASH = np.random.default_rng(20261121).integers(1, 1 << 62, TERMS, dtype=np.int64) | 1
_VERSION = 1


class SequenceBank:
    """Rows of terms with the block and the rows that each is made of.

    Attributes:
        costs: of the blocks, in bits; they do not change while a bank grows.
        candidates: evaluated so far.
        values: (rows, TERMS) int64.
    """

    def __init__(self, costs: dict[str, int], capacity: int = 1_000_000) -> None:
        self.costs = {name: costs[name] for name in BLOCKS}
        self.capacity = capacity
        self.candidates = 0
        self.level, self.chunk = 1, 0  # where the enumeration stands
        self.starts = [0, 0]  # first row of each level: level c is starts[c] .. starts[c + 1]
        self._values = np.empty((1024, TERMS), np.int64)
        self._made = np.empty((1024, 3), np.int32)
        self.rows = 0
        self._known = np.empty(0, np.int64)  # hashes, sorted
        self._recent: list[np.ndarray] = []  # sorted, too few to be merged yet

    @property
    def values(self) -> np.ndarray:
        return self._values[: self.rows]

    @property
    def full(self) -> bool:
        return self.rows >= self.capacity

    def advance(self) -> int:
        """Evaluate one more chunk; how many candidates that were (0 with an empty level)."""
        if self.full:
            return 0
        for index, (name, left, right) in enumerate(self._chunks(self.level)):
            if index < self.chunk:
                continue
            self.chunk += 1
            return self._evaluate(name, left, right)
        self.level, self.chunk = self.level + 1, 0
        self.starts.append(self.rows)
        return 0

    def _rows_of(self, level: int) -> range:
        end = self.starts[level + 1] if level + 1 < len(self.starts) else self.rows
        return range(self.starts[level], end)

    def _chunks(self, level: int) -> Iterator[tuple[str, range, range]]:
        """(block, rows of the first argument, rows of the second) of one level, always the same."""
        nothing = range(0)
        for name in LEAVES:
            if self.costs[name] == level:
                yield name, nothing, nothing
        for name in UNARY:
            below = level - self.costs[name]
            if below >= 1:
                rows = self._rows_of(below)
                for first in range(rows.start, rows.stop, _CHUNK):
                    yield name, range(first, min(first + _CHUNK, rows.stop)), nothing
        for name in BINARY:
            both = level - self.costs[name]
            for one in range(1, both):
                if name in _COMMUTE and one > both - one:
                    break
                left, right = self._rows_of(one), self._rows_of(both - one)
                if not left or not right:
                    continue
                step = max(1, _CHUNK // len(right))
                for first in range(left.start, left.stop, step):
                    last = min(first + step, left.stop)
                    for begin in range(right.start, right.stop, _CHUNK):
                        end = min(begin + _CHUNK, right.stop)
                        yield name, range(first, last), range(begin, end)

    def _evaluate(self, name: str, left: range, right: range) -> int:
        if name in LEAVES:
            one = np.arange(TERMS) if name == "n" else np.full(TERMS, int(name))
            made = np.array([[BLOCKS.index(name), -1, -1]], np.int32)
            self._add(one[None].astype(np.int64), made)
            self.candidates += 1
            return 1
        a = np.arange(left.start, left.stop, dtype=np.int32)
        b = np.full(1, -1, np.int32)
        if name in BINARY:
            b = np.arange(right.start, right.stop, dtype=np.int32)
        count = len(a) * len(b)
        first = np.repeat(a, len(b))
        second = np.tile(b, len(a))
        values, good = apply(name, self._values[first], self._values[second])
        kept = np.flatnonzero(good)
        made = np.empty((len(kept), 3), np.int32)
        made[:, 0] = BLOCKS.index(name)
        made[:, 1] = first[kept]
        made[:, 2] = second[kept]
        self._add(values[kept], made)
        self.candidates += count
        return count

    def _add(self, values: np.ndarray, made: np.ndarray) -> None:
        """Append the rows whose terms are new."""
        hashes = _hash(values)
        unique, where = np.unique(hashes, return_index=True)
        new = ~_contains(self._known, unique)
        for known in self._recent:
            new &= ~_contains(known, unique)
        order = np.sort(where[new])  # in the order they were made: rows do not depend on hashing
        order = order[: self.capacity - self.rows]
        if not len(order):
            return
        self._append(values[order], made[order])
        self._recent.append(np.sort(hashes[order]))
        if len(self._recent) > 16 or sum(map(len, self._recent)) > len(self._known) // 4:
            self._known = np.sort(np.concatenate([self._known, *self._recent]))
            self._recent = []

    def _append(self, values: np.ndarray, made: np.ndarray) -> None:
        need = self.rows + len(values)
        if need > len(self._values):
            size = max(need, 2 * len(self._values))
            self._values = np.resize(self._values, (size, TERMS))
            self._made = np.resize(self._made, (size, 3))
        self._values[self.rows : need] = values
        self._made[self.rows : need] = made
        self.rows = need

    def find(self, terms: np.ndarray, begin: int = 0) -> np.ndarray:
        """Rows from `begin` on that start with `terms` (at most TERMS of them), cheapest first."""
        rows = np.arange(begin, self.rows)
        for column, term in enumerate(terms[:TERMS]):
            rows = rows[self._values[rows, column] == term]
            if not len(rows):
                break
        return rows

    def tree(self, row: int) -> Tree:
        """The program of a row."""
        block, left, right = (int(part) for part in self._made[row])
        name = BLOCKS[block]
        if name in LEAVES:
            return (name,) if name == "n" else int(name)
        if right < 0:
            return (name, self.tree(left))
        return (name, self.tree(left), self.tree(right))

    def save(self) -> bytes:
        """Where the enumeration stands: a line of JSON, then the columns."""
        header = {
            "version": _VERSION,
            "terms": TERMS,
            "costs": self.costs,
            "candidates": self.candidates,
            "level": self.level,
            "chunk": self.chunk,
            "starts": self.starts,
            "rows": self.rows,
        }
        columns = np.ascontiguousarray(self._made[: self.rows].T)
        return json.dumps(header).encode() + b"\n" + columns.tobytes()

    @classmethod
    def load(cls, data: bytes, capacity: int = 1_000_000) -> Self:
        """A bank that goes on where the saved one stood.

        Raises:
            CheckpointError: the bytes are no bank, cut, or of a newer version.
        """
        try:
            head, _, body = data.partition(b"\n")
            header = json.loads(head)
            if header["version"] != _VERSION or header["terms"] != TERMS:
                raise CheckpointError("a bank of sequences is of another version; begin anew.")
            bank = cls(header["costs"], capacity)
            made = np.frombuffer(body, np.int32).reshape(3, header["rows"]).T
            bank._rebuild(made, header["starts"])
            bank.candidates = int(header["candidates"])
            bank.level, bank.chunk = int(header["level"]), int(header["chunk"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CheckpointError("a bank of sequences is damaged; begin anew.") from error
        return bank

    def _rebuild(self, made: np.ndarray, starts: list[int]) -> None:
        """Compute the terms again, run by run of equal blocks."""
        edges = [0, *(np.flatnonzero(np.diff(made[:, 0])) + 1).tolist(), len(made)]
        cuts = sorted({*edges, *starts, len(made)})
        for begin, end in itertools.pairwise(cuts):
            part = made[begin:end]
            if (part[:, 1:] >= begin).any() or (part[:, 0] >= len(BLOCKS)).any():
                raise ValueError
            name = BLOCKS[int(part[0, 0])]
            if name in LEAVES:
                one = np.arange(TERMS) if name == "n" else np.full(TERMS, int(name))
                values = np.tile(one, (len(part), 1))
            else:
                values, _ = apply(name, self._values[part[:, 1]], self._values[part[:, 2]])
            self._append(values, part)
        self.starts = [int(start) for start in starts]
        self._known = np.sort(_hash(self.values))


def _hash(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = values * _HASH
        mixed ^= mixed >> 29
        return (mixed * _HASH[::-1]).sum(1)


def _contains(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(len(wanted),) bool: which are in the sorted `known`."""
    if not len(known):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return known[at] == wanted


def apply(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One block on rows of terms (rows, TERMS): the results, and which of them are within bounds.

    Rows that are not are garbage. `sequence_terms.run` is the definition.
    """
    good = np.ones(len(a), bool)
    match name:
        case "add" | "sub":
            out = a + b if name == "add" else a - b
        case "mul":
            good = np.all(np.abs(a.astype(np.float64) * b) <= LIMIT, axis=1)
            out = np.where(good[:, None], a, 0) * b
        case "div" | "mod":
            good = np.all(b != 0, axis=1)
            below = np.where(good[:, None], b, 1)
            out = a // below if name == "div" else a % below
        case "sum":
            out = a.cumsum(1)
        case "prod":
            good = np.all(np.abs(a.astype(np.float64).cumprod(1)) <= LIMIT, axis=1)
            out = np.where(good[:, None], a, 0).cumprod(1)
        case "diff":
            out = np.diff(a, axis=1, prepend=0)
        case "shift":
            out = np.concatenate([np.zeros((len(a), 1), np.int64), a[:, :-1]], 1)
        case _:
            out = a.copy()
            out[:, 1] += out[:, 0]
            for index in range(2, a.shape[1]):
                out[:, index] += out[:, index - 1] + out[:, index - 2]
    return out, good & np.all(np.abs(out) <= LIMIT, axis=1)
