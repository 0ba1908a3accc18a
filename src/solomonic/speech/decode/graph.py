"""From what the recorder kept to a lattice, an N-best list and posteriors."""

import heapq
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from solomonic.speech.decode.record import Hyp, Node, Way, log_add

if TYPE_CHECKING:
    from solomonic.speech.decode.search import Search
    from solomonic.speech.lattice.graph import Lattice

NEAR = 3  # frames by which two emissions of a label may differ and still be the same event


class Path(NamedTuple):
    """A way from the start to the end: its emissions in order and its scores (nats)."""

    emissions: tuple[Node, ...]
    acoustic: float
    bias: float
    score: float


class Ending(NamedTuple):
    """A hypothesis at the end: its last node, and the scores of ending there."""

    hyp: Hyp
    node: Node
    acoustic: float
    bias: float
    score: float


class Record:
    """What led to the hypotheses of `search`, seen from its present end, without what lies more
    than `lattice_beam` behind the best path (the best hypothesis itself always stays)."""

    def __init__(self, search: "Search") -> None:
        self.end_frame = search.frame
        endings = []
        for hyp in search.hyps:
            node, final = hyp.link(), search.final(hyp.prefix)
            ending = Ending(hyp, node, hyp.mass - node.score, final, hyp.total + final)
            endings.append(ending)
        endings.sort(key=lambda ending: -ending.score)
        through = _Through({end.node: end.acoustic + end.bias for end in endings})
        beam = search.config.lattice_beam
        self.endings = [end for end in endings if through.behind_end(end.node) <= beam]
        if endings[0] not in self.endings:
            self.endings.insert(0, endings[0])
        self.ways: dict[Node, tuple[Way, ...]] = {
            node: through.kept(node, beam) for node in through.nodes
        }
        self.nodes = _ordered([ending.node for ending in self.endings], self.ways)

    def paths(self) -> Iterator[Path]:
        """Paths by falling score, without end; the first is the best hypothesis."""
        heap: list[tuple[float, int, Node, _Tail]] = []
        for number, ending in enumerate(self.endings):
            tail = _Tail(None, None, ending.acoustic, ending.bias)
            heap.append((-ending.score, number, ending.node, tail))
        count = len(heap)
        while heap:
            score, _, node, tail = heapq.heappop(heap)
            while ways := self.ways[node]:
                for way in ways[1:]:
                    item = (score - way.gap, count, way.source, tail.before(node, way))
                    heapq.heappush(heap, item)
                    count += 1
                node, tail = ways[0].source, tail.before(node, ways[0])
            yield Path(tuple(tail.emissions()), tail.acoustic, tail.bias, -score)

    def lattice(self, symbols: tuple[str, ...], frame_seconds: float) -> "Lattice":
        """The lattice of pieces; its only end is at the present frame."""
        from solomonic.speech.lattice.build import Arc, build_lattice

        number = {node: index for index, node in enumerate(self.nodes)}
        end = len(number)
        arcs = [
            Arc(number[ending.node], end, "", ending.acoustic, ending.bias)
            for ending in self.endings
        ]
        for node, index in number.items():
            span = (node.frame, node.frame + 1) if node.token else None
            label = symbols[node.token] if node.token else ""
            arcs += [
                Arc(number[way.source], index, label, way.acoustic, way.bias, span)
                for way in self.ways[node]
            ]
        frames = [*(node.frame for node in self.nodes), self.end_frame]
        return build_lattice(frames, arcs, end, frame_seconds=frame_seconds)

    def posteriors(self, scale: float) -> dict[int, list[tuple[int, float]]]:
        """For each token where it may have been emitted: (frame, probability), from acoustic
        scores times `scale` alone: what biasing paid says nothing about what was heard."""
        forward = dict.fromkeys(self.nodes, -math.inf)
        forward[self.nodes[0]] = 0.0
        for node in self.nodes[1:]:
            for way in self.ways[node]:
                score = forward[way.source] + scale * way.acoustic
                forward[node] = log_add(forward[node], score)
        backward = dict.fromkeys(self.nodes, -math.inf)
        for ending in self.endings:
            backward[ending.node] = log_add(backward[ending.node], scale * ending.acoustic)
        for node in reversed(self.nodes):
            for way in self.ways[node]:
                score = backward[node] + scale * way.acoustic
                backward[way.source] = log_add(backward[way.source], score)
        total = backward[self.nodes[0]]
        found: dict[int, list[tuple[int, float]]] = {}
        for node in self.nodes:
            if node.token:
                gamma = math.exp(min(0.0, forward[node] + backward[node] - total))
                found.setdefault(node.token, []).append((node.frame, gamma))
        return found


def log_posterior(posteriors: dict[int, list[tuple[int, float]]], token: int, frame: int) -> float:
    """Logarithm of the probability that `token` was said at about `frame`."""
    near = (gamma for at, gamma in posteriors.get(token, ()) if abs(at - frame) <= NEAR)
    return math.log(max(1e-30, min(1.0, sum(near))))


class _Tail(NamedTuple):
    """The end of a path, from a node on: a linked list of what comes after."""

    node: Node | None
    rest: "_Tail | None"
    acoustic: float
    bias: float

    def before(self, node: Node, way: Way) -> "_Tail":
        return _Tail(node, self, self.acoustic + way.acoustic, self.bias + way.bias)

    def emissions(self) -> Iterator[Node]:
        tail: _Tail | None = self
        while tail is not None:
            if tail.node is not None and tail.node.token:
                yield tail.node
            tail = tail.rest


def forget(search: "Search") -> int:
    """Drop from the record what lies so far behind that no result will need it; how much is left.

    Twice the lattice's beam, as the hypothesis that something leads to may itself still catch up.
    """
    beam = 2 * search.config.lattice_beam
    ends = {hyp.link(): hyp.mass - hyp.link().score for hyp in search.hyps}
    through = _Through(ends)
    for hyp in search.hyps:
        if hyp.alternatives:
            left = {way.source for way in through.kept(hyp.link(), beam)[1:]}
            hyp.keep(left)
    for node in through.nodes:
        if len(node.ways) > 1:
            node.ways = through.kept(node, beam)
    return len(_ordered([hyp.link() for hyp in search.hyps]))


class _Through:
    """The best path (acoustic and bias) through every node behind some ends.

    Args:
        ends: nodes, with the score of ending there.
    """

    def __init__(self, ends: dict[Node, float]) -> None:
        self.nodes = _ordered(list(ends))
        self._ends = ends
        self._before = dict.fromkeys(self.nodes, -math.inf)
        self._after = dict.fromkeys(self.nodes, -math.inf)
        before, after = self._before, self._after
        for node in self.nodes:
            scores = (before[way.source] + way.acoustic + way.bias for way in node.ways)
            before[node] = max(scores, default=0.0)
        after.update(ends)
        for node in reversed(self.nodes):
            for way in node.ways:
                score = after[node] + way.acoustic + way.bias
                after[way.source] = max(after[way.source], score)
        self._best = max(before[node] + score for node, score in ends.items())

    def behind_end(self, node: Node) -> float:
        """How far the best path that ends in `node` is behind the best of all."""
        return self._best - self._before[node] - self._ends[node]

    def kept(self, node: Node, beam: float) -> tuple[Way, ...]:
        """The first way into `node`, and the others that are within `beam` of the best path."""
        least = self._best - beam - self._after[node]
        others = (
            way
            for way in node.ways[1:]
            if self._before[way.source] + way.acoustic + way.bias >= least
        )
        return (*node.ways[:1], *others)


def _ordered(ends: list[Node], ways: dict[Node, tuple[Way, ...]] | None = None) -> list[Node]:
    """All nodes behind `ends`, each after those it comes from; the start first."""
    done: dict[Node, None] = {}
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(ends)]
    while stack:
        node, expanded = stack.pop()
        if node in done:
            continue
        if expanded:
            done[node] = None
            continue
        stack.append((node, True))
        into = node.ways if ways is None else ways[node]
        stack.extend((way.source, False) for way in into if way.source not in done)
    return list(done)
