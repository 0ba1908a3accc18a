"""The lattice: all that a recogniser still holds possible, as a graph of pieces or words.

Nodes are moments and arcs are labels with their scores; every way from the first node to the last
is a hypothesis. The decoder builds one (of pieces), everything else in this folder reads it.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core import DataError

WORD_MARK = "\u2581"  # what SentencePiece puts in front of a piece that starts a word
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Lattice:
    """A directed graph without cycles, of pieces or of words, with one start and one end.

    Nodes are numbered by time: frames never fall and every arc leads to a higher number. Node 0 is
    the start, the last node the end; every node lies on a path from one to the other. The best path
    is the one with the largest sum of `acoustic + bias` (natural logarithms, nats).

    Arrays are copied, cast and made read-only. A word lattice also has `spans`, because the arc of
    a word starts where the last word ended: the silence between them lies on the arc.

    Args:
        frames: (N,) int32, encoder frame at which the node is reached; `frame_seconds` s each.
        sources: (A,) int32, node an arc leaves; never falling.
        targets: (A,) int32, node it reaches.
        labels: (A,) int32, index into `symbols`; 0 is the empty label (epsilon).
        acoustic: (A,) float32, log-probability of the transducer on the arc, blanks included.
        bias: (A,) float32, what biasing added on the arc.
        symbols: texts of the labels, each once; `symbols[0]` is "".
        frame_seconds: length of a frame in s.
        spans: (A, 2) int32 or None: first frame of the label and the one after its last.

    Raises:
        DataError: an array has a wrong shape or value, or the graph is not as said above.
    """

    frames: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    labels: np.ndarray
    acoustic: np.ndarray
    bias: np.ndarray
    symbols: tuple[str, ...]
    frame_seconds: float
    spans: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "sources", "targets", "labels"):
            object.__setattr__(self, name, _integers(getattr(self, name), name))
        for name in ("acoustic", "bias"):
            object.__setattr__(self, name, _scores(getattr(self, name), name))
        object.__setattr__(self, "symbols", tuple(self.symbols))
        if self.spans is not None:
            object.__setattr__(self, "spans", _integers(self.spans, "spans", axes=2))
        _check_sizes(self)
        _check_symbols(self.symbols)
        _check_graph(self)

    def __eq__(self, other: object) -> bool:
        """Everything the same, bit for bit."""
        if not isinstance(other, Lattice):
            return NotImplemented
        arrays = ("frames", "sources", "targets", "labels", "acoustic", "bias", "spans")
        pairs = ((getattr(self, name), getattr(other, name)) for name in arrays)
        return (
            all((a is None) == (b is None) and np.array_equal(a, b) for a, b in pairs)
            and self.symbols == other.symbols
            and self.frame_seconds == other.frame_seconds
        )

    __hash__ = None  # type: ignore[assignment]  # it compares by value and holds arrays

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.frames)

    @property
    def arcs(self) -> int:
        """A."""
        return len(self.sources)

    @property
    def seconds(self) -> float:
        """Time of the last node in s."""
        return float(self.frames[-1]) * self.frame_seconds

    @property
    def is_pieces(self) -> bool:
        """Whether labels are pieces (some start with the word mark) and not words."""
        return any(symbol.startswith(WORD_MARK) for symbol in self.symbols)

    def scores(self, acoustic_scale: float = 1.0, bias_scale: float = 1.0) -> np.ndarray:
        """(A,) float64: `acoustic_scale * acoustic + bias_scale * bias`."""
        acoustic = self.acoustic.astype(np.float64)
        return acoustic_scale * acoustic + bias_scale * self.bias.astype(np.float64)

    def arc_spans(self) -> np.ndarray:
        """(A, 2) int32: `spans`, or the frames of an arc's two nodes where there are none."""
        if self.spans is not None:
            return self.spans
        return np.stack([self.frames[self.sources], self.frames[self.targets]], axis=1)

    def text(self, labels: ArrayLike) -> str:
        """What labels say: pieces are joined, words have a blank between them."""
        texts = [self.symbols[label] for label in np.asarray(labels).tolist() if label]
        if self.is_pieces:
            return " ".join("".join(texts).replace(WORD_MARK, " ").split())
        return " ".join(texts)


def _integers(values: ArrayLike, name: str, axes: int = 1) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != axes or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(
            f"lattice {name} must be whole numbers on {axes} axes; they are {array.dtype} of shape "
            f"{array.shape}."
        )
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < 0 or array.max() > limits.max):
        raise DataError(
            f"lattice {name} must lie in 0..{limits.max}; they reach from {array.min()} to "
            f"{array.max()}."
        )
    return _frozen(array.astype(np.int32))


def _scores(values: ArrayLike, name: str) -> np.ndarray:
    array: np.ndarray[Any, Any] = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise DataError(
            f"lattice {name} must be numbers on 1 axis; they are {array.dtype} of shape "
            f"{array.shape}."
        )
    largest = np.finfo(np.float32).max
    bad = np.flatnonzero(~(np.abs(array.astype(np.float64)) <= largest))
    if len(bad):
        raise DataError(
            f"lattice {name} must be finite; arc {bad[0]} has {array[bad[0]]}. Leave out arcs that "
            "are impossible."
        )
    return _frozen(array.astype(np.float32))


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _check_sizes(lattice: Lattice) -> None:
    arcs = lattice.arcs
    for name in ("targets", "labels", "acoustic", "bias"):
        length = len(getattr(lattice, name))
        if length != arcs:
            raise DataError(f"lattice {name} has {length} entries for {arcs} arcs.")
    if lattice.spans is not None and lattice.spans.shape != (arcs, 2):
        raise DataError(f"lattice spans has shape {lattice.spans.shape}, not ({arcs}, 2).")
    if lattice.nodes < 2 or arcs < 1:
        raise DataError(
            f"a lattice has at least 2 nodes and 1 arc, this one {lattice.nodes} and {arcs}; "
            "silence is one arc with label 0."
        )
    if not 0.0 < lattice.frame_seconds < float("inf"):
        raise DataError(f"frame_seconds must be positive, not {lattice.frame_seconds}.")


def _check_symbols(symbols: tuple[str, ...]) -> None:
    if not symbols or symbols[0] != "":
        raise DataError('symbols[0] of a lattice is "", the empty label.')
    seen: set[str] = set()
    for index, symbol in enumerate(symbols):
        # A lone surrogate is no character of any text and cannot be written to a file.
        if not isinstance(symbol, str) or (index and not symbol) or _SURROGATE.search(symbol):
            raise DataError(f"symbol {index} of a lattice must be text, not {symbol!r}.")
        if symbol in seen:
            raise DataError(f"symbol {index} of a lattice, {symbol!r}, is there twice.")
        seen.add(symbol)


def _check_graph(lattice: Lattice) -> None:
    nodes, sources, targets = lattice.nodes, lattice.sources, lattice.targets
    _refuse(targets >= nodes, f"leads to a node that does not exist ({nodes} nodes)")
    _refuse(targets <= sources, "does not lead to a higher node: number nodes topologically")
    _refuse(
        np.diff(sources, prepend=0) < 0, "comes after one with a higher source: sort arcs by it"
    )
    _refuse(lattice.labels >= len(lattice.symbols), f"has a label beyond {len(lattice.symbols)}")
    falls = np.flatnonzero(np.diff(lattice.frames) < 0)
    if len(falls):
        node = falls[0] + 1
        raise DataError(
            f"node {node} of a lattice is at frame {lattice.frames[node]}, before node {node - 1} "
            f"at {lattice.frames[node - 1]}: number nodes by frame."
        )
    reached = np.zeros(nodes, dtype=bool)
    reached[targets] = True
    leaves = np.zeros(nodes, dtype=bool)
    leaves[sources] = True
    for missing, what in ((~reached[1:], "is never reached"), (~leaves[:-1], "leads nowhere")):
        lost = np.flatnonzero(missing)
        if len(lost):
            node = lost[0] + (what == "is never reached")
            raise DataError(
                f"node {node} of a lattice {what}: it has one start (0) and one end ({nodes - 1}); "
                "build_lattice trims a graph."
            )
    if lattice.spans is not None:
        begin, end = lattice.spans.T
        wrong = (begin > end) | (begin < lattice.frames[sources])
        _refuse(
            wrong | (end > lattice.frames[targets] + 1), "has a span that is not between its nodes"
        )


def _refuse(wrong: np.ndarray, what: str) -> None:
    arcs = np.flatnonzero(wrong)
    if len(arcs):
        raise DataError(f"arc {arcs[0]} of a lattice {what}.")
