"""The beginnings of sentences that a search has looked at, each scored once.

A cell is a sequence of words from the beginning of the sentence. Its log-probability is known as
soon as its last word has been judged; only a cell whose followers are wanted reads its last token,
and calls to the language model take all rows that are due at once. One tree serves all lattices of
an utterance: a revision scores nothing twice.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from solomonic.core import ConfigError
from solomonic.serve.rescore.config import RerankConfig
from solomonic.serve.rescore.rows import rows_of
from solomonic.serve.rescore.words import WordTokens, spoken

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.serve.rescore.internal import InternalLM
    from solomonic.serve.rescore.memory import Memory

_HELD = 64 << 20  # bytes of states that are kept; others are made again when they are wanted
_DEEPEST = 600.0  # nats: e to this is still a number
_GAIN = 1.0  # nats from the user's own words that are worth telling


class Cell:
    """The beginning of a sentence.

    Attributes:
        words: from the first on.
        lm: log-probability of the words by the language model, nats.
        memory: what the user's own words added to it, nats.
        internal: log-probability by the recogniser itself, nats.
        gains: what they added at the last word.
    """

    __slots__ = (
        "children", "end", "gain", "heard", "internal", "lm", "logs", "memory", "parent", "rest",
        "rows", "tokens", "words",
    )  # fmt: skip

    def __init__(self, parent: "Cell | None", words: tuple[str, ...]) -> None:
        self.parent, self.words = parent, words
        self.lm = self.memory = self.internal = self.gain = 0.0
        self.children: dict[str, Cell] = {}
        self.tokens: tuple[int, ...] = ()  # of the last word
        self.rest = 0  # of them that `rows` have not read
        self.rows: tuple[Any, ...] | None = None  # a state for each expert
        self.logs: tuple[Tensor, ...] | None = None  # (V,) after all tokens, for each expert
        self.heard: Any = None  # the recogniser's own state
        self.end: tuple[float, float] | None = None  # lm and memory of ending here


class PrefixTree:
    """Made by `Reranker.tree`. Not for several threads at once.

    The language model is a mixture of experts a word: the model that has read what the user said
    (`recall`) and the one that has read nothing. The user's words are interpolated with it
    (`share`).
    """

    def __init__(
        self,
        lm: "LoadedModel",
        config: RerankConfig,
        memory: "Memory | None" = None,
        internal: "InternalLM | None" = None,
    ) -> None:
        if memory is not None and memory.lm.fingerprint != lm.fingerprint:
            raise ConfigError(
                "the memory was made by another language model than the one that reranks; make it "
                "anew from the user's utterances."
            )
        self.config, self.memory, self.internal = config, memory, internal
        self._rows, self.tokens = rows_of(lm.reader), WordTokens(lm.tokenizer)
        recall = config.recall if memory is not None and memory.words.said else 0.0
        experts = [(1.0 - recall, None), (recall, None if memory is None else memory.row)]
        self._experts = [(math.log(part), row) for part, row in experts if part > 0]
        self._cache = None
        if memory is not None and not memory.words.empty and config.share > 0:
            self._cache = memory.words
        self._live: OrderedDict[int, Cell] = OrderedDict()
        self.reads = 0
        """Tokens that the language model has read."""
        self.root = self._plant()

    def extend(self, pairs: Sequence[tuple[Cell, str]]) -> list[Cell]:
        """The cell of each (beginning, next word), judged."""
        new: dict[tuple[int, str], Cell] = {}
        for cell, word in pairs:
            if word not in cell.children and (id(cell), word) not in new:
                child = Cell(cell, (*cell.words, word))
                child.tokens = self.tokens.word(word, not cell.words)
                child.rest = len(child.tokens)
                new[id(cell), word] = child
        cells = list(new.values())
        if cells:
            self._judge(cells)
        for cell in cells:
            assert cell.parent is not None
            cell.parent.children[cell.words[-1]] = cell
        self._forget()
        return [cell.children[word] for cell, word in pairs]

    def ends(self, cells: Sequence[Cell]) -> list[tuple[float, float]]:
        """(lm, memory) of each cell as a whole sentence: with the end behind it, nats."""
        fresh = [cell for cell in dict.fromkeys(cells) if cell.end is None]
        self._ready(fresh)
        for cell in fresh:
            assert cell.logs is not None
            parts = [float(logs[self.tokens.end]) for logs in cell.logs]
            lm, gain = self._mixed(cell, "", parts)
            cell.end = (cell.lm + lm, cell.memory + gain)
        self._forget()
        return [cell.end for cell in cells if cell.end is not None]

    def walk(self, sentences: Sequence[Sequence[str]]) -> list[Cell]:
        """The cell of each sequence of words."""
        cells = [self.root] * len(sentences)
        for place in range(max(map(len, sentences), default=0)):
            due = [row for row, words in enumerate(sentences) if place < len(words)]
            found = self.extend([(cells[row], sentences[row][place]) for row in due])
            for row, cell in zip(due, found, strict=True):
                cells[row] = cell
        return cells

    def score(self, cell: Cell) -> float:
        """Weighted nats of all but the lattice's own scores."""
        return self.weigh(cell.lm, cell.memory, cell.internal, len(cell.words))

    def weigh(self, lm: float, memory: float, internal: float, words: int) -> float:
        """The same of a sentence's parts."""
        config = self.config
        return (
            config.lm_scale * lm
            + config.memory_scale * memory
            - config.internal_scale * internal
            + config.word_bonus * words
        )

    def _plant(self) -> Cell:
        root = Cell(None, ())
        root.tokens, root.rest = (self.tokens.end,), 1
        root.rows = tuple(self._rows.start() if row is None else row for _, row in self._experts)
        if self.internal is not None:
            root.heard = self.internal.start()
        return root

    def _judge(self, cells: list[Cell]) -> None:
        """Log-probabilities of the last words of new cells, whose parents are known."""
        parents = [_known(cell.parent) for cell in cells]
        # The first token needs no reading; a parent whose state was dropped still has its scores.
        self._ready([parent for parent in parents if parent.logs is None])
        sums = [[float(logs[cell.tokens[0]]) for logs in _known(p.logs)]
                for cell, p in zip(cells, parents, strict=True)]  # fmt: skip
        longer = [at for at, cell in enumerate(cells) if len(cell.tokens) > 1]
        if longer:
            self._ready([parents[at] for at in longer], states=True)
            for at, logs in zip(longer, self._read([cells[at] for at in longer], 1), strict=True):
                tokens = cells[at].tokens[1:]
                for expert, found in enumerate(logs):
                    picked = (float(found[i, token]) for i, token in enumerate(tokens))
                    sums[at][expert] += math.fsum(picked)
        heard: tuple[Sequence[float], Sequence[Any]] = ([0.0] * len(cells), [None] * len(cells))
        if self.internal is not None:
            before = [parent.heard for parent in parents]
            heard = self.internal.read(before, [spoken(cell.words[-1]) for cell in cells])
        for at, cell in enumerate(cells):
            parent = parents[at]
            lm, cell.gain = self._mixed(parent, cell.words[-1], sums[at])
            cell.lm, cell.memory = parent.lm + lm, parent.memory + cell.gain
            cell.internal, cell.heard = parent.internal + heard[0][at], heard[1][at]

    def _mixed(self, before: Cell, word: str, parts: Sequence[float]) -> tuple[float, float]:
        """The experts' log-probability of a word, and what the user's own words add to it."""
        logs = [share + part for (share, _), part in zip(self._experts, parts, strict=True)]
        top = max(logs)
        lm = top + math.log(math.fsum(math.exp(value - top) for value in logs))
        if self._cache is None:
            return lm, 0.0
        share = self.config.share
        deep = max(lm, -_DEEPEST)
        said = tuple(spoken(one) for one in before.words[-2:])
        own = self._cache.probability(said, spoken(word), math.exp(deep))
        return lm, math.log(1.0 - share + share * own * math.exp(-deep))

    def _ready(self, cells: Sequence[Cell], states: bool = False) -> None:
        """Scores of what follows each cell, and its state where `states`."""

        def wanting() -> list[Cell]:
            return [
                cell
                for cell in dict.fromkeys(cells)
                if cell.logs is None or (states and (cell.rows is None or cell.rest))
            ]

        due = wanting()
        if not due:
            return
        lost = [cell.parent for cell in due if cell.rows is None and cell.parent is not None]
        self._ready(lost, states=True)
        due = wanting()  # one of them may have been the parent of another
        for cell, logs in zip(due, self._read(due, 0), strict=True):
            cell.logs = tuple(found[-1].clone() for found in logs)

    def _read(self, cells: Sequence[Cell], leave: int) -> list[list[Tensor]]:
        """Read all but the last `leave` of each cell's tokens; scores (T, V) of each expert."""
        rows, lines = [], []
        for cell in cells:
            unread = cell.rest if cell.rows is not None else len(cell.tokens)
            start = cell.rows if cell.rows is not None else _known(_known(cell.parent).rows)
            tokens = cell.tokens[len(cell.tokens) - unread : len(cell.tokens) - leave]
            rows += start
            lines += [tokens] * len(start)
            cell.rest = leave
        self.reads += sum(map(len, lines))
        logs, after = self._rows.read(rows, lines)
        width = len(self._experts)
        for at, cell in enumerate(cells):
            cell.rows = tuple(after[at * width : (at + 1) * width])
            self._live[id(cell)] = cell
            self._live.move_to_end(id(cell))
        return [logs[at * width : (at + 1) * width] for at in range(len(cells))]

    def _forget(self) -> None:
        """Drop the states of the cells that were read longest ago."""
        each = sum(self._rows.nbytes(row) for row in _known(self.root.rows))
        while len(self._live) > max(1, _HELD // max(1, each)):
            _, cell = self._live.popitem(last=False)
            if cell.parent is not None:
                cell.rows = None


def _known(value: Any) -> Any:
    assert value is not None
    return value


def gains(cell: Cell) -> list[tuple[str, float]]:
    """(words, nats) where the user's own words made a difference; neighbours are one entry."""
    found: list[tuple[str, float]] = []
    joined = False
    while cell.parent is not None:
        if cell.gain >= _GAIN:
            text, nats = cell.words[-1], cell.gain
            if joined:
                after, more = found.pop()
                text, nats = f"{text} {after}", nats + more
            found.append((text, nats))
        joined = cell.gain >= _GAIN
        cell = cell.parent
    return found[::-1]
