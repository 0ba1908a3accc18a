"""Word errors of reranking: one-best, reranked and nearest path, a set a row."""

import dataclasses
from collections.abc import Callable, Sequence

from solomonic.serve.rescore.data import Example
from solomonic.serve.rescore.memory import Memory
from solomonic.serve.rescore.reranker import Reranker
from solomonic.speech.lattice import best_path, oracle

ALL = "all"


def word_edits(reference: Sequence[str], said: Sequence[str]) -> int:
    """Least substitutions, deletions and insertions (Levenshtein) between two word sequences."""
    row = list(range(len(said) + 1))
    for used, word in enumerate(reference, 1):
        corner, row[0] = row[0], used
        for place, other in enumerate(said, 1):
            corner, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, corner + (word != other)),
            )
    return row[-1]


@dataclasses.dataclass(frozen=True)
class SetErrors:
    """Word errors of a set; `nearest` are those of the lattice path nearest to what was said."""

    name: str
    utterances: int
    words: int
    one_best: int
    reranked: int
    nearest: int

    @property
    def gain(self) -> float:
        """Share of the one-best's errors that reranking mends."""
        return 1 - self.reranked / self.one_best if self.one_best else 0.0

    @property
    def closed(self) -> float:
        """Share of the distance from the one-best to the nearest path that it closes."""
        distance = self.one_best - self.nearest
        return (self.one_best - self.reranked) / distance if distance else 0.0

    def rates(self) -> tuple[float, float, float]:
        """Word error rates of one-best, reranked and nearest path, as shares."""
        words = max(1, self.words)
        return self.one_best / words, self.reranked / words, self.nearest / words


def total(sets: Sequence[SetErrors]) -> SetErrors:
    """All sets as one."""
    fields = ("utterances", "words", "one_best", "reranked", "nearest")
    return SetErrors(ALL, *(sum(getattr(one, name) for one in sets) for name in fields))


def measure(
    reranker: Reranker,
    examples: Sequence[Example],
    progress: Callable[[int], None] | None = None,
) -> list[SetErrors]:
    """Rerank all examples and count, a set each by their sources, in order of appearance."""
    counts: dict[str, list[int]] = {}
    for done, example in enumerate(examples, 1):
        row = counts.setdefault(example.source, [0] * 5)
        for place, value in enumerate(_counted(reranker, example)):
            row[place] += value
        if progress is not None:
            progress(done)
    return [SetErrors(name, *row) for name, row in counts.items()]


def memory_of(reranker: Reranker, example: Example) -> Memory | None:
    """The memory of what was said before; None: nothing was."""
    if not example.before:
        return None
    memory = Memory.new(reranker.lm)
    for text in example.before:
        memory.read(text)
    return memory


def _counted(reranker: Reranker, example: Example) -> tuple[int, ...]:
    reference, lattice = example.reference, example.lattice
    if lattice is None:
        return 1, len(reference), len(reference), len(reference), len(reference)
    found = reranker.rerank(lattice, memory_of(reranker, example), n=1)
    return (
        1,
        len(reference),
        word_edits(reference, best_path(lattice).words),
        word_edits(reference, found.text.split()),
        oracle(lattice, reference)[0],
    )
