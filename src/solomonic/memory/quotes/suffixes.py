"""A suffix array: all places of a text in the order of what follows them, so that what may come
next after any stretch of it is found by bisection.

Built in numpy by prefix doubling that starts at seven bytes and sorts again only what is still
undecided (after Larsson and Sadakane, "Faster suffix sorting", 2007). `suffixes_by_definition` is
what it must equal.
"""

from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING

from solomonic.core import ConfigError

if TYPE_CHECKING:
    import numpy as np

LARGEST = 1 << 28
"""Bytes of text; sorting takes about 40 bytes of memory for each."""
_SMALL = 2048  # an interval whose next bytes are looked at all at once


def suffixes_by_definition(data: bytes) -> list[int]:
    """Places of `data` in the order of the bytes from there on."""
    return sorted(range(len(data)), key=lambda at: data[at:])


def sort_suffixes(data: bytes) -> "np.ndarray":
    """The same, int32 (n,), in O(n log n) operations of numpy per doubling.

    Raises:
        ConfigError: more than `LARGEST` bytes.
    """
    import numpy as np

    n = len(data)
    if n > LARGEST:
        raise ConfigError(
            f"the texts hold {n:,} bytes, and quoting while generating sorts at most "
            f"{LARGEST:,}; use a store of fewer texts, or check the answer afterwards instead."
        )
    if n == 0:
        return np.empty(0, dtype=np.int32)
    # Seven bytes as one number to the base 257, where 0 stands for what lies behind the end.
    padded = np.zeros(n + 7, dtype=np.int64)
    padded[:n] = np.frombuffer(data, dtype=np.uint8)
    padded[:n] += 1
    keys = np.zeros(n, dtype=np.int64)
    for byte in range(7):
        keys *= 257
        keys += padded[byte : byte + n]
    del padded
    order = np.argsort(keys)
    ordered, everywhere = keys[order], np.arange(n)
    ranks = np.empty(n, dtype=np.int64)
    ranks[order] = _group_starts(ordered, everywhere)
    undecided = everywhere[_shared(ordered)]
    del keys, ordered, everywhere
    reach = 7
    while len(undecided):
        places = order[undecided]
        behind = places + reach
        after = np.where(behind < n, ranks[np.minimum(behind, n - 1)] + 1, 0)
        both = ranks[places] * (n + 1) + after
        within = np.argsort(both)
        places, both = places[within], both[within]
        order[undecided] = places
        ranks[places] = _group_starts(both, undecided)
        undecided = undecided[_shared(both)]
        reach *= 2
    return order.astype(np.int32)


class SuffixArray:
    """Intervals of places, narrowed byte by byte: [low, high) holds those that begin alike.

    Args:
        order: `sort_suffixes` of the same data, where it is known already.
    """

    def __init__(self, data: bytes, order: "np.ndarray | None" = None) -> None:
        self.data = data
        self.order = sort_suffixes(data) if order is None else order
        self._places = memoryview(self.order)  # pyright: ignore[reportArgumentType]
        self._column = lru_cache(maxsize=1 << 14)(self._next_bytes)

    def __len__(self) -> int:
        return len(self.order)

    def narrow(self, low: int, high: int, depth: int, byte: int) -> tuple[int, int]:
        """The places among [low, high), which agree in `depth` bytes, where `byte` comes next."""
        if high - low <= _SMALL:
            if high == low:
                return low, low
            column = self._column(low, high, depth)
            return low + bisect_left(column, byte), low + bisect_right(column, byte)
        places, data, size = self._places, self.data, len(self.data)

        def following(at: int) -> int:
            place = places[at] + depth
            return data[place] if place < size else -1

        everything = range(len(places))
        first = bisect_left(everything, byte, low, high, key=following)
        return first, bisect_right(everything, byte, first, high, key=following)

    def interval(self, pattern: bytes) -> tuple[int, int]:
        """All places where `pattern` begins; empty (low = high) where there is none."""
        low, high = 0, len(self)
        for depth, byte in enumerate(pattern):
            low, high = self.narrow(low, high, depth, byte)
        return low, high

    def _next_bytes(self, low: int, high: int, depth: int) -> list[int]:
        """The byte at `depth` behind each place, -1 behind the end; they ascend."""
        places, size = self.order[low:high].tolist(), len(self.data)
        return [self.data[p + depth] if p + depth < size else -1 for p in places]


def _group_starts(values: "np.ndarray", positions: "np.ndarray") -> "np.ndarray":
    """For sorted `values` at ascending `positions`: the position of the first of its equals."""
    import numpy as np

    first = np.concatenate([[True], values[1:] != values[:-1]])
    return np.maximum.accumulate(np.where(first, positions, 0))


def _shared(values: "np.ndarray") -> "np.ndarray":
    """Which of sorted `values` have an equal beside them."""
    import numpy as np

    same = values[1:] == values[:-1]
    return np.concatenate([same, [False]]) | np.concatenate([[False], same])
