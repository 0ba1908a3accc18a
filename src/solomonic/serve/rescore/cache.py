"""A user's own words, verbatim: an n-gram cache with recency, in which names weigh most.

The probability of a word after the two before it, by what this user said (Kuhn & De Mori 1990;
Dirichlet smoothing, MacKay & Peto 1995), each order filled up from the one below:

    p3(w | u v) = (c(u v w) + d p2(w | v)) / (c(u v) + d)
    p2(w | v)   = (c(v w)   + d p1(w))     / (c(v) + d)
    p1(w)       = (c(w)     + b p0(w))     / (c() + b)

p0 is the language model's own probability, so that p3 is one too. Counts fade by half every
`HALF_LIFE` sentences. In c(w) a word counts by how much it surprised the model when it was said: a
name whole, "the" next to nothing. That is B'MOJO's eidetic memory one level up: what can be
predicted need not be remembered.
"""

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from solomonic.core import CheckpointError

HALF_LIFE = 200.0  # sentences
LIMIT = 4000  # words kept; about 100 kB
ORDER_MASS = 0.5  # d: sentences that the order below counts for
BASE_MASS = 10.0  # b: names that the language model counts for
_PLAIN, _NAME = 3.0, 10.0  # nats of surprise: at or below nothing, at or above a whole name
_LEAST = 0.01
_EDGE = ""  # before the first and after the last word


@dataclasses.dataclass(frozen=True)
class Said:
    """A sentence: its words, the surprise of each in nats, when it was said (unix s)."""

    words: tuple[str, ...]
    surprise: tuple[float, ...]
    time: float = 0.0


class WordCache:
    """What a user said, and phrases the user listed."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.said: list[Said] = []
        self.phrases: tuple[str, ...] = ()
        self._tables: _Tables | None = None

    def add(self, sentence: Said) -> None:
        """Remember one more sentence; beyond the limit the least telling one is forgotten."""
        self.said.append(sentence)
        while sum(len(one.words) for one in self.said) > self.limit and len(self.said) > 1:
            last = len(self.said) - 1
            worth = [
                max(one.surprise) * 0.5 ** ((last - at) / HALF_LIFE)
                for at, one in enumerate(self.said[:-1])
            ]
            del self.said[worth.index(min(worth))]
        self._tables = None

    def set_phrases(self, phrases: Iterable[Sequence[str]]) -> None:
        """Names and phrases that count as just said, in place of those given before."""
        self.phrases = tuple(" ".join(words) for words in phrases if words)
        self._tables = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to go by."""
        return not self.said and not self.phrases

    @property
    def nbytes(self) -> int:
        """Bytes of the texts and numbers, roughly."""
        words = sum(sys.getsizeof(word) + 8 for one in self.said for word in one.words)
        return words + sum(sys.getsizeof(phrase) for phrase in self.phrases)

    def probability(self, before: tuple[str, ...], word: str, model: float) -> float:
        """p(word | the words before it); "" is the end of the sentence.

        Args:
            model: p0, the language model's probability of the word here.
        """
        tables = self._ready()
        pair = (before[-2] if len(before) > 1 else _EDGE, before[-1] if before else _EDGE)
        found = (tables.words.get(word, 0.0) + BASE_MASS * model) / (tables.mass + BASE_MASS)
        for context in (pair[1:], pair):
            counts, mass = tables.after.get(context, _NOTHING)
            found = (counts.get(word, 0.0) + ORDER_MASS * found) / (mass + ORDER_MASS)
        return found

    def last_said(self, word: str) -> float | None:
        """When the word was last said (unix s); None: it was not, or only listed."""
        return self._ready().times.get(word)

    def names(self, most: int = 100, least: float = _NAME) -> list[str]:
        """Surprising words, neighbours as one phrase, the latest first: what the recogniser had
        better listen for.

        Args:
            least: nats of surprise; neighbours of such a word need half of it.
        """
        found: dict[str, None] = {}
        for one in reversed(self.said):
            run: list[tuple[str, float]] = []
            for word, surprise in [*zip(one.words, one.surprise, strict=True), ("", 0.0)]:
                if surprise >= least / 2:
                    run.append((word, surprise))
                    continue
                if any(nats >= least for _, nats in run):
                    found.setdefault(" ".join(word for word, _ in run))
                run = []
        return list(found)[:most]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; phrases are kept too."""
        return {
            "said": [[list(one.words), list(one.surprise), one.time] for one in self.said],
            "phrases": list(self.phrases),
            "limit": self.limit,
        }

    @classmethod
    def from_json(cls, record: Any) -> "WordCache":
        """Back from `to_json`.

        Raises:
            CheckpointError: it is no such record.
        """
        try:
            cache = cls(int(record["limit"]))
            cache.phrases = tuple(str(phrase) for phrase in record["phrases"])
            for words, surprise, time in record["said"]:
                values = tuple(float(value) for value in surprise)
                if len(values) != len(words) or not all(map(math.isfinite, (*values, time))):
                    raise ValueError("a sentence does not fit its figures")
                cache.said.append(Said(tuple(str(word) for word in words), values, float(time)))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"a user's words are damaged ({error}); they must be made anew from the utterances."
            ) from error
        return cache

    def _ready(self) -> "_Tables":
        if self._tables is None:
            self._tables = _Tables(self.said, self.phrases)
        return self._tables


_NOTHING: tuple[dict[str, float], float] = ({}, 0.0)


class _Tables:
    """Counts as the formulas want them."""

    def __init__(self, said: Sequence[Said], phrases: Sequence[str]) -> None:
        self.words: dict[str, float] = {}
        self.after: dict[tuple[str, ...], tuple[dict[str, float], float]] = {}
        self.times: dict[str, float] = {}
        for age, one in enumerate(reversed(said)):
            fresh = 0.5 ** (age / HALF_LIFE)
            for word, surprise in zip(one.words, one.surprise, strict=True):
                self._word(word, fresh * weight(surprise))
                self.times[word] = max(one.time, self.times.get(word, one.time))
            self._follow((_EDGE, _EDGE, *one.words, _EDGE), 2, fresh)
        for phrase in phrases:
            words = phrase.split()
            for word in words:
                self._word(word, 1.0)
            self._follow(tuple(words), 1, 1.0)
        self.mass = math.fsum(self.words.values())

    def _word(self, word: str, count: float) -> None:
        self.words[word] = self.words.get(word, 0.0) + count

    def _follow(self, words: tuple[str, ...], first: int, count: float) -> None:
        """Each word from number `first` on, after the word and the two words before it."""
        for at in range(first, len(words)):
            for context in (words[at - 1 : at], words[at - 2 : at] if at > 1 else ()):
                if context:
                    counts, mass = self.after.get(context, ({}, 0.0))
                    counts[words[at]] = counts.get(words[at], 0.0) + count
                    self.after[context] = (counts, mass + count)


def weight(surprise: float) -> float:
    """How much of a word is remembered for itself, 0.01 to 1, by its surprise in nats."""
    return min(1.0, max(_LEAST, (surprise - _PLAIN) / (_NAME - _PLAIN)))
