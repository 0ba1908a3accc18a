"""From a lattice of pieces to one of words, each word with the best score it had.

A word begins at a piece with the word mark and runs to the next such piece. Empty arcs, and pieces
that are nothing but the mark, say nothing: before the first letters of a word they belong to it,
after the last word of a path to that one. A path of pieces falls apart into words in exactly one
way, so that no score is lost and none is counted twice.
"""

from enum import IntEnum
from typing import NamedTuple, TypeVar

from solomonic.speech.lattice.build import Arc, build_lattice
from solomonic.speech.lattice.graph import WORD_MARK, Lattice
from solomonic.speech.lattice.paths import arc_bounds


class _Mode(IntEnum):
    """How far a word has come."""

    OPEN = 0  # no letters yet, and only a marked piece may bring them
    MARKED = 1  # no letters yet, any piece may bring them
    LETTERS = 2  # letters so far
    CLOSED = 3  # complete; only silence until the end of the lattice


class _Key(NamedTuple):
    """Ways that agree in this have the same future; the best one stands for all."""

    mode: _Mode
    text: str


class _Way(NamedTuple):
    """The best way so far; compared by total first."""

    total: float
    acoustic: float
    bias: float
    first: int  # frame of the first piece with letters
    last: int  # frame of the latest one


def word_lattice(pieces: Lattice) -> Lattice:
    """One arc per word between two moments at which words meet; of several ways the best one.

    For every sequence of words, the best score in the result is the best score in `pieces`.
    A piece counts as spoken in the frame its arc ends in (that is when the decoder emits it), or in
    its span where the lattice has spans. Each word's span reaches from its first piece to the frame
    after its last. The only empty arc left is that of the hypothesis without words.

    A lattice without word marks is one of words; only its empty arcs and its doubles go.
    """
    graph = _Graph(pieces)
    begins = {0}
    arcs: list[Arc] = []
    for node in range(pieces.nodes - 1):
        if node in begins:
            found = graph.words_from(node)
            begins.update(arc.target for arc in found)
            arcs += found
    return build_lattice(
        pieces.frames.tolist(), arcs, pieces.nodes - 1, frame_seconds=pieces.frame_seconds
    )


class _Graph:
    """A piece lattice as plain lists, with what can follow each node."""

    def __init__(self, lattice: Lattice) -> None:
        self.bounds = arc_bounds(lattice).tolist()
        self.sources, self.targets = lattice.sources.tolist(), lattice.targets.tolist()
        self.acoustic, self.bias = lattice.acoustic.tolist(), lattice.bias.tolist()
        mark = "" if lattice.is_pieces else WORD_MARK
        texts = [symbol and mark + symbol for symbol in lattice.symbols]
        self.texts = [texts[label] for label in lattice.labels.tolist()]
        self.last = lattice.nodes - 1
        if lattice.is_pieces and lattice.spans is None:
            frames = lattice.frames.tolist()
            self.spans = [(frames[target], frames[target] + 1) for target in self.targets]
        else:
            self.spans = [tuple(span) for span in lattice.arc_spans().tolist()]
        self.may_begin, self.may_close = self._futures(lattice.nodes)

    def _futures(self, nodes: int) -> tuple[list[bool], list[bool]]:
        """Whether a word may begin at each node, and whether nothing more may be said."""
        begin, marked, close = [False] * nodes, [False] * nodes, [False] * nodes
        close[-1] = True
        for arc in reversed(range(len(self.sources))):
            node, target, text = self.sources[arc], self.targets[arc], self.texts[arc]
            if not text:
                begin[node] |= begin[target]
            elif text == WORD_MARK:
                begin[node] |= marked[target]
            else:
                begin[node] |= text.startswith(WORD_MARK)
            silent = text in ("", WORD_MARK)
            marked[node] |= marked[target] or not silent
            close[node] |= silent and close[target]
        return begin, close

    def words_from(self, start: int) -> list[Arc]:
        """The best arc for each word and target that begins at `start`."""
        # Whatever a lattice begins with is a word, marked or not.
        first = _Key(_Mode.OPEN if start else _Mode.MARKED, "")
        waiting: dict[int, dict[_Key, _Way]] = {start: {first: _Way(0.0, 0.0, 0.0, -1, -1)}}
        found: dict[tuple[int, str], _Way] = {}
        for node in range(start, self.last + 1):
            if not waiting:
                break
            ways = waiting.pop(node, {})
            if node == self.last:
                self._finish(ways, start, found)
            for key, way in ways.items():
                for arc in range(self.bounds[node], self.bounds[node + 1]):
                    self._follow(arc, key, way, waiting, found)
        return [
            Arc(
                start, target, text, way.acoustic, way.bias, (way.first, way.last) if text else None
            )
            for (target, text), way in found.items()
        ]

    def _follow(
        self,
        arc: int,
        key: _Key,
        way: _Way,
        waiting: dict[int, dict[_Key, _Way]],
        found: dict[tuple[int, str], _Way],
    ) -> None:
        """Take one arc where the mode allows it, and note a word that is complete after it."""
        piece, target = self.texts[arc], self.targets[arc]
        marked, letters = piece.startswith(WORD_MARK), piece.removeprefix(WORD_MARK)
        way = _Way(
            way.total + self.acoustic[arc] + self.bias[arc],
            way.acoustic + self.acoustic[arc],
            way.bias + self.bias[arc],
            *self._span(arc, way, spoken=bool(letters)),
        )
        ways = waiting.setdefault(target, {})
        if key.mode is _Mode.CLOSED:
            if not letters and self.may_close[target]:
                _keep(ways, key, way)
        elif not letters and not (marked and key.mode is _Mode.LETTERS):
            _keep(ways, _Key(_Mode.MARKED, "") if marked else key, way)
        elif letters and _joins(key.mode, marked):
            text = key.text + letters
            _keep(ways, _Key(_Mode.LETTERS, text), way)
            if self.may_begin[target]:
                _keep(found, (target, text), way)
            if self.may_close[target]:
                _keep(ways, _Key(_Mode.CLOSED, text), way)
        if not ways:
            del waiting[target]

    def _span(self, arc: int, way: _Way, *, spoken: bool) -> tuple[int, int]:
        if not spoken:
            return way.first, way.last
        begin, end = self.spans[arc]
        return (begin if way.first < 0 else way.first), end

    def _finish(
        self, ways: dict[_Key, _Way], start: int, found: dict[tuple[int, str], _Way]
    ) -> None:
        """At the last node, what is closed is a word; nothing said at all is the empty word."""
        for key, way in ways.items():
            if key.mode is _Mode.CLOSED or (start == 0 and key.mode < _Mode.LETTERS):
                _keep(found, (self.last, key.text), way)


def _joins(mode: _Mode, marked: bool) -> bool:
    """Whether a piece with letters belongs to the word so far."""
    return {_Mode.OPEN: marked, _Mode.MARKED: True, _Mode.LETTERS: not marked}[mode]


_Slot = TypeVar("_Slot")


def _keep(best: dict[_Slot, _Way], slot: _Slot, way: _Way) -> None:
    if slot not in best or way.total > best[slot].total:
        best[slot] = way
