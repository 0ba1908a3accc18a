"""Tokens that were read, one after the other, and where each came from.

A position counts tokens of this history. Sources are kept apart by a token that equals no other, so
nothing that is found here runs over from one source into the next.
"""

import bisect
import dataclasses
from collections.abc import Sequence

import numpy as np

from solomonic.core import ShapeError

BOUNDARY = -1
"""Stands between two sources; no vocabulary has it."""


def view_of(array: np.ndarray) -> memoryview:
    """The same memory, whose single elements Python reads three times as fast."""
    return memoryview(array)  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Place:
    """A token of a history: `index` counts tokens from the beginning of its source, `base` is the
    source's own offset in characters."""

    source: str
    index: int
    base: int


class History:
    """A growing array of tokens in sources."""

    def __init__(self) -> None:
        self._tokens = np.full(64, BOUNDARY, dtype=np.int32)
        self._view = view_of(self._tokens)
        self._size = 0
        self._starts: list[int] = []
        self._names: list[str] = []
        self._bases: list[int] = []

    def __len__(self) -> int:
        return self._size

    @property
    def tokens(self) -> np.ndarray:
        """(n,) int32, boundaries included; a view that the next `begin` may outdate."""
        return self._tokens[: self._size]

    @property
    def view(self) -> memoryview:
        """The same memory for reading single tokens, longer than the history."""
        return self._view

    @property
    def nbytes(self) -> int:
        return self._tokens.nbytes

    def begin(self, source: str, base: int = 0) -> None:
        """What is added from here on belongs to `source`, from its character `base` on."""
        self._push(np.array([BOUNDARY], dtype=np.int32))
        self._starts.append(self._size)
        self._names.append(source)
        self._bases.append(base)

    def extend(self, tokens: Sequence[int] | np.ndarray) -> range:
        """Add tokens to the source begun last; their positions.

        Raises:
            ShapeError: no source was begun, or a token is negative.
        """
        added = np.asarray(tokens, dtype=np.int32)
        if not self._starts:
            raise ShapeError("no source was begun; call begin(name) before adding tokens.")
        if added.size and int(added.min()) < 0:
            raise ShapeError(f"a token is {int(added.min())}; tokens are 0 or more.")
        first = self._size
        self._push(added)
        return range(first, self._size)

    def append(self, token: int) -> int:
        """Add one token; its position."""
        if self._size == len(self._tokens):
            self._push(np.array([token], dtype=np.int32))
        else:
            self._view[self._size] = token
            self._size += 1
        return self._size - 1

    def start_of(self, position: int) -> int:
        """Where the source of a position begins."""
        return self._starts[bisect.bisect_right(self._starts, position) - 1]

    def source_of(self, positions: np.ndarray) -> np.ndarray:
        """Number of the source of each position."""
        return np.searchsorted(self._starts, positions, side="right") - 1

    def place(self, position: int) -> Place:
        """Where a token came from."""
        which = bisect.bisect_right(self._starts, position) - 1
        return Place(self._names[which], position - self._starts[which], self._bases[which])

    def sources(self) -> list[tuple[str, int, int]]:
        """(name, base, first position) of each."""
        return list(zip(self._names, self._bases, self._starts, strict=True))

    def copy(self) -> "History":
        other = History()
        other._tokens = self._tokens.copy()
        other._view = view_of(other._tokens)
        other._size = self._size
        other._starts, other._names = list(self._starts), list(self._names)
        other._bases = list(self._bases)
        return other

    def _push(self, added: np.ndarray) -> None:
        wanted = self._size + len(added)
        if wanted > len(self._tokens):
            grown = np.full(max(wanted, 2 * len(self._tokens)), BOUNDARY, dtype=np.int32)
            grown[: self._size] = self._tokens[: self._size]
            self._tokens, self._view = grown, view_of(grown)
        self._tokens[self._size : wanted] = added
        self._size = wanted
