"""Classes opened per request: a class's entries are paid only where a carrier allows them.

An entry counts where it stands right after the beginning of a carrier (`call` before @contact, at
whatever place of the utterance) and ends where a word ends. It then pays its worth times the
carrier's factor, once, though several carriers may open its class there: the largest factor counts.
Carrier words pay nothing.

The automaton is made as it is walked. A state is a set of threads: places in carriers' words, and
(carrier node, class, node of the class's tree) for every entry that has begun; the carrier node is
where to return when the entry ends. The trees of classes are built once and shared.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from solomonic.core import DataError, VocabularyError
from solomonic.speech.biasing.carriers import Carriers
from solomonic.speech.biasing.phrases import (
    Dropped,
    Phrase,
    Spelled,
    complain,
    read_phrases,
    spell,
)
from solomonic.speech.biasing.protocol import Bias, Rows
from solomonic.speech.biasing.trie import Tree, grow
from solomonic.text.pieces import WordPieces

FEWEST_CLASS_CHARACTERS = 2
_MOST_MOVES = 100_000
_WORD = -1  # in a thread's place of a carrier node: the thread is in a carrier's word

Thread = tuple[int, int, int]  # carrier node, class, node of its tree; or (_WORD, 0, word node)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTree:
    """One class's tree in the form in which it is walked."""

    tree: Tree
    children: dict[int, int]
    potential: list[float]
    worth: list[float]

    @classmethod
    def grow(
        cls, spellings: Sequence[Sequence[int]], worths: Sequence[float], width: int
    ) -> "ClassTree":
        tree = grow(spellings, worths, width)
        return cls(tree, tree.children(), tree.potential.tolist(), tree.worth.tolist())


class Catalogue:
    """The entries of a class, spelled and grown into a tree: make it once, use it in many requests.

    Attributes:
        entries: what is used, as the vocabulary spells it.
        dropped: what is not, and why (only with strict=False).

    Raises:
        DataError: an entry cannot be used (all are listed), or there are more than 5,000.
    """

    def __init__(
        self,
        entries: Sequence[str | Phrase],
        pieces: WordPieces,
        *,
        boost: float = 1.5,
        segmentations: int = 4,
        possessives: bool = False,
        strict: bool = True,
    ) -> None:
        phrases = read_phrases(entries)
        self.entries: list[Spelled]
        self.dropped: list[Dropped]
        self.entries, self.dropped = spell(
            phrases,
            pieces,
            boost=boost,
            segmentations=segmentations,
            possessives=possessives,
            fewest=FEWEST_CLASS_CHARACTERS,
        )
        if strict:
            complain(self.dropped, len(phrases), "entries of a class")
        self.pieces = pieces
        self.tree = ClassTree.grow(
            [way for entry in self.entries for way in entry.segmentations],
            [entry.worth for entry in self.entries for _ in entry.segmentations],
            pieces.size,
        )


class ClassGraph:
    """The `Bias` of carriers and their classes.

    `words` gives the spellings of the carriers' words in piece ids, `trees` the classes by name
    (carriers that name another are ignored), `starts` (V,) which pieces start a word.
    """

    start = 0

    def __init__(
        self,
        carriers: Carriers,
        words: Mapping[str, Sequence[Sequence[int]]],
        trees: Mapping[str, ClassTree],
        starts: Sequence[bool],
    ) -> None:
        names = sorted(trees)
        numbers = {name: number for number, name in enumerate(names)}
        self._starts = list(starts)
        self._width = len(self._starts)
        self._trees = [trees[name] for name in names]
        # By carrier node: which classes open (number, where to return), and where its words begin.
        self._open = [
            [(numbers[name], to) for name, to in edges.items() if name in numbers]
            for edges in carriers.classes
        ]
        self._return = {(q, c): to for q, edges in enumerate(self._open) for c, to in edges}
        self._factor = {
            (q, numbers[name]): factor
            for (q, name), factor in carriers.factors.items()
            if name in numbers
        }
        # The words' own trees: children of a word node, and the carrier node its end leads to.
        self._letters: list[dict[int, int]] = [{} for _ in carriers.words]
        self._ends: dict[int, int] = {}
        for node, edges in enumerate(carriers.words):
            for word, to in edges.items():
                for way in words[word]:
                    self._ends[self._add(node, way)] = to
        self._states: dict[tuple[Thread, ...], int] = {(): 0}
        self._threads: list[tuple[Thread, ...]] = [()]
        self._paid: list[float] = [0.0]
        self._moves: dict[int, tuple[int, float]] = {}
        self._rows, self._next = Rows(), Rows()

    def __len__(self) -> int:
        """How many states have been met so far."""
        return len(self._threads)

    def step(self, state: int, token: int) -> tuple[int, float]:
        """The next state and the score to add, nats."""
        key = state * self._width + token
        move = self._moves.get(key)
        if move is None:
            if len(self._moves) >= _MOST_MOVES:
                self._moves.clear()
            move = self._moves[key] = self._move(state, token)
        return move

    def final(self, state: int) -> float:
        """The score to add at the end, nats."""
        return self._close(state)[1] - self._paid[state]

    def next_tokens(self, state: int) -> np.ndarray:
        """int64, ascending: the pieces that begin or continue an entry that is open here."""
        found = self._next.get(state)
        if found is None:
            places = {(c, n) for q, c, n in self._threads[state] if q != _WORD}
            places |= {(c, 0) for q in self._close(state)[0] for c, _ in self._open[q]}
            parts = [self._tokens(c, n) for c, n in places]
            found = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
            self._next.put(state, found)
        return found

    def scores(self, state: int) -> np.ndarray:
        """(V,) float64, read-only: `step`'s score for every piece; entry 0 (blank) is 0."""
        row = self._rows.get(state)
        if row is None:
            leave = -self._paid[state]
            row = np.where(self._starts, leave + self._close(state)[1], leave)
            for token in self.next_tokens(state).tolist():
                row[token] = self.step(state, token)[1]
            row[0] = 0.0
            self._rows.put(state, row)
        return row

    def _add(self, node: int, way: Sequence[int]) -> int:
        """The word node that `way` leads to from `node`."""
        for token in way:
            children = self._letters[node]
            if token not in children:
                children[token] = len(self._letters)
                self._letters.append({})
            node = children[token]
        return node

    def _close(self, state: int) -> tuple[set[int], float]:
        """If a word ends here: the carrier nodes reached, and what the entries that end are worth.

        One place in a class's tree is one entry in one place of the utterance: it is paid once.
        """
        nodes, worth = {0}, {}
        for q, c, n in self._threads[state]:
            if q == _WORD:
                if n in self._ends:
                    nodes.add(self._ends[n])
            elif self._trees[c].worth[n]:
                nodes.add(self._return[q, c])
                value = self._trees[c].worth[n] * self._factor[q, c]
                worth[c, n] = max(value, worth.get((c, n), 0.0))
        return nodes, sum(worth.values())

    def _move(self, state: int, token: int) -> tuple[int, float]:
        kept = 0.0
        threads: set[Thread] = set()
        if self._starts[token]:
            nodes, kept = self._close(state)
            for q in nodes:
                if token in self._letters[q]:
                    threads.add((_WORD, 0, self._letters[q][token]))
                for c, _ in self._open[q]:
                    node = self._trees[c].children.get(token)
                    if node is not None:
                        threads.add((q, c, node))
        for q, c, n in self._threads[state]:
            if q == _WORD:
                node = self._letters[n].get(token)
            else:
                node = self._trees[c].children.get(n * self._width + token)
            if node is not None:
                threads.add((q, c, node))
        number = self._number(threads)
        return number, self._paid[number] - self._paid[state] + kept

    def _number(self, threads: set[Thread]) -> int:
        """The state that `threads` are; a new one is paid the most of what its entries have."""
        key = tuple(sorted(threads))
        number = self._states.get(key)
        if number is None:
            number = self._states[key] = len(self._threads)
            self._threads.append(key)
            paid = (self._trees[c].potential[n] * self._factor[q, c] for q, c, n in key if q >= 0)
            self._paid.append(max(paid, default=0.0))
        return number

    def _tokens(self, c: int, node: int) -> np.ndarray:
        """The pieces that continue class c's tree from `node`, int64."""
        keys, width = self._trees[c].tree.keys, self._width
        low, high = np.searchsorted(keys, (node * width, (node + 1) * width))
        return keys[low:high] - node * width


class BothGraphs:
    """The sum of a phrase list's and the classes' `Bias`; a state is a pair in one number."""

    start = 0

    def __init__(self, phrases: Bias, states: int, classes: Bias) -> None:
        self._phrases, self._states, self._classes = phrases, states, classes

    def step(self, state: int, token: int) -> tuple[int, float]:
        b, a = divmod(state, self._states)
        a, one = self._phrases.step(a, token)
        b, two = self._classes.step(b, token)
        return b * self._states + a, one + two

    def final(self, state: int) -> float:
        b, a = divmod(state, self._states)
        return self._phrases.final(a) + self._classes.final(b)

    def next_tokens(self, state: int) -> np.ndarray:
        b, a = divmod(state, self._states)
        parts = [list(self._phrases.next_tokens(a)), list(self._classes.next_tokens(b))]
        return np.unique(np.concatenate([np.asarray(part, np.int64) for part in parts]))

    def scores(self, state: int) -> np.ndarray:
        b, a = divmod(state, self._states)
        return self._phrases.scores(a) + self._classes.scores(b)


def spell_words(carriers: Carriers, pieces: WordPieces, ways: int) -> dict[str, list[list[int]]]:
    """Up to `ways` spellings of every word of the carriers.

    Raises:
        DataError: words that the vocabulary cannot spell; all are listed.
    """
    spelled, unknown = {}, []
    for word in sorted({word for edges in carriers.words for word in edges}):
        try:
            spelled[word] = pieces.encode_nbest(word, ways)
        except VocabularyError:
            unknown.append(word)
    if unknown:
        raise DataError(
            f"the vocabulary cannot spell these words of the carriers: {', '.join(unknown)}; write "
            "them as they are spoken, in lower case and without digits."
        )
    return spelled
