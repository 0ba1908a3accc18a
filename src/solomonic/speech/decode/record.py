"""The recorder: how each hypothesis came about, and what path merging left aside.

Nodes point backwards only. What no hypothesis can reach any more is therefore freed at once, and a
silent frame adds nothing: blanks are sums inside the hypotheses, arcs hold them once a label comes.

    emission node   one way in: blanks since the last node, then the label
    joint node      several ways in, all empty: the path of the hypothesis that stayed, and those of
                    the alternatives that path merging ended there

A path's sum is the score that the search gives it: the sum over the alignments it followed. Along
the path itself arcs have the scores of the best single alignment; what the others add stands where
the path ends, or where path merging ended it: there a path is as far behind the one it joined as
it was by the search's scores. Until the next label, alignments that come to the path that stayed
are added to it alone: the others fall behind by as much. So the best path of a lattice is the best
hypothesis, and the others have the sums over those of their alignments that the search followed.
"""

import math
from typing import NamedTuple

from solomonic.speech.decode.prefix import Prefix

MARGIN = 0.5  # nats by which a better alignment of a known alternative must win to be recorded


class Way(NamedTuple):
    """A way into a node.

    acoustic: the model's score along it, blanks included; bias: what biasing paid; gap: how far
    the path that ended here was behind, both in one: 0 for the path that stayed, below 0 for
    others; all nats.
    """

    source: "Node"
    acoustic: float
    bias: float
    gap: float


class Node:
    """A moment of the search.

    Attributes:
        frame: encoder frame of the emission, or the one in which a joint node was closed, plus 1.
        token: the label, 0 for none (start and joint nodes).
        score: acoustic score from the start to here, along the path that stayed.
        log_prob: of the label.
        surely: log-probability of the label among labels, that is, given that it is no blank: how
            sure the model was, without the question of when.
        ways: ways in.
    """

    __slots__ = ("frame", "log_prob", "score", "surely", "token", "ways")

    def __init__(self, frame: int, token: int, score: float, ways: tuple[Way, ...]) -> None:
        self.frame, self.token, self.score, self.ways = frame, token, score, ways
        self.log_prob = self.surely = 0.0


class Alternative(NamedTuple):
    """A path that was merged: its last node, and how far it is behind.

    behind: without bias. gap: with it; at most 0.
    """

    node: Node
    behind: float
    gap: float


class Hyp:
    """A hypothesis of the beam between two frames.

    Attributes:
        prefix: its labels.
        mass: log-probability, summed over the alignments that the search has followed.
        score: log-probability of the best of these alignments.
        node: the emission of the last label in that alignment.
        alternatives: paths merged into this one since, by the key of their labels.
        blank: log-probability of the blank in the last frame.
    """

    __slots__ = (
        "_joined",
        "_joined_score",
        "_joint",
        "alternatives",
        "blank",
        "mass",
        "node",
        "prefix",
        "score",
    )  # fmt: skip

    def __init__(self, prefix: Prefix, mass: float, score: float, node: Node) -> None:
        self.prefix, self.mass, self.score, self.node = prefix, mass, score, node
        self.alternatives: dict[int, Alternative] | None = None
        self.blank = 0.0
        self._joint: Node | None = None
        self._joined, self._joined_score = 0, 0.0

    @property
    def total(self) -> float:
        """What hypotheses are compared by: acoustic and bias."""
        return self.mass + self.prefix.bias

    def closed(self, blank: float) -> "Hyp":
        """The hypothesis after a blank."""
        new = Hyp(self.prefix, self.mass + blank, self.score + blank, self.node)
        # Made now, so that both have the same joint node whether or not a result was asked for.
        self.link()
        new.alternatives, new._joint = self.alternatives, self._joint
        new._joined, new._joined_score = self._joined, self._joined_score
        new.blank = blank
        return new

    def emitted(
        self, prefix: Prefix, frame: int, gain: float, blank: float, bonus: float = 0.0
    ) -> "Hyp":
        """The hypothesis after a label, which makes it `prefix`.

        `gain`: the label's log-probability and its `bonus`; `blank`: the blank's log-probability.
        """
        source, score = self.link(), self.score + gain
        way = Way(source, score - source.score, prefix.bias - self.prefix.bias, 0.0)
        node = Node(frame, prefix.token, score, (way,))
        node.log_prob = gain - bonus
        node.surely = min(0.0, node.log_prob - math.log1p(-math.exp(min(blank, -1e-9))))
        return Hyp(prefix, self.mass + gain, score, node)

    def link(self) -> Node:
        """The node that what follows comes from."""
        if not self.alternatives:
            return self.node
        if self._joint is None:
            at = self._joined_score
            ways = [Way(self.node, at - self.node.score, 0.0, 0.0)]
            ways += [
                Way(other.node, at + other.behind - other.node.score, 0.0, other.gap)
                for other in self.alternatives.values()
            ]
            self._joint = Node(self._joined, 0, at, tuple(ways))
        return self._joint

    def add_alignments(self, other: "Hyp", frame: int) -> None:
        """Take in a hypothesis of the same labels, after the same blank in `frame`."""
        before, self.mass = self.mass, log_add(self.mass, other.mass)
        if other.score > self.score:
            self.score, self.node = other.score, other.node
        if self.alternatives:
            # These are alignments of other labels than theirs: they fall behind by as much.
            grown = self.mass - before
            paths = {
                key: Alternative(path.node, path.behind - grown, path.gap - grown)
                for key, path in self.alternatives.items()
            }
            self._replace(paths, frame)

    def take_over(self, loser: "Hyp", frame: int, beam: float, most: int) -> None:
        """Record the path of `loser`, which path merging ends in favour of this one."""
        behind = loser.mass - self.mass
        gap = min(0.0, loser.total - self.total)
        if gap < -beam:
            return
        key = loser.prefix.key
        known = self.alternatives or {}
        old = known.get(key)
        if old is not None and behind <= old.behind + MARGIN:
            return
        paths = {**known, key: Alternative(loser.link(), behind, gap)}
        if len(paths) > most:
            worst = min(paths, key=lambda key: paths[key].gap)
            if worst == key and old is None:
                return
            del paths[worst]
        self._replace(paths, frame)

    def keep(self, nodes: set[Node]) -> None:
        """Forget alternatives whose last node is not among `nodes`."""
        known = self.alternatives or {}
        kept = {key: path for key, path in known.items() if path.node in nodes}
        if len(kept) < len(known):
            self.alternatives, self._joint = kept, None

    def _replace(self, paths: dict[int, Alternative], frame: int) -> None:
        self.alternatives, self._joint = paths, None
        self._joined, self._joined_score = frame + 1, self.score


def log_add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    if first < second:
        first, second = second, first
    if second == -math.inf:
        return first
    return first + math.log1p(math.exp(second - first))
