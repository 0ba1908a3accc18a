"""Quote mode, byte by byte: which bytes may come next so that every quotation stays verbatim.

Outside a quotation everything may come; whether an opening mark has been read is known when its
character is whole. Inside, the bytes read since the mark are a stretch of the store, kept as the
interval of its places in a suffix array; a closing mark ends the quotation wherever at least one
character stands in it, and is never part of one. Reading a text this way finds the same quotations
as `marks.quotations` in that text.
"""

import dataclasses
from collections.abc import Iterable

from solomonic.memory.quotes.marks import QuoteConfig
from solomonic.memory.quotes.suffixes import SuffixArray

_SPACES = b" \t\n\r\x0b\x0c"
_NOT_FIRST = bytes([*range(0x80, 0xC0), 0xFF])  # bytes that no character begins with


@dataclasses.dataclass(frozen=True)
class QuoteState:
    """What has to be known of all that was read.

    Attributes:
        opener: the mark of the quotation that is open; "" outside.
        low, high: the places in the suffix array where the quotation so far stands.
        depth: bytes of the quotation so far.
        pending: the bytes so far of a character that is not whole yet.
        lost: the quotation so far is not in the store (only a prompt can bring this about).
    """

    opener: str = ""
    low: int = 0
    high: int = 0
    depth: int = 0
    pending: bytes = b""
    lost: bool = False

    @property
    def quoting(self) -> bool:
        """Whether a quotation is open."""
        return bool(self.opener)


START = QuoteState()


class QuoteAutomaton:
    """Steps through bytes under the rule that quotations are verbatim.

    Args:
        suffixes: of the texts that may be quoted.
        config: which marks; `fold_whitespace` makes a space stand for any white space character,
            as the texts are then stored.
    """

    def __init__(self, suffixes: SuffixArray, config: QuoteConfig) -> None:
        self.suffixes, self.fold = suffixes, config.fold_whitespace
        self.openers = {opener.encode(): opener for opener in config.marks}
        self._closers = {o: [c.encode() for c in closers] for o, closers in config.marks.items()}
        self._possible = {o: self._any_text(o) for o in config.marks}

    def step(self, state: QuoteState, byte: int) -> QuoteState | None:
        """After one more byte; None where it would make a quotation that is not verbatim."""
        after = self.read(state, bytes([byte]))
        return after if self._allowed(state, byte, after) else None

    def run(self, state: QuoteState, data: bytes) -> QuoteState | None:
        """`step` for each byte; None at the first that must not come."""
        current: QuoteState | None = state
        for byte in data:
            current = self.step(current, byte)
            if current is None:
                return None
        return current

    def read(self, state: QuoteState, data: Iterable[int]) -> QuoteState:
        """After bytes that nobody constrains, such as a prompt's."""
        for byte in data:
            character, pending = utf8_step(state.pending, byte)
            if state.opener:
                state = self._inside(state, byte, character, pending)
            elif character in self.openers:
                opener = self.openers[character]
                state = QuoteState(opener, 0, len(self.suffixes))
            elif state.pending != pending:
                state = dataclasses.replace(START, pending=pending)
        return state

    def _inside(
        self, state: QuoteState, byte: int, character: bytes | None, pending: bytes
    ) -> QuoteState:
        if character in self._closers[state.opener]:
            return START
        broken = bool(state.pending) and not 0x80 <= byte < 0xC0
        if broken or character == b"":  # no UTF-8, which no text holds
            return dataclasses.replace(state, low=0, high=0, lost=True, pending=pending)
        low, high, depth = state.low, state.high, state.depth
        if not (self.fold and character is not None and self._repeated_space(state, byte)):
            byte = 32 if self.fold and byte in _SPACES else byte
            low, high = self.suffixes.narrow(low, high, depth, byte)
            depth += 1
        lost = state.lost or (character is not None and low == high)
        return QuoteState(state.opener, low, high, depth, pending, lost)

    def _repeated_space(self, state: QuoteState, byte: int) -> bool:
        """Whether this is white space behind white space, which folding makes one."""
        if byte not in _SPACES or state.depth == 0 or state.low == state.high:
            return False
        place = int(self.suffixes.order[state.low])
        return self.suffixes.data[place + state.depth - 1] == 32

    def _allowed(self, before: QuoteState, byte: int, after: QuoteState) -> bool:
        if not before.opener and not after.opener:
            return True
        if not after.opener:  # neither an empty quotation nor one that ends within a character
            whole = before.pending + bytes([byte]) in self._closers[before.opener]
            return whole and before.depth > len(before.pending)
        if not before.opener:
            return self._possible[after.opener]
        if after.lost:
            return False
        started = after.depth > len(after.pending)  # a whole character stands in it
        if started and after.pending and self._closing(after):
            return True
        return after.low < after.high and (started or self._goes_on(after))

    def _closing(self, state: QuoteState) -> bool:
        closers = self._closers[state.opener]
        return any(closer.startswith(state.pending) for closer in closers)

    def _goes_on(self, state: QuoteState) -> bool:
        """Whether the first character, half read, can become something else than a closing mark."""
        ends = [c for c in self._closers[state.opener] if c.startswith(state.pending)]
        closed = sum(high - low for low, high in map(self.suffixes.interval, ends))
        return state.high - state.low > closed

    def _any_text(self, opener: str) -> bool:
        """Whether the store holds any character that may stand first in a quotation."""
        closed = sum(b - a for a, b in map(self.suffixes.interval, self._closers[opener]))
        return len(self.suffixes.data.translate(None, _NOT_FIRST)) > closed


def utf8_step(pending: bytes, byte: int) -> tuple[bytes | None, bytes]:
    """What one more byte completes, and what is pending then.

    Returns:
        (character, b"") when a character is whole; (None, bytes) while it is not; (b"", b"") for a
        byte that no character begins with. A byte that breaks a character off begins a new one.
    """
    if pending and 0x80 <= byte < 0xC0:
        pending += bytes([byte])
        length = 2 if pending[0] < 0xE0 else 3 if pending[0] < 0xF0 else 4
        return (pending, b"") if len(pending) == length else (None, pending)
    if byte < 0x80:
        return bytes([byte]), b""
    if 0xC2 <= byte < 0xF5:
        return None, bytes([byte])
    return b"", b""
