"""From a lattice of pieces to one of words, each word with the best score it had.

A word begins at a piece with the word mark and runs to the next such piece. Empty arcs, and pieces
that are nothing but the mark, say nothing: before the first letters of a word they belong to it,
after the last word of a path to that one. A path of pieces falls apart into words in exactly one
way, so that no score is lost and none is counted twice.
"""

import math
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np

from solomonic.core import ConfigError
from solomonic.speech.lattice.build import Arc, build_lattice, take_arcs
from solomonic.speech.lattice.graph import WORD_MARK, Lattice
from solomonic.speech.lattice.paths import arc_bounds, best_from_start, best_path, best_to_end
from solomonic.speech.lattice.prune import arc_losses, rounding

MOST_STEPS = 1 << 15  # a lattice of 20 s of read speech takes a few thousand
_OCTAVES = 24  # by which the narrowest beam that is tried lies below the widest


class _TooManyError(Exception):
    """More steps than allowed."""


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


def word_lattice(pieces: Lattice, limit: int | None = MOST_STEPS) -> Lattice:
    """One arc per word between two moments at which words meet; of several ways the best one.

    For every sequence of words, the best score in the result is the best score in `pieces`.
    A lattice of pieces holds a number of words that is exponential in its arcs: where a model says
    piece after piece without beginning a word, all that can be spelt are words. Where that takes
    more than `limit` steps (an arc taken by one beginning of a word; one more for every 16 bytes of
    it), sequences are left out, the worst first: the result then has all that lie within a beam of
    the best path, with their scores, and the beam is the widest that the limit allows, to a fourth
    of it. The best path is always there. `None` sets no limit.

    A piece counts as spoken in the frame its arc ends in (that is when the decoder emits it), or in
    its span where the lattice has spans. Each word's span reaches from its first piece to the frame
    after its last. The only empty arc left is that of the hypothesis without words.

    A lattice without word marks is one of words; only its empty arcs and its doubles go.

    Raises:
        ConfigError: the limit is not positive.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit of word_lattice must be at least 1 step, not {limit}.")
    graph = _Graph(pieces)
    try:
        arcs = graph.words(limit)
    except _TooManyError:
        narrower = _narrower(graph, pieces, limit)
        if narrower is None:  # so many are exactly as good as the best that none can be chosen
            keep = np.zeros(pieces.arcs, dtype=bool)
            keep[list(best_path(pieces).arcs)] = True
            return word_lattice(take_arcs(pieces, keep), None)
        arcs = narrower
    return build_lattice(
        pieces.frames.tolist(), arcs, pieces.nodes - 1, frame_seconds=pieces.frame_seconds
    )


def _narrower(graph: "_Graph", pieces: Lattice, limit: int | None) -> list[Arc] | None:
    """The words of the widest beam that takes at most `limit` steps."""
    widest = float(arc_losses(pieces).max())
    found = None
    low, high = -1, 4 * _OCTAVES + 1
    while high - low > 1:
        middle = (low + high) // 2
        beam = math.ldexp(widest * (4 + middle % 4) / 4, middle // 4 - _OCTAVES)
        try:
            found, low = graph.words(limit, beam), middle
        except _TooManyError:
            high = middle
    return found


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
        scores = lattice.scores()
        self.before = best_from_start(lattice, scores).tolist()
        self.after = best_to_end(lattice, scores).tolist()
        self.slack = rounding(scores)
        self.steps, self.limit, self.least = 0, float("inf"), -float("inf")

    def words(self, limit: int | None, beam: float = float("inf")) -> list[Arc]:
        """All words whose ways lie at most `beam` behind the best path, in at most `limit` steps.

        Raises:
            _TooManyError: there are more.
        """
        self.steps, self.limit = 0, float("inf") if limit is None else limit
        self.least = self.after[0] - beam - self.slack
        begins = {0}
        arcs: list[Arc] = []
        for node in range(self.last):
            if node in begins:
                found = self.words_from(node)
                begins.update(arc.target for arc in found)
                arcs += found
        return arcs

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
        # What a way must have to lie within the beam, were the rest as good as can be.
        least = self.least - self.before[start]
        for node in range(start, self.last + 1):
            if not waiting:
                break
            ways = waiting.pop(node, {})
            if node == self.last:
                self._finish(ways, start, found)
            for key, way in ways.items():
                price = 1 + len(key.text.encode()) // 16
                for arc in range(self.bounds[node], self.bounds[node + 1]):
                    self.steps += price
                    if self.steps > self.limit:
                        raise _TooManyError
                    total = way.total + self.acoustic[arc] + self.bias[arc]
                    if total + self.after[self.targets[arc]] >= least:
                        self._follow(arc, key, way, total, waiting, found)
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
        total: float,
        waiting: dict[int, dict[_Key, _Way]],
        found: dict[tuple[int, str], _Way],
    ) -> None:
        """Take one arc where the mode allows it, and note a word that is complete after it.

        Args:
            total: of the way with the arc's scores.
        """
        piece, target = self.texts[arc], self.targets[arc]
        marked, letters = piece.startswith(WORD_MARK), piece.removeprefix(WORD_MARK)
        way = _Way(
            total,
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
