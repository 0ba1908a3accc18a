"""The oracle error: how near to what was said the nearest path of a lattice comes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from solomonic.core import DataError
from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.paths import LatticePath, make_path


@dataclass(frozen=True)
class OracleErrors:
    """Word errors of a corpus if a second pass always picked the nearest path."""

    edits: int
    words: int

    @property
    def rate(self) -> float:
        """Edits per word of the references."""
        return self.edits / self.words


class _Cell(NamedTuple):
    """The best way to a node with so many words of the reference used; compared in this order."""

    edits: int
    cost: float
    arc: int  # the last arc; -1: a word of the reference was left out
    used: int  # words of the reference used before


_FAR = _Cell(1 << 60, 0.0, -1, 0)


def oracle(lattice: Lattice, reference: Sequence[str]) -> tuple[int, LatticePath]:
    """Least word edits (substitutions, insertions, deletions) to the reference, and the path.

    Dynamic programming over nodes and words of the reference; of equally near paths the one with
    the best score. The lattice is one of words.

    Raises:
        DataError: it is a lattice of pieces.
    """
    if lattice.is_pieces:
        raise DataError("the oracle compares words; make a word lattice with word_lattice first.")
    length = len(reference)
    sources, targets = lattice.sources.tolist(), lattice.targets.tolist()
    costs = (-lattice.scores()).tolist()
    table: list[list[_Cell]] = [[_FAR] * (length + 1) for _ in range(lattice.nodes)]
    table[0][0] = _Cell(0, 0.0, -1, 0)
    closed = -1
    for arc in range(lattice.arcs):
        while closed < sources[arc]:  # all ways into a node come before the arcs that leave it
            closed += 1
            _delete(table[closed])
        word = lattice.symbols[lattice.labels[arc]]
        _follow(table[sources[arc]], table[targets[arc]], (arc, word, costs[arc]), reference)
    _delete(table[-1])
    node, used, arcs = lattice.nodes - 1, length, []
    while node or used:
        cell = table[node][used]
        used = cell.used
        if cell.arc >= 0:
            arcs.append(cell.arc)
            node = sources[cell.arc]
    return table[-1][length].edits, make_path(lattice, arcs[::-1])


def oracle_errors(pairs: Iterable[tuple[Lattice, Sequence[str]]]) -> OracleErrors:
    """Oracle edits and reference words of (word lattice, reference words) pairs, summed.

    Raises:
        DataError: there is no reference word at all.
    """
    edits = words = 0
    for lattice, reference in pairs:
        edits += oracle(lattice, reference)[0]
        words += len(reference)
    if not words:
        raise DataError("the references of an oracle error rate have no words.")
    return OracleErrors(edits, words)


def _delete(row: list[_Cell]) -> None:
    """Let words of the reference go unsaid at one node."""
    for used in range(1, len(row)):
        before = row[used - 1]
        row[used] = min(row[used], _Cell(before.edits + 1, before.cost, -1, used - 1))


def _follow(
    here: list[_Cell], there: list[_Cell], step: tuple[int, str, float], reference: Sequence[str]
) -> None:
    """Take one arc: its word is a match, a substitution, or an insertion; empty, it is free."""
    arc, word, cost = step
    for used, cell in enumerate(here):
        total = cell.cost + cost
        there[used] = min(there[used], _Cell(cell.edits + bool(word), total, arc, used))
        if word and used < len(reference):
            edits = cell.edits + (word != reference[used])
            there[used + 1] = min(there[used + 1], _Cell(edits, total, arc, used))
