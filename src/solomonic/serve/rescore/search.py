"""The whole lattice with a language model: partial sentences from node to node.

Nodes are taken in layers, so that all partial sentences that are due ask the model at once. At a
node, those that agree in their last words count as one: the better one goes on, the others stay
behind as turnings to it (Ljolje et al. 1999; Kumar et al. 2017, arXiv 1711.01271). What is far
behind the best at its own node is given up; between nodes nothing is compared, since some have more
of the sentence behind them than others.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from solomonic.serve.rescore.config import RerankConfig
from solomonic.serve.rescore.tree import Cell, PrefixTree
from solomonic.speech.lattice import Lattice, arc_losses
from solomonic.speech.lattice.paths import arc_bounds


class Way(NamedTuple):
    """A step to a partial sentence: where from, by which arc, and the score it has this way."""

    before: "Partial | None"
    arc: int
    score: float


class Partial:
    """The best partial sentence at a node among those with the same last words.

    Attributes:
        cell: its words.
        score: nats, everything weighted.
        ways: all steps that lead here, the best first.
    """

    __slots__ = ("cell", "score", "ways")

    def __init__(self, cell: Cell, way: Way) -> None:
        self.cell, self.score, self.ways = cell, way.score, [way]

    def meet(self, cell: Cell, way: Way) -> None:
        """Another partial sentence with the same last words."""
        if way.score > self.score:
            self.cell, self.score = cell, way.score
            self.ways.insert(0, way)
        else:
            self.ways.append(way)


class Found(NamedTuple):
    """A sentence as arcs of the lattice and words."""

    arcs: tuple[int, ...]
    words: tuple[str, ...]


def search(lattice: Lattice, tree: PrefixTree, config: RerankConfig, n: int) -> list[Found]:
    """About the n best sentences, the best first; none where the lattice is beyond `max_arcs`.

    Exact but for what was merged or given up on the way: score them whole.
    """
    graph = _Graph(lattice, config)
    if not graph.possible:
        return []
    here: list[dict[tuple[str, ...], Partial]] = [{} for _ in range(lattice.nodes)]
    here[0][()] = Partial(tree.root, Way(None, -1, 0.0))
    for layer in graph.layers():
        due = [
            (partial, arc)
            for node in layer
            for partial in _kept(here[node].values(), config)
            for arc in graph.leaving(node)
        ]
        spoken = [(partial.cell, word) for partial, arc in due if (word := graph.words[arc])]
        cells = iter(tree.extend(spoken))
        for partial, arc in due:
            cell = next(cells) if graph.words[arc] else partial.cell
            gain = graph.scores[arc] + tree.score(cell) - tree.score(partial.cell)
            way = Way(partial, arc, partial.score + gain)
            known = here[graph.targets[arc]]
            key = cell.words[-config.history :]
            if key in known:
                known[key].meet(cell, way)
            else:
                known[key] = Partial(cell, way)
        for node in layer:
            here[node].clear()  # ways keep what they need
    last = _kept(here[-1].values(), config)
    ends = tree.ends([partial.cell for partial in last])
    finals = []
    for partial, (lm, memory) in zip(last, ends, strict=True):
        cell = partial.cell
        whole = tree.weigh(lm, memory, cell.internal, len(cell.words))
        finals.append((partial.score + whole - tree.score(cell), partial))
    return list(_best(finals, graph.words, n))


def _kept(partials: Sequence[Partial] | object, config: RerankConfig) -> list[Partial]:
    """Those worth going on with, the best first."""
    ordered = sorted(partials, key=lambda one: -one.score)[: config.max_paths]  # type: ignore
    return [one for one in ordered if one.score >= ordered[0].score - config.beam]


def _best(finals: list[tuple[float, Partial]], words: list[str], n: int) -> Iterator[Found]:
    """The n best sentences back from the end: what lies before a step has a known best score, so
    that the first path to arrive is the best one left."""
    heap: list[tuple[float, int, Partial, Found, float]] = []
    pushed = 0
    for score, partial in finals:
        heap.append((-score, pushed, partial, Found((), ()), score - partial.score))
        pushed += 1
    heapq.heapify(heap)
    seen: set[tuple[int, tuple[str, ...]]] = set()
    given = 0
    while heap and given < n:
        _, _, partial, found, rest = heapq.heappop(heap)
        key = (id(partial), found.words)
        if key in seen:  # the same words behind the same place: a worse way to the same sentence
            continue
        seen.add(key)
        if partial.ways[0].before is None:
            if (0, found.words) not in seen:
                seen.add((0, found.words))
                given += 1
                yield found
            continue
        for way in partial.ways:
            assert way.before is not None
            word = words[way.arc]
            longer = Found((way.arc, *found.arcs), (word, *found.words) if word else found.words)
            gain = way.score - way.before.score + rest
            pushed += 1
            heapq.heappush(heap, (-(way.before.score + gain), pushed, way.before, longer, gain))


class _Graph:
    """A lattice as lists, without the arcs that are out of the question."""

    def __init__(self, lattice: Lattice, config: RerankConfig) -> None:
        losses = arc_losses(lattice, bias_scale=config.bias_scale)
        beam = config.lattice_beam
        if lattice.arcs > config.max_arcs:
            beam = min(beam, float(np.partition(losses, config.max_arcs - 1)[config.max_arcs - 1]))
        wanted = losses <= beam
        self.possible = int(wanted.sum()) <= config.max_arcs  # not where all are as good
        self._wanted: list[bool] = wanted.tolist()
        self._bounds: list[int] = arc_bounds(lattice).tolist()
        self.targets: list[int] = lattice.targets.tolist()
        self.scores: list[float] = lattice.scores(bias_scale=config.bias_scale).tolist()
        self.words = [lattice.symbols[label] for label in lattice.labels.tolist()]
        self._nodes = lattice.nodes

    def leaving(self, node: int) -> Iterator[int]:
        """The arcs of a node that are looked at."""
        return (a for a in range(self._bounds[node], self._bounds[node + 1]) if self._wanted[a])

    def layers(self) -> list[list[int]]:
        """Nodes but the last; every arc leads from one layer to a later one."""
        level = np.zeros(self._nodes, dtype=np.int64)
        for node in range(self._nodes - 1):
            for arc in self.leaving(node):
                level[self.targets[arc]] = max(level[self.targets[arc]], level[node] + 1)
        found: list[list[int]] = [[] for _ in range(int(level.max()) + 1)]
        for node in range(self._nodes - 1):
            found[level[node]].append(node)
        return [layer for layer in found if layer]
