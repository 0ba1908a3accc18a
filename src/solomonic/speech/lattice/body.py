"""The lattice part of a message: the same walk writes it and reads it."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from solomonic.core import DataError
from solomonic.speech.lattice.coder import Coder, WordCoder, code_number, code_signed
from solomonic.speech.lattice.graph import Lattice


class Body(NamedTuple):
    """A lattice in whole numbers: scores are multiples of 1 / `per_nat` nats."""

    frames: list[int]
    sources: list[int]
    targets: list[int]
    words: list[str]
    acoustic: list[int]
    bias: list[int]
    spans: list[tuple[int, int]] | None


_NOTHING = Body([0, 0], [], [], [], [], [], None)


def to_body(lattice: Lattice, acoustic: np.ndarray, bias: np.ndarray) -> Body:
    """The lattice with its scores as the given whole numbers."""
    spans = None
    if lattice.spans is not None:
        spans = [(first, last) for first, last in lattice.spans.tolist()]
    words = [lattice.symbols[label] for label in lattice.labels.tolist()]
    return Body(
        lattice.frames.tolist(),
        lattice.sources.tolist(),
        lattice.targets.tolist(),
        words,
        acoustic.tolist(),
        bias.tolist(),
        spans,
    )


def from_body(body: Body, per_nat: int, frame_seconds: float) -> Lattice:
    """The lattice; symbols are numbered by first use.

    Raises:
        DataError: the numbers are no lattice.
    """
    symbols = {"": 0}
    labels = [symbols.setdefault(word, len(symbols)) for word in body.words]
    return Lattice(
        frames=np.array(body.frames, dtype=np.int64),
        sources=np.array(body.sources, dtype=np.int64),
        targets=np.array(body.targets, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        acoustic=np.array(body.acoustic, dtype=np.float64) / per_nat,
        bias=np.array(body.bias, dtype=np.float64) / per_nat,
        symbols=tuple(symbols),
        frame_seconds=frame_seconds,
        spans=None if body.spans is None else np.array(body.spans, dtype=np.int64),
    )


def code_body(coder: Coder, body: Body | None = None) -> Body:
    """Write `body`, or read one when there is none; either way it is what is returned.

    Raises:
        DataError: what is read contradicts itself.
    """
    given = body or _NOTHING
    nodes = code_number(coder, "nodes", len(given.frames) - 2) + 2
    has_spans = bool(coder.bit("spans", given.spans is not None))
    made = Body([], [], [], [], [], [], [] if has_spans else None)
    frame = 0
    for node in range(nodes):
        value = given.frames[node] if body else 0
        frame += code_number(coder, "frame", value - frame if body else 0)
        made.frames.append(frame)
    words = _Words(coder)
    leaving = Counter(given.sources)
    for node in range(nodes - 1):
        first = len(made.sources)
        degree = code_number(coder, "degree", leaving[node] - 1 if body else 0) + 1
        for arc in range(first, first + degree):
            made.sources.append(node)
            _code_target(coder, made, given.targets[arc] if body else 0, arc == first)
            made.words.append(words.code(given.words[arc] if body else ""))
            made.acoustic.append(
                -code_signed(coder, "acoustic", -given.acoustic[arc] if body else 0)
            )
            made.bias.append(code_signed(coder, "bias", given.bias[arc] if body else 0))
            if made.spans is not None:
                _code_span(coder, made, given.spans[arc] if given.spans else (0, 0))
    return made


def _code_target(coder: Coder, made: Body, target: int, first: bool) -> None:
    """The first target of a node from the node, the others from the one before."""
    node = made.sources[-1]
    if first:
        target = node + 1 + code_number(coder, "target", max(0, target - node - 1))
    else:
        before = made.targets[-1]
        target = before + code_signed(coder, "next target", target - before)
    if not node < target < len(made.frames):
        raise DataError(f"an arc leads from node {node} to {target} of {len(made.frames)}")
    made.targets.append(target)


def _code_span(coder: Coder, made: Body, span: tuple[int, int]) -> None:
    """The end of the word from the end of its arc, its beginning from the beginning."""
    assert made.spans is not None
    source, target = made.sources[-1], made.targets[-1]
    begin, end = made.frames[source], made.frames[target] + 1
    tail = code_number(coder, ("tail", target == len(made.frames) - 1), max(0, end - span[1]))
    gap = code_number(coder, "gap", max(0, span[0] - begin))
    made.spans.append((begin + gap, end - tail))


class _Words:
    """Words by how long ago they were last used; new ones are spelt."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._spelling = WordCoder(coder)
        self._recent = [""]  # latest last

    def code(self, word: str) -> str:
        known = word in self._recent
        if self._coder.bit("new word", not known):
            word = self._spelling.code(word)
        else:
            ago = len(self._recent) - 1 - self._recent.index(word) if known else 0
            ago = code_number(self._coder, "word", ago)
            if ago >= len(self._recent):
                raise DataError("a word is older than the first one")
            word = self._recent.pop(-1 - ago)
        self._recent.append(word)
        return word
