"""The second pass: a language model that knows the user picks the sentence from a lattice.

Every sentence that is returned has been scored whole, word after word from the beginning: what the
search through the lattice merges and gives up decides only which sentences these are. The lattice's
own best `texts` are always among those compared.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from solomonic.core import ConfigError, DataError
from solomonic.serve.rescore.config import RerankConfig
from solomonic.serve.rescore.search import Found, search
from solomonic.serve.rescore.tree import Cell, PrefixTree, gains
from solomonic.serve.rescore.words import WordTokens
from solomonic.speech.lattice import Lattice, best_path, n_best
from solomonic.text.spoken import normalise

MOST_WORDS = 400
"""Of a text whose words are looked for in a memory; each costs a step of the language model."""

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.serve.rescore.internal import InternalLM
    from solomonic.serve.rescore.memory import Memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A sentence and its score.

    Attributes:
        text: its words.
        arcs: its path, arcs of the lattice that was given.
        acoustic, bias: the lattice's own scores of the path, nats.
        lm: log-probability by the language model, the end included, nats.
        internal: log-probability by the recogniser itself, nats; 0 where it is not asked.
        memory: what the user's own words add to `lm`, nats.
        words: how many.
        score: all of them weighted (`RerankConfig`), nats.
    """

    text: str
    arcs: tuple[int, ...]
    acoustic: float
    bias: float
    lm: float
    internal: float
    memory: float
    words: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, scores rounded to 1/10,000 nat."""
        record = dataclasses.asdict(self)
        rounded = {k: round(v, 4) for k, v in record.items() if isinstance(v, float)}
        return record | {"arcs": list(self.arcs)} | rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """Words that the user's memory made likelier.

    Attributes:
        score: by how many nats.
        time: when the user last said the (last of the) words, unix s; None: only listed.
    """

    text: str
    score: float
    time: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self) | {"score": round(self.score, 4)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranked:
    """What became of a lattice.

    Attributes:
        text: of the best sentence.
        best: the best sentence.
        hypotheses: distinct texts, the best first.
        one_best: what the recogniser alone would have said.
        hits: what of the best sentence came from the user's memory.
    """

    text: str
    best: Hypothesis
    hypotheses: tuple[Hypothesis, ...]
    one_best: str
    hits: tuple[Hit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "text": self.text,
            "one_best": self.one_best,
            "arcs": list(self.best.arcs),
            "hypotheses": [one.to_json() for one in self.hypotheses],
            "memory_hits": [hit.to_json() for hit in self.hits],
        }


class Reranker:
    """Safe in several threads, each with memories and trees of its own.

    Args:
        lm: a language model whose training text is one spoken sentence a document, in lower case.
        config: weights and widths.
        internal: the recogniser's own expectation; it needs `internal_scale` above 0 to count.
        origin: where the weights are from, in words, for people.
    """

    def __init__(
        self,
        lm: "LoadedModel",
        config: RerankConfig | None = None,
        internal: "InternalLM | None" = None,
        origin: str = "given",
    ) -> None:
        self.origin = origin
        self.lm, self.config, self.internal = lm, config or RerankConfig(), internal
        if self.config.internal_scale and internal is None:
            raise ConfigError(
                f"internal_scale = {self.config.internal_scale} needs the recogniser's model; give "
                "internal=InternalLM(load_speech_model(...)), or set it to 0."
            )
        self.whole = self.config.whole and WordTokens(lm.tokenizer).additive
        """Whether lattices are searched whole: asked for, and the tokenizer allows it."""

    def tree(self, memory: "Memory | None" = None) -> PrefixTree:
        """What lattices of one utterance of one user may share, such as its revisions.

        Raises:
            ConfigError: the memory belongs to another language model.
        """
        internal = self.internal if self.config.internal_scale else None
        return PrefixTree(self.lm, self.config, memory, internal)

    def rerank(
        self,
        lattice: Lattice,
        memory: "Memory | None" = None,
        *,
        n: int = 10,
        tree: PrefixTree | None = None,
    ) -> Reranked:
        """The n best sentences of a word lattice.

        Args:
            memory: of the user who speaks; it is only read.
            tree: of `self.tree(memory)`, to score nothing twice.

        Raises:
            DataError: a lattice of pieces.
            ConfigError: n is not positive, or the memory (or tree) is another's.
        """
        if n < 1:
            raise ConfigError(f"n = {n} sentences; ask for at least 1.")
        if lattice.is_pieces:
            raise DataError(
                "reranking takes a lattice of words, and this is one of pieces; make one with "
                "speech.lattice.word_lattice."
            )
        if tree is None:
            tree = self.tree(memory)
        elif tree.memory is not memory or tree.config != self.config:
            raise ConfigError("the tree was made for another memory or other settings.")
        one_best = " ".join(best_path(lattice).words)
        scored = self.score(lattice, self.candidates(lattice, tree, n), tree)
        scored.sort(key=lambda pair: -pair[0].score)  # equal ones in the order of the lattice
        best, cell = scored[0]
        return Reranked(
            text=best.text,
            best=best,
            hypotheses=tuple(hypothesis for hypothesis, _ in scored[:n]),
            one_best=one_best,
            hits=_hits(cell, memory),
        )

    def score(
        self, lattice: Lattice, sentences: Sequence[Found], tree: PrefixTree
    ) -> list[tuple[Hypothesis, Cell]]:
        """Each sentence scored whole, in the order given."""
        cells = tree.walk([sentence.words for sentence in sentences])
        found = []
        for sentence, cell, (lm, memory) in zip(sentences, cells, tree.ends(cells), strict=True):
            arcs = list(sentence.arcs)
            acoustic = float(lattice.acoustic[arcs].sum(dtype="float64"))
            bias = float(lattice.bias[arcs].sum(dtype="float64"))
            rest = tree.weigh(lm, memory, cell.internal, len(sentence.words))
            hypothesis = Hypothesis(
                text=" ".join(sentence.words),
                arcs=tuple(arcs),
                acoustic=acoustic,
                bias=bias,
                lm=lm,
                internal=cell.internal,
                memory=memory,
                words=len(sentence.words),
                score=acoustic + self.config.bias_scale * bias + rest,
            )
            found.append((hypothesis, cell))
        return found

    def hits(self, text: str, memory: "Memory") -> tuple[Hit, ...]:
        """Words of any text that the user's memory makes likelier, in their order.

        Each line is judged as a sentence of its own; of a long text the last `MOST_WORDS` words.
        """
        if memory.words.empty:
            return ()
        words, lines = MOST_WORDS, []
        for line in reversed(text.splitlines()):
            if words and (said := normalise(line).split()[-words:]):
                words -= len(said)
                lines.append(said)
        cells = PrefixTree(self.lm, self.config, memory).walk(lines[::-1])
        return tuple(hit for cell in cells for hit in _hits(cell, memory))

    def describe(self) -> dict[str, Any]:
        """Model, settings, and how lattices are gone through."""
        return {
            "lm": self.lm.describe(),
            "weights": self.origin,
            "settings": self.config.to_json(),
            "internal": self.internal is not None and self.config.internal_scale > 0,
            "search": "whole lattice" if self.whole else f"{self.config.texts} best texts",
        }

    def candidates(self, lattice: Lattice, tree: PrefixTree, n: int) -> list[Found]:
        """Sentences to compare: the lattice's own best first, each text by its best path."""
        paths = n_best(lattice, max(n, self.config.texts), bias_scale=self.config.bias_scale)
        found = {path.words: Found(path.arcs, path.words) for path in paths}
        if self.whole:
            for sentence in search(lattice, tree, self.config, n):
                found.setdefault(sentence.words, sentence)
        return list(found.values())


def _hits(cell: Cell, memory: "Memory | None") -> tuple[Hit, ...]:
    if memory is None:
        return ()
    return tuple(
        Hit(text=text, score=nats, time=memory.words.last_said(text.split()[-1].lower()))
        for text, nats in gains(cell)
    )
