"""Match memory: where what was read last was read before, and what came after it then.

For each of a few lengths n a hash of the last n tokens leads to the newest place where they stood,
and from each place to the one before it with the same hash. Every place is verified token by
token. A place is entered only when the token at it is known, after the look-up: the present is
never found.
`definition.find_matches` is the same without hashes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from solomonic.core import Config, require
from solomonic.memory.reader.history import History, view_of

_FACTOR = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchConfig(Config):
    """What counts as a match.

    Raises:
        ConfigError: a value out of range.
    """

    orders: tuple[int, ...] = (1, 2, 3, 5, 8, 16)
    """Lengths that are looked up, rising; the first is the shortest match there is."""
    ways: int = 24
    """Places looked at a step: longest orders first, the newest first."""
    longest: int = 32
    """Lengths are not followed beyond this."""
    reach: int = 256
    """Places with the same hash that are visited at most for one order."""

    def __post_init__(self) -> None:
        orders = list(self.orders)
        object.__setattr__(self, "orders", tuple(orders))  # JSON has only lists
        require(
            len(orders) > 0 and orders[0] >= 1 and orders == sorted(set(orders)),
            f"orders = {orders} must rise from 1 or more.",
        )
        require(
            self.longest >= max(orders),
            f"longest = {self.longest} must be at least the last of orders, {max(orders)}.",
        )
        require(self.ways >= 1, f"ways = {self.ways} must be 1 or more.")
        require(self.reach >= self.ways, f"reach = {self.reach} must be at least ways.")


class Matches(NamedTuple):
    """Places whose past equals the present, in the order they were found.

    positions: of the token that came next then; lengths: how many tokens before it agree (at most
    `longest`); tokens: which token it was. All (m,) int64.
    """

    positions: np.ndarray
    lengths: np.ndarray
    tokens: np.ndarray

    def best(self) -> int:
        """Index of the longest, the newest of equals; there must be one."""
        return int(np.lexsort((self.positions, self.lengths))[-1])


NOTHING = Matches(*(np.zeros(0, dtype=np.int64),) * 3)


class MatchMemory:
    """Matches over all tokens added; what is stored and what is being read alike."""

    def __init__(self, config: MatchConfig | None = None) -> None:
        self.config = config or MatchConfig()
        self.history = History()
        self._bits = 10
        self._powers = [pow(_FACTOR, j + 1, 1 << 64) for j in range(self.config.orders[-1])]
        self._allocate(64)

    def __len__(self) -> int:
        return len(self.history)

    @property
    def nbytes(self) -> int:
        """Bytes of tokens and hashes."""
        return self.history.nbytes + self._heads.nbytes + self._chains.nbytes

    def begin(self, source: str, base: int = 0) -> None:
        """A new source; see `History.begin`."""
        self.history.begin(source, base)

    def extend(self, tokens: Sequence[int] | np.ndarray) -> None:
        """Add many tokens of the source begun last, at once."""
        added = self.history.extend(tokens)
        self._enter(added.start, added.stop)

    def append(self, token: int) -> None:
        """Add one token: from now on it can be found."""
        history = self.history
        place = history.append(token)
        if self._crowded(place):
            return
        known = place - history.start_of(place)
        slots = self._slots(history.view, place, min(known, self.config.orders[-1]))
        for row, slot in enumerate(slots):
            self._chain_view[row, place] = self._head_view[row, slot]
            self._head_view[row, slot] = place

    def find(self, context: Sequence[int]) -> Matches:
        """Where the end of `context` stood before; a longer match comes first as far as `orders`
        tell lengths apart."""
        orders, view, most = self.config.orders, self.history.view, self.config.ways
        recent = list(context[-self.config.longest :])
        slots = self._slots(recent, len(recent), min(len(recent), orders[-1]))
        found: dict[int, int] = {}
        for row in range(len(slots) - 1, -1, -1):
            place, visits = self._head_view[row, slots[row]], 0
            while place >= 0 and visits < self.config.reach:
                if place not in found:
                    length = _agreeing(view, place, recent)
                    if length >= orders[row]:
                        found[place] = length
                        if len(found) == most:
                            return self._answer(found)
                place, visits = self._chain_view[row, place], visits + 1
        return self._answer(found) if found else NOTHING

    def copy(self) -> "MatchMemory":
        """A memory of its own with the same past."""
        other = object.__new__(MatchMemory)
        other.config, other._bits, other._powers = self.config, self._bits, self._powers
        other.history = self.history.copy()
        other._set_tables(self._heads.copy(), self._chains.copy())
        return other

    def _answer(self, found: dict[int, int]) -> Matches:
        positions = np.fromiter(found, dtype=np.int64, count=len(found))
        lengths = np.fromiter(found.values(), dtype=np.int64, count=len(found))
        return Matches(positions, lengths, self.history.tokens[positions].astype(np.int64))

    def _slots(self, tokens: Sequence[int] | memoryview, end: int, known: int) -> list[int]:
        """Slots of the last n tokens before `end`, for each order n up to `known`."""
        slots, value, done, size = [], 0, 0, self._bits
        for order in self.config.orders:
            if order > known:
                break
            for j in range(done, order):
                value += (tokens[end - 1 - j] + 1) * self._powers[j]
            done = order
            slots.append(((value & _MASK) * _FACTOR & _MASK) >> (64 - size))
        return slots

    def _allocate(self, room: int) -> None:
        orders = len(self.config.orders)
        while (1 << self._bits) < room:
            self._bits += 1
        heads = np.full((orders, 1 << self._bits), -1, dtype=np.int32)
        self._set_tables(heads, np.full((orders, room), -1, dtype=np.int32))

    def _set_tables(self, heads: np.ndarray, chains: np.ndarray) -> None:
        self._heads, self._chains = heads, chains
        self._head_view, self._chain_view = view_of(heads), view_of(chains)

    def _crowded(self, place: int) -> bool:
        """Whether there was no room for `place`, and everything has been entered anew."""
        if place < self._chains.shape[1]:
            return False
        self._allocate(2 * (place + 1))
        self._enter(0, len(self.history))
        return True

    def _enter(self, first: int, end: int) -> None:
        """Enter the places first .. end - 1, each by the tokens before it."""
        if end <= first or self._crowded(end - 1):
            return
        tokens = self.history.tokens
        longest = self.config.orders[-1]
        low = max(0, first - longest)
        near = tokens[low:end].astype(np.int64)
        value = np.zeros(end - first, dtype=np.uint64)
        whole = np.ones(end - first, dtype=bool)  # no boundary within the order
        whole &= tokens[first:end] >= 0
        places, done = np.arange(first, end), 0
        for row, order in enumerate(self.config.orders):
            for j in range(done, order):
                before = places - 1 - j
                inside = before >= low
                token = np.where(inside, near[np.maximum(before, low) - low], -1)
                whole &= token >= 0
                value += (token + 1).astype(np.uint64) * np.uint64(self._powers[j])
            done = order
            mixed = value * np.uint64(_FACTOR) >> np.uint64(64 - self._bits)
            self._link(row, places[whole], mixed[whole].astype(np.int64))

    def _link(self, row: int, places: np.ndarray, slots: np.ndarray) -> None:
        """Chain places, rising, of each slot behind one another and to what stood there."""
        order = np.argsort(slots, kind="stable")
        places, slots = places[order].astype(np.int32), slots[order]
        if not len(places):
            return
        begins = np.concatenate(([True], slots[1:] != slots[:-1]))
        before = np.concatenate(([-1], places[:-1])).astype(np.int32)
        self._chains[row, places] = np.where(begins, self._heads[row, slots], before)
        ends = np.concatenate((begins[1:], [True]))
        self._heads[row, slots[ends]] = places[ends]


def _agreeing(view: memoryview, place: int, recent: list[int]) -> int:
    """How many tokens before `place` equal the end of `recent`."""
    length = 0
    while (
        length < len(recent) and length < place and view[place - 1 - length] == recent[-1 - length]
    ):
        length += 1
    return length
