"""Quotations against the texts of a store: found, checked, repaired, and constrained."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.core import require
from solomonic.memory.quotes.automaton import QuoteAutomaton
from solomonic.memory.quotes.constraint import QuoteConstraint
from solomonic.memory.quotes.corpus import Corpus, SourceText, Span, joined, stored_texts
from solomonic.memory.quotes.marks import Quotation, QuoteConfig, quotations
from solomonic.memory.quotes.nearest import nearest

if TYPE_CHECKING:
    from solomonic.memory.store import Memory


@dataclasses.dataclass(frozen=True)
class QuoteVerdict:
    """A quotation and where it stands.

    Attributes:
        quotation: what was checked.
        spans: its places in the store, a few at most; none where it is not verbatim.
    """

    quotation: Quotation
    spans: tuple[Span, ...]

    @property
    def ok(self) -> bool:
        """Whether the quotation is closed and verbatim in the store."""
        return self.quotation.closed and bool(self.spans)


@dataclasses.dataclass(frozen=True)
class Change:
    """What `repair` did to a quotation: `after` is its text now, verbatim at `span`; or the marks
    were taken away, as nothing near it is in the store, and `span` is None."""

    before: str
    after: str
    span: Span | None


@dataclasses.dataclass(frozen=True)
class Repaired:
    """text: the answer, all of whose quotations are verbatim now. changes: in order."""

    text: str
    changes: tuple[Change, ...]


class QuoteIndex:
    """The texts that may be quoted. What it promises is that a quotation stands in them, never
    that they are true.

    Args:
        texts: with their sources; those that follow each other in one source are joined.
        config: which marks, and whether white space must be equal.
    """

    def __init__(self, texts: Iterable[SourceText], config: QuoteConfig | None = None) -> None:
        self.config = config or QuoteConfig()
        self.corpus = Corpus(joined(texts), self.config.fold_whitespace)
        self._kept: Path | None = None  # where the sorted texts are kept

    @classmethod
    def of_memory(
        cls, memory: "Memory | Any", config: QuoteConfig | None = None, at: float | None = None
    ) -> "QuoteIndex":
        """Of all texts of a store, or of those that are valid `at` a time (unix seconds).

        All texts as they stand are sorted once: the file NAME-quotes beside the store keeps it.
        """
        from solomonic.memory.opening import QUOTES
        from solomonic.memory.store import Memory

        found = cls(stored_texts(memory, at), config)
        if isinstance(memory, Memory) and at is None and not found.config.fold_whitespace:
            found._kept = memory.beside(QUOTES)
        return found

    def find(self, text: str, limit: int = 8) -> list[Span]:
        """Places of `text`, in the order of the store; at most `limit`."""
        pattern = self.corpus.encode(text)
        places = islice(self.corpus.places(pattern), limit)
        return [self.corpus.span(place, place + len(pattern)) for place in places]

    def check(self, answer: str, limit: int = 8) -> list[QuoteVerdict]:
        """Every quotation of `answer`, in order, with its places."""
        return [
            QuoteVerdict(quotation, tuple(self.find(quotation.text, limit)))
            for quotation in quotations(answer, self.config)
        ]

    def repair(self, answer: str, most: float = 0.25) -> Repaired:
        """`answer` with every wrong quotation made verbatim, or no quotation any more.

        A quotation becomes the nearest stretch of the store if at most `most` of its characters
        differ (inserted, deleted or replaced); otherwise its marks are taken away, and what it
        says is the answer's own. Afterwards `check` finds nothing wrong.

        Raises:
            ConfigError: `most` lies outside [0, 1].
        """
        require(0 <= most <= 1, f"most = {most} must lie in [0, 1].")
        changes: list[Change] = []
        while True:
            wrong = next((v.quotation for v in self.check(answer, 1) if not v.ok), None)
            if wrong is None:
                return Repaired(answer, tuple(changes))
            change = self._mend(wrong, most)
            behind = answer[wrong.end :]
            if change.span is None:
                answer = answer[: wrong.start - 1] + wrong.text + behind[1:]
            else:
                close = "" if wrong.closed else self.config.marks[wrong.opener][0]
                answer = answer[: wrong.start] + change.after + close + behind
            changes.append(change)

    def constraint(self, pieces: Sequence[bytes]) -> QuoteConstraint:
        """For generation with a vocabulary, whose tokens stand for `pieces` (bytes; none for
        control tokens). The first call sorts the texts, about a second for two megabytes, if they
        are not kept sorted beside the store.

        Raises:
            ConfigError: the store is too large to be sorted.
        """
        return QuoteConstraint(self.automaton, pieces)

    @cached_property
    def automaton(self) -> QuoteAutomaton:
        """Over bytes."""
        from solomonic.memory.quotes.kept import suffix_array

        return QuoteAutomaton(suffix_array(self.corpus.data, self._kept), self.config)

    def _mend(self, wrong: Quotation, most: float) -> Change:
        near = nearest(self.corpus, wrong.text)
        if near is not None and near.distance <= most * len(wrong.text):
            span = self.corpus.span(near.start, near.end)
            text = self.corpus.data[near.start : near.end].decode()
            if not set(text) & set(self.config.marks[wrong.opener]):
                return Change(wrong.text, text, span)
        return Change(wrong.text, wrong.text, None)
