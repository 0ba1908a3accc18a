"""The best path of a lattice, and its n best without two that say the same."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from solomonic.core import ConfigError
from solomonic.speech.lattice.graph import WORD_MARK, Lattice


@dataclass(frozen=True)
class LatticePath:
    """One way from start to end.

    Args:
        arcs: indices of its arcs.
        words: what it says.
        acoustic: sum of the arcs' acoustic scores in nats, unscaled.
        bias: sum of their bias scores in nats, unscaled.
        score: what it was ranked by, with the scales asked for.
    """

    arcs: tuple[int, ...]
    words: tuple[str, ...]
    acoustic: float
    bias: float
    score: float

    @property
    def text(self) -> str:
        """The words with a blank between them."""
        return " ".join(self.words)


def make_path(lattice: Lattice, arcs: Sequence[int], score: float | None = None) -> LatticePath:
    """The path along `arcs`, which the caller knows to follow each other."""
    index = np.asarray(arcs, dtype=np.int64)
    acoustic = float(lattice.acoustic[index].sum(dtype=np.float64))
    bias = float(lattice.bias[index].sum(dtype=np.float64))
    words = tuple(lattice.text(lattice.labels[index]).split())
    return LatticePath(
        tuple(index.tolist()), words, acoustic, bias, acoustic + bias if score is None else score
    )


def best_from_start(lattice: Lattice, scores: np.ndarray) -> np.ndarray:
    """(N,) float64: score of the best way from the start to each node, for arc scores (A,)."""
    best = [-np.inf] * lattice.nodes
    best[0] = 0.0
    for source, target, score in _arcs(lattice, scores):
        best[target] = max(best[target], best[source] + score)
    return np.array(best)


def best_to_end(lattice: Lattice, scores: np.ndarray) -> np.ndarray:
    """(N,) float64: score of the best way from each node to the end, for arc scores (A,)."""
    best = [-np.inf] * lattice.nodes
    best[-1] = 0.0
    for source, target, score in reversed(_arcs(lattice, scores)):
        best[source] = max(best[source], best[target] + score)
    return np.array(best)


def best_path(
    lattice: Lattice, *, acoustic_scale: float = 1.0, bias_scale: float = 1.0
) -> LatticePath:
    """The path with the largest scaled score; of equal ones the one with the lower arcs."""
    scores = lattice.scores(acoustic_scale, bias_scale)
    rest = best_to_end(lattice, scores)
    bounds = arc_bounds(lattice)
    node, arcs = 0, []
    while node < lattice.nodes - 1:
        first, last = bounds[node], bounds[node + 1]
        arc = first + int(np.argmax(scores[first:last] + rest[lattice.targets[first:last]]))
        arcs.append(arc)
        node = int(lattice.targets[arc])
    return make_path(lattice, arcs, float(scores[arcs].sum()))


def arc_bounds(lattice: Lattice) -> np.ndarray:
    """(N + 1,): the arcs of node n are `bounds[n]` to `bounds[n + 1]`, exclusive."""
    return np.searchsorted(lattice.sources, np.arange(lattice.nodes + 1))


class _Partial(NamedTuple):
    """A way from the start, as a linked list; `text` is what the rest cannot change any more."""

    node: int
    text: str
    score: float
    arc: int
    before: "_Partial | None"


def n_best(
    lattice: Lattice, n: int, *, acoustic_scale: float = 1.0, bias_scale: float = 1.0
) -> list[LatticePath]:
    """The n best texts, each by its best path, best first; fewer where there are no more.

    Exact: A* whose estimate is the true score of the rest, so that every partial taken up belongs
    to the best completion there is. Two partials at a node with the same text have the same
    completions; the second can only repeat the first.

    Raises:
        ConfigError: n is not positive.
    """
    if n < 1:
        raise ConfigError(f"n of n_best must be at least 1, not {n}.")
    scores = lattice.scores(acoustic_scale, bias_scale)
    rest = best_to_end(lattice, scores)
    bounds, targets = arc_bounds(lattice).tolist(), lattice.targets.tolist()
    texts = _texts(lattice)
    queue = [(-rest[0], 0, _Partial(0, "", 0.0, -1, None))]
    seen: set[tuple[int, str]] = set()
    found: list[LatticePath] = []
    pushed = 0
    while queue and len(found) < n:
        partial = heapq.heappop(queue)[2]
        text = " ".join(partial.text.split()) if partial.node == lattice.nodes - 1 else partial.text
        if (partial.node, text) in seen:
            continue
        seen.add((partial.node, text))
        if partial.node == lattice.nodes - 1:
            found.append(make_path(lattice, _trace(partial), partial.score))
            continue
        for arc in range(bounds[partial.node], bounds[partial.node + 1]):
            score = partial.score + float(scores[arc])
            pushed += 1  # equal scores: first come, first served, and partials are never compared
            step = _Partial(targets[arc], partial.text + texts[arc], score, arc, partial)
            heapq.heappush(queue, (-(score + rest[targets[arc]]), pushed, step))
    return found


def _texts(lattice: Lattice) -> list[str]:
    """What each arc adds to a text whose words are told apart by blanks."""
    if lattice.is_pieces:
        added = [symbol.replace(WORD_MARK, " ") for symbol in lattice.symbols]
    else:
        added = [symbol and symbol + " " for symbol in lattice.symbols]
    return [added[label] for label in lattice.labels.tolist()]


def _trace(partial: _Partial) -> list[int]:
    arcs = []
    while partial.before is not None:
        arcs.append(partial.arc)
        partial = partial.before
    return arcs[::-1]


def _arcs(lattice: Lattice, scores: np.ndarray) -> list[tuple[int, int, float]]:
    return list(
        zip(lattice.sources.tolist(), lattice.targets.tolist(), scores.tolist(), strict=True)
    )
