"""How sure a lattice is: posterior probabilities of its arcs, and confidences of its words."""

import numpy as np

from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.paths import LatticePath


def arc_posteriors(
    lattice: Lattice, *, acoustic_scale: float = 1.0, bias_scale: float = 1.0
) -> np.ndarray:
    """(A,) float64: probability that the path taken uses the arc, for all paths in the lattice.

    A path's weight is exp(acoustic_scale * acoustic + bias_scale * bias); forward-backward in the
    log domain. A smaller acoustic_scale spreads the probability over more paths, `bias_scale=0`
    asks what the acoustics alone say. Over every cut (`frame_cut`, `node_cut`) the sum is 1.
    """
    scores = lattice.scores(acoustic_scale, bias_scale)
    sources, targets = lattice.sources.tolist(), lattice.targets.tolist()
    forward = np.full(lattice.nodes, -np.inf)
    backward = np.full(lattice.nodes, -np.inf)
    forward[0] = backward[-1] = 0.0
    values = scores.tolist()
    for arc in range(lattice.arcs):
        source, target = sources[arc], targets[arc]
        forward[target] = np.logaddexp(forward[target], forward[source] + values[arc])
    for arc in reversed(range(lattice.arcs)):
        source, target = sources[arc], targets[arc]
        backward[source] = np.logaddexp(backward[source], backward[target] + values[arc])
    logs = forward[lattice.sources] + scores + backward[lattice.targets] - backward[0]
    return np.exp(np.minimum(logs, 0.0))


def frame_cut(lattice: Lattice, frame: int) -> np.ndarray:
    """(A,) bool: the arcs that pass from frames up to `frame` to later ones.

    Frames never fall along a path, so every path has exactly one such arc as long as
    `frames[0] <= frame < frames[-1]`; outside of that there is none.
    """
    return (lattice.frames[lattice.sources] <= frame) & (frame < lattice.frames[lattice.targets])


def node_cut(lattice: Lattice, node: int) -> np.ndarray:
    """(A,) bool: the arcs that pass from the nodes up to `node` to higher ones.

    Node numbers rise along a path, so every path has exactly one such arc for 0 <= node < N - 1.
    Frame cuts are the node cuts at the last node of a frame; between two of these, node cuts also
    see arcs that take no time (several symbols in one frame).
    """
    return (lattice.sources <= node) & (node < lattice.targets)


def arc_confidences(lattice: Lattice, posteriors: np.ndarray) -> np.ndarray:
    """(A,) float64 in 0..1: posterior of an arc's label, summed over arcs that overlap it in time.

    The same word is often there several times, with slightly other times; no single arc then has
    much probability. For each arc, take the node cut it crosses at which the arcs with its label
    have the largest sum. One path crosses a cut once, so that nothing is counted twice (the
    C_max measure of Wessel et al. 2001, with cuts in place of frames).
    """
    best = np.zeros(lattice.arcs)
    for label in np.unique(lattice.labels):
        arcs = np.flatnonzero(lattice.labels == label)
        change = np.zeros(lattice.nodes)
        np.add.at(change, lattice.sources[arcs], posteriors[arcs])
        np.subtract.at(change, lattice.targets[arcs], posteriors[arcs])
        inside = np.cumsum(change)  # at n: the label's share of node cut n
        for arc in arcs:
            best[arc] = inside[lattice.sources[arc] : lattice.targets[arc]].max()
    return np.clip(np.maximum(best, posteriors), 0.0, 1.0)


def word_confidences(
    lattice: Lattice,
    path: LatticePath,
    *,
    acoustic_scale: float = 1.0,
    bias_scale: float = 1.0,
) -> list[float]:
    """Confidence (0..1) of each word of a path through a word lattice."""
    posteriors = arc_posteriors(lattice, acoustic_scale=acoustic_scale, bias_scale=bias_scale)
    confidences = arc_confidences(lattice, posteriors)
    return [float(confidences[arc]) for arc in path.arcs if lattice.labels[arc]]
