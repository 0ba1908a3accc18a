"""What the text formats share: lines with their numbers, symbol tables, scores as text."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from solomonic.core import DataError
from solomonic.speech.lattice.build import Arc, build_lattice
from solomonic.speech.lattice.graph import Lattice

EPSILON = "<eps>"
DEFAULT_FRAME_SECONDS = 0.06  # of our encoder, where a file does not tell

Line = tuple[int, list[str]]  # number from 1, and what stands between blanks
Score = tuple[float, float]  # acoustic, bias in nats


class StateNames:
    """States as files name them, by first use."""

    def __init__(self) -> None:
        self._index: dict[int, int] = {}

    def __getitem__(self, name: int) -> int:
        return self._index.setdefault(name, len(self._index))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def names(self) -> list[int]:
        """What the file calls state 0, 1, ..."""
        return list(self._index)


def lines_of(text: str) -> Iterator[Line]:
    """The lines that are not blank."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.split()


def refuse(format: str, line: int, reason: str) -> DataError:
    """The error to raise for a line."""
    return DataError(f"{format} text, line {line}: {reason}.")


def whole(text: str, format: str, line: int, what: str) -> int:
    """A whole number >= 0, or a refusal."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise refuse(format, line, f"{what} must be a whole number, not '{text}'")
    return int(text)


def cost(text: str, format: str, line: int) -> float:
    """A cost in nats; infinity is allowed (the arc does not exist), not-a-number is not."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value == -math.inf:
        raise refuse(format, line, f"the weight must be a number, not '{text}'")
    return value


def score_text(value: float) -> str:
    """The shortest text that gives a float32 back."""
    return str(np.float32(value) + np.float32(0.0))  # without the sign of a zero


def symbol_table(lattices: Iterable[Lattice]) -> dict[str, int]:
    """An id for every symbol of some lattices; 0 is the empty one."""
    table = {"": 0}
    for lattice in lattices:
        for symbol in lattice.symbols:
            table.setdefault(symbol, len(table))
    return table


def symbols_to_text(table: Mapping[str, int]) -> str:
    """Lines "symbol id", as OpenFst and Kaldi (`words.txt`) read them.

    Raises:
        DataError: a symbol cannot stand in such a file.
    """
    return "".join(f"{label_text(symbol)} {index}\n" for symbol, index in table.items())


def symbols_from_text(text: str) -> dict[int, str]:
    """Ids to symbols; id 0 and `<eps>` are the empty one.

    Raises:
        DataError: a line is not "symbol id", or an id is there twice.
    """
    table: dict[int, str] = {}
    for line, fields in lines_of(text):
        if len(fields) != 2:
            raise refuse("symbols", line, f"'symbol id' is expected, not {len(fields)} words")
        index = whole(fields[1], "symbols", line, "an id")
        if index in table:
            raise refuse("symbols", line, f"id {index} is there twice")
        table[index] = "" if index == 0 or fields[0] == EPSILON else fields[0]
    return table


def label_text(symbol: str) -> str:
    """A symbol between blanks.

    Raises:
        DataError: it contains one, or is what stands for the empty one.
    """
    if symbol == EPSILON or len(symbol.split()) > 1 or symbol.strip() != symbol:
        raise DataError(f"the symbol {symbol!r} cannot be written to a text format; rename it.")
    return symbol or EPSILON


class Found(NamedTuple):
    """A graph as a file gives it; states are numbered by first use.

    Args:
        arcs: between states.
        ends: final states and the scores of ending there.
        frames: frame of each state, or None.
        names: what the file calls each state; further states have no name.
        start: the state it begins at.
    """

    arcs: list[Arc]
    ends: dict[int, Score]
    frames: list[int] | None
    names: list[int]
    start: int = 0


def join(found: Found, frame_seconds: float, format: str) -> Lattice:
    """The lattice of what was read; a single end without a score stays the last node.

    Of nodes that time and topology leave in any order, the lower name comes first, so that what we
    wrote keeps its order.

    Raises:
        DataError: the graph is no lattice.
    """
    if not found.ends:
        raise DataError(f"{format} text: there is no final state; is the file cut short?")
    order = sorted(range(len(found.names)), key=lambda state: found.names[state])
    rank = {state: index for index, state in enumerate(order)}
    arcs = [
        arc._replace(
            source=rank.get(arc.source, arc.source), target=rank.get(arc.target, arc.target)
        )
        for arc in found.arcs
    ]
    ends = {rank.get(state, state): score for state, score in found.ends.items()}
    frames = found.frames and [found.frames[state] for state in order]
    if frames and found.frames:
        frames += found.frames[len(order) :]
    end: int | Mapping[int, Score] = ends
    if list(ends.values()) == [(0.0, 0.0)] and not any(arc.source in ends for arc in arcs):
        end = next(iter(ends))
    try:
        return build_lattice(
            frames,
            arcs,
            end,
            start=rank.get(found.start, found.start),
            frame_seconds=frame_seconds,
        )
    except DataError as error:
        raise DataError(f"{format} text: {error}") from error
