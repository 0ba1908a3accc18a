"""From loose nodes and arcs, in any order and with dead ends, to a `Lattice`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from solomonic.core import DataError
from solomonic.speech.lattice.graph import Lattice


class Arc(NamedTuple):
    """One arc between two nodes of any numbering; the empty label is ""."""

    source: int
    target: int
    label: str
    acoustic: float
    bias: float = 0.0
    span: tuple[int, int] | None = None


def build_lattice(
    frames: Sequence[int] | None,
    arcs: Iterable[Arc],
    ends: int | Mapping[int, tuple[float, float]],
    *,
    start: int = 0,
    frame_seconds: float,
) -> Lattice:
    """Trim to what lies between start and end, number by time, sort, and check.

    Args:
        frames: frame of every node; None, where times are not known: a node is at the frame of
            the number of arcs on the longest way to it.
        arcs: in any order. Symbols are numbered by first use.
        ends: the end node, or end nodes with the (acoustic, bias) score of ending there; these get
            empty arcs to an end node of their own.
        start: the node all paths begin at.
        frame_seconds: length of a frame in s.

    Raises:
        DataError: no path from start to end, a cycle, or an arc that leads back in time.
    """
    arcs = list(arcs)
    named = [start, *(ends if isinstance(ends, Mapping) else [ends])]
    nodes = _count(arcs, named) if frames is None else len(frames)
    _check_nodes(arcs, named, nodes)
    if isinstance(ends, Mapping):
        arcs += [Arc(node, nodes, "", *score) for node, score in ends.items()]
        end = nodes
        nodes += 1
        frames = None if frames is None else [*frames, max(frames, default=0)]
    else:
        end = ends
    kept = _between(arcs, start, end, nodes)
    level = _levels(kept, start)
    if frames is None:
        frames = [level.get(node, 0) for node in range(nodes)]
    order = _number(frames, kept, level)
    number = {node: index for index, node in enumerate(order)}
    kept.sort(key=lambda arc: (number[arc.source], number[arc.target]))
    symbols = {"": 0}
    for arc in kept:
        symbols.setdefault(arc.label, len(symbols))
    spans = None
    if any(arc.span for arc in kept):
        spans = np.array(
            [arc.span or (frames[arc.source], frames[arc.target]) for arc in kept], dtype=np.int64
        )
    return Lattice(
        frames=np.array([frames[node] for node in order]),
        sources=np.array([number[arc.source] for arc in kept]),
        targets=np.array([number[arc.target] for arc in kept]),
        labels=np.array([symbols[arc.label] for arc in kept]),
        acoustic=np.array([arc.acoustic for arc in kept]),
        bias=np.array([arc.bias for arc in kept]),
        symbols=tuple(symbols),
        frame_seconds=frame_seconds,
        spans=spans,
    )


def take_arcs(lattice: Lattice, keep: np.ndarray) -> Lattice:
    """The lattice of the arcs where `keep` (A,) bool is true; nodes keep their order.

    Raises:
        DataError: a kept arc is no longer on any path from start to end.
    """
    index = np.flatnonzero(keep)
    nodes = np.unique(np.concatenate([lattice.sources[index], lattice.targets[index]]))
    used = np.unique(np.concatenate([[0], lattice.labels[index]]))
    return Lattice(
        frames=lattice.frames[nodes],
        sources=np.searchsorted(nodes, lattice.sources[index]),
        targets=np.searchsorted(nodes, lattice.targets[index]),
        labels=np.searchsorted(used, lattice.labels[index]),
        acoustic=lattice.acoustic[index],
        bias=lattice.bias[index],
        symbols=tuple(lattice.symbols[label] for label in used.tolist()),
        frame_seconds=lattice.frame_seconds,
        spans=None if lattice.spans is None else lattice.spans[index],
    )


def _between(arcs: list[Arc], start: int, end: int, nodes: int) -> list[Arc]:
    """The arcs on paths from start to end."""
    forward: list[list[int]] = [[] for _ in range(nodes)]
    backward: list[list[int]] = [[] for _ in range(nodes)]
    for arc in arcs:
        forward[arc.source].append(arc.target)
        backward[arc.target].append(arc.source)
    useful = _reach(forward, start) & _reach(backward, end)
    # What leaves the end or enters the start would be a cycle, or a second end.
    kept = [arc for arc in arcs if arc.source in useful and arc.target in useful]
    if not kept or end not in useful:
        raise DataError(f"no path leads from the start (node {start}) to an end of the lattice.")
    return kept


def _reach(neighbours: list[list[int]], origin: int) -> set[int]:
    seen, todo = {origin}, [origin]
    while todo:
        for node in neighbours[todo.pop()]:
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return seen


def _check_nodes(arcs: list[Arc], named: list[int], nodes: int) -> None:
    for arc in arcs:
        if min(arc[:2]) < 0 or max(arc[:2]) >= nodes:
            raise DataError(f"arc {arc.source} -> {arc.target} is between nodes that do not exist.")
    for node in named:
        if not 0 <= node < nodes:
            raise DataError(f"node {node}, start or end of a lattice, does not exist.")


def _count(arcs: list[Arc], named: list[int]) -> int:
    return 1 + max(*named, *(max(arc.source, arc.target) for arc in arcs))


def _number(frames: Sequence[int], arcs: list[Arc], level: Mapping[int, int]) -> list[int]:
    """Nodes in the order of their frames, and topologically within a frame."""
    for arc in arcs:
        if frames[arc.target] < frames[arc.source]:
            raise DataError(
                f"arc {arc.source} -> {arc.target} of a lattice leads back in time, from frame "
                f"{frames[arc.source]} to {frames[arc.target]}."
            )
    return sorted(level, key=lambda node: (frames[node], level[node], node))


def _levels(arcs: list[Arc], start: int) -> dict[int, int]:
    """For each node, the number of arcs on the longest way to it."""
    waiting: dict[int, int] = {start: 0}
    after: dict[int, list[int]] = {}
    for arc in arcs:
        waiting[arc.target] = waiting.get(arc.target, 0) + 1
        after.setdefault(arc.source, []).append(arc.target)
    level = {start: 0}
    ready = [start] if not waiting[start] else []
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for target in after.get(node, ()):
            level[target] = max(level.get(target, 0), level[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if done < len(waiting):
        raise DataError("a lattice has no cycles, and this graph has one.")
    return level
