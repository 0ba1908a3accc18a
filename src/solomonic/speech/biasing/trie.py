"""Phrases as a prefix tree over word pieces, with subtractive failure costs (shallow fusion).

A phrase of worth W with n pieces has potential W d / n at depth d; a node that several phrases
share has the largest. From state s on piece v to the deepest state s' that the pieces now end in
(Aho and Corasick's failure links), a step pays

    potential(s') - potential(s) + [v starts a word] keep(s)

and the end pays keep(s) - potential(s), where keep(s) is the worth of all phrases that end in s.
The potentials cancel, so exactly the phrases that end where a word ends are paid: "ann" pays
nothing inside "anna". All phrases begin with a piece that starts a word, so no match begins inside
a word either. Blanks do not move the state. (Zhao et al. 2019, Gourav et al. 2021; no
code is taken from anywhere.)
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from solomonic.speech.biasing.protocol import PHRASE_QUANTUM, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """A prefix tree in flat arrays. Node 0 is the root; nodes are numbered level by level.

    keys (N,) int64, ascending: parent * width + token of node i + 1. potential (N + 1,) and worth
    (N + 1,) float64 nats, multiples of `PHRASE_QUANTUM`; worth is that of the phrase that ends in
    the node, or 0. levels: where each level begins, and N + 1.
    """

    width: int
    keys: np.ndarray
    potential: np.ndarray
    worth: np.ndarray
    levels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.potential)

    def children(self) -> dict[int, int]:
        """The node of each key."""
        return dict(zip(self.keys.tolist(), range(1, len(self)), strict=True))

    def branches(self) -> np.ndarray:
        """(N + 2,) int64: the children of node n are the nodes branches[n] to branches[n + 1]."""
        return 1 + np.searchsorted(self.keys, np.arange(len(self) + 1) * self.width)


def grow(spellings: Sequence[Sequence[int]], worths: Sequence[float], width: int) -> Tree:
    """The tree of `spellings` (none empty), each worth worths[i] nats.

    `width` is the number of pieces, the blank included. Equal spellings count once, with the
    larger worth.
    """
    lengths = np.fromiter(map(len, spellings), np.int64, len(spellings))
    flat = np.fromiter(itertools.chain.from_iterable(spellings), np.int64, int(lengths.sum()))
    first = np.cumsum(lengths) - lengths
    total = quantise(worths)
    node = np.zeros(len(spellings), np.int64)
    keys, potentials, ends = [], [np.zeros(1)], [np.zeros(1)]
    levels, size = [0, 1], 1
    for depth in range(1, int(lengths.max(initial=0)) + 1):
        rows = np.flatnonzero(lengths >= depth)
        key, inverse = np.unique(
            node[rows] * width + flat[first[rows] + depth - 1], return_inverse=True
        )
        node[rows] = size + inverse
        potential, worth = np.zeros(len(key)), np.zeros(len(key))
        np.maximum.at(potential, inverse, quantise(total[rows] * depth / lengths[rows]))
        last = lengths[rows] == depth
        np.maximum.at(worth, inverse[last], total[rows[last]])
        keys.append(key)
        potentials.append(potential)
        ends.append(worth)
        size += len(key)
        levels.append(size)
    return Tree(
        width,
        np.concatenate(keys) if keys else np.zeros(0, np.int64),
        np.concatenate(potentials),
        np.concatenate(ends),
        tuple(levels),
    )


def quantise(scores: Sequence[float] | np.ndarray, quantum: float = PHRASE_QUANTUM) -> np.ndarray:
    """`scores` rounded to multiples of `quantum`, float64."""
    return np.round(np.asarray(scores, np.float64) / quantum) * quantum


class PhraseGraph:
    """The `Bias` of a list of phrases: a tree with failure links.

    `spellings` are phrases in piece ids, several for one phrase if it can be cut in several ways;
    each begins with a piece that starts a word. `starts` (V,) says which pieces do.
    """

    start = 0

    def __init__(
        self,
        spellings: Sequence[Sequence[int]],
        worths: Sequence[float],
        starts: Sequence[bool],
    ) -> None:
        tree = grow(spellings, worths, len(starts))
        fail, keep = _links(tree)
        self.tree, self._width = tree, tree.width
        self._starts = np.asarray(starts, bool)
        self._branches = tree.branches()
        self._children = tree.children()
        # Lists: indexing an array costs Python several times as much.
        self._fail: list[int] = fail.tolist()
        self._potential: list[float] = tree.potential.tolist()
        self._close: list[float] = (keep - tree.potential).tolist()
        self._starts_list: list[bool] = self._starts.tolist()
        self._rows, self._next, self._open = Rows(), Rows(), Rows()

    def __len__(self) -> int:
        """How many states there are."""
        return len(self.tree)

    def step(self, state: int, token: int) -> tuple[int, float]:
        """The next state and the score to add, nats; its time does not grow with the list."""
        closed = self._starts_list[token]
        gain = self._close[state] if closed else -self._potential[state]
        find, width = self._children.get, self._width
        node = find(state * width + token)
        while node is None and state:
            state = self._fail[state]
            node = find(state * width + token)
        if node is None:
            return 0, gain
        return node, self._potential[node] + gain

    def final(self, state: int) -> float:
        """The score to add at the end, nats."""
        return self._close[state]

    def next_tokens(self, state: int) -> np.ndarray:
        """int64, ascending: the pieces that begin or continue a phrase here."""
        found = self._next.get(state)
        if found is None:
            parts = [self._tokens(node) for node in self._chain(state)]
            found = self._next.put(state, np.unique(np.concatenate(parts)))
        return found

    def open(self, state: int) -> np.ndarray:
        """int64: the nodes that begin or continue a phrase here, those of the longest match first;
        several may have the same piece."""
        found = self._open.get(state)
        if found is None:
            parts = [np.arange(*self._branches[node : node + 2]) for node in self._chain(state)]
            found = self._open.put(state, np.concatenate(parts))
        return found

    def scores(self, state: int) -> np.ndarray:
        """(V,) float64, read-only: `step`'s score for every piece; entry 0 (blank) is 0."""
        row = self._rows.get(state)
        if row is None:
            close, leave = self._close[state], -self._potential[state]
            row = np.where(self._starts, close, leave)
            # The root first: what a deeper node says of a piece replaces it.
            for node in reversed(self._chain(state)):
                tokens = self._tokens(node)
                low, high = self._branches[node : node + 2]
                gain = np.where(self._starts[tokens], close, leave)
                row[tokens] = self.tree.potential[low:high] + gain
            row[0] = 0.0
            self._rows.put(state, row)
        return row

    def _chain(self, state: int) -> list[int]:
        """The state and all that its pieces end in, the root last."""
        chain = [state]
        while state:
            state = self._fail[state]
            chain.append(state)
        return chain

    def _tokens(self, node: int) -> np.ndarray:
        low, high = self._branches[node : node + 2] - 1
        return self.tree.keys[low:high] - node * self._width


def _links(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """fail (N + 1,) int64 and keep (N + 1,): the worth of all phrases that end in a node."""
    fail = np.zeros(len(tree), np.int64)
    keep = tree.worth.copy()
    for low, high in itertools.pairwise(tree.levels[2:]):  # below level 1, whose link is the root
        nodes = np.arange(low, high)
        parent, token = np.divmod(tree.keys[nodes - 1], tree.width)
        at = fail[parent]
        while len(nodes):
            key = at * tree.width + token
            place = np.searchsorted(tree.keys, key)  # never past the end: the link is shallower
            hit = tree.keys[place] == key
            fail[nodes[hit]] = place[hit] + 1
            more = ~hit & (at > 0)
            nodes, token, at = nodes[more], token[more], fail[at[more]]
        keep[low:high] += keep[fail[low:high]]
    return fail, keep
