"""Quote mode, token by token: which tokens of a byte-level vocabulary may come next.

A token may open a quotation, close it, or do both and go on: each is judged by all of its bytes
(`QuoteAutomaton`). The definition runs the automaton over every token; the fast form walks a trie
of the vocabulary and leaves a branch where its first byte is not allowed.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from solomonic.core import DataError
from solomonic.memory.quotes.automaton import START, QuoteAutomaton, QuoteState

if TYPE_CHECKING:
    import numpy as np

_REMEMBERED = 512  # masks; each has a byte for every token


class QuoteConstraint:
    """What generation asks in every step.

    Args:
        automaton: of the store's texts.
        pieces: the bytes of every token, empty for control tokens (such as the end of text), which
            must not come while a quotation is open.
    """

    def __init__(self, automaton: QuoteAutomaton, pieces: Sequence[bytes]) -> None:
        self.automaton = automaton
        self.pieces = list(pieces)
        self._trie = _Trie(self.pieces)
        self._masks: OrderedDict[QuoteState, np.ndarray] = OrderedDict()

    @property
    def start(self) -> QuoteState:
        """Before any text."""
        return START

    def read(self, state: QuoteState, tokens: Iterable[int]) -> QuoteState:
        """After tokens that were not constrained: a prompt.

        Raises:
            DataError: they end inside a quotation that the store does not hold, so that nothing
                could go on with it.
        """
        for token in tokens:
            state = self.automaton.read(state, self.pieces[token])
        if state.lost:
            raise DataError(
                "the text ends inside a quotation that the store does not hold; close it, or "
                "leave it out."
            )
        return state

    def advance(self, state: QuoteState, token: int) -> QuoteState | None:
        """After one more token; None if it is not allowed."""
        piece = self.pieces[token]
        if not piece and state.quoting:
            return None
        return self.automaton.run(state, piece)

    def allowed_by_definition(self, state: QuoteState) -> "np.ndarray":
        """`allowed`, token by token."""
        import numpy as np

        found = [self.advance(state, token) is not None for token in range(len(self.pieces))]
        return np.array(found, dtype=bool)

    def allowed(self, state: QuoteState) -> "np.ndarray":
        """Which tokens may come next, (V,) bool; at least one may, whatever the state. The array
        is remembered: it must not be changed."""
        import numpy as np

        if state in self._masks:
            self._masks.move_to_end(state)
            return self._masks[state]
        mask = np.zeros(len(self.pieces), dtype=bool)
        if state.quoting:
            self._walk(state, mask)
        else:
            mask[:] = True
            for token in self._trie.risky(state.pending, self.automaton):
                mask[token] = self.automaton.run(state, self.pieces[token]) is not None
        mask.setflags(write=False)
        self._masks[state] = mask
        if len(self._masks) > _REMEMBERED:
            self._masks.popitem(last=False)
        return mask

    def allowed_next(self, state: QuoteState) -> set[int]:
        """`allowed` as the numbers of the tokens."""
        return set(self.allowed(state).nonzero()[0].tolist())

    def _walk(self, state: QuoteState, mask: "np.ndarray") -> None:
        """Allow all tokens whose bytes the automaton takes from `state`."""
        stack = [(self._trie.root, state)]
        while stack:
            node, current = stack.pop()
            for byte, child in node.items():
                if byte < 0:
                    mask[child] = True
                elif (after := self.automaton.step(current, byte)) is not None:
                    stack.append((child, after))


class _Trie:
    """The vocabulary by its bytes: a node maps a byte to a node, and -1 to the tokens that end
    there."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.root: dict = {}
        self._pieces = pieces
        self._risky: dict[bytes, list[int]] = {}
        for token, piece in enumerate(pieces):
            if piece:
                node = self.root
                for byte in piece:
                    node = node.setdefault(byte, {})
                node.setdefault(-1, []).append(token)

    def risky(self, pending: bytes, automaton: QuoteAutomaton) -> list[int]:
        """The tokens that would open a quotation behind `pending`: all others are allowed there."""
        if pending not in self._risky:
            openers = automaton.openers
            self._risky[pending] = [
                token
                for token, piece in enumerate(self._pieces)
                if any(opener in pending + piece for opener in openers)
            ]
        return self._risky[pending]
