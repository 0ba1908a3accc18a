"""Lists of phrases for training the attention: some of what is said, and much that is not.

Without distractors the model would learn to copy whatever is listed, and without utterances whose
own words are missing it would learn that one of the listed must come.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from solomonic.core import Config, require
from solomonic.text.pieces import WordPieces

Tokens = tuple[int, ...]
Span = tuple[int, int]
_CUTS = 4  # phrases taken from each utterance as distractors for the others


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How lists are drawn.

    Raises:
        ConfigError: a number out of range.
    """

    size: int = 100
    """The most phrases in a list; lists of all sizes up to it are drawn."""
    positive: float = 0.7
    """Probability that phrases of the utterance itself are in its list."""
    own: int = 2
    """The most of them."""
    words: int = 3
    """The most words in a phrase."""
    dropout: float = 0.1
    """Probability that a list is empty."""

    def __post_init__(self) -> None:
        for name in ("size", "own", "words"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1.")
        for name in ("positive", "dropout"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be a probability, 0 to 1.")


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One utterance's list: distinct phrases in piece ids, shuffled; and where its own ones stand,
    as (first token, token after the last, place in `phrases`)."""

    phrases: tuple[Tokens, ...]
    spans: tuple[tuple[int, int, int], ...]


def common_words(
    utterances: Iterable[Sequence[int]], pieces: WordPieces, size: int = 1000
) -> frozenset[Tokens]:
    """The `size` most frequent words of a training text, in piece ids: not worth listing."""
    counts: Counter[Tokens] = Counter()
    for tokens in utterances:
        counts.update(tuple(tokens[low:high]) for low, high in word_spans(tokens, pieces))
    return frozenset(word for word, _ in counts.most_common(size))


def word_spans(tokens: Sequence[int], pieces: WordPieces) -> list[Span]:
    """(first token, token after the last) of each word."""
    starts = [i for i, token in enumerate(tokens) if i == 0 or pieces.starts_word(token)]
    return list(zip(starts, [*starts[1:], len(tokens)], strict=True)) if tokens else []


def sample_contexts(
    batch: Sequence[Sequence[int]],
    pieces: WordPieces,
    generator: np.random.Generator,
    config: SamplingConfig | None = None,
    *,
    common: Collection[Tokens] = frozenset(),
    pool: Sequence[Tokens] = (),
) -> list[Sampled]:
    """A list for every utterance of `batch` (piece ids).

    A phrase is one to `config.words` words of which one is not among `common`. Distractors are
    such phrases of the other utterances, then entries of `pool`; none is said by the utterance.
    """
    config = config or SamplingConfig()
    words = [word_spans(tokens, pieces) for tokens in batch]
    rare = [
        [i for i, (low, high) in enumerate(spans) if tuple(tokens[low:high]) not in common]
        for tokens, spans in zip(batch, words, strict=True)
    ]
    cuts = [
        [_cut(spans, places, config.words, generator) for _ in range(_CUTS if places else 0)]
        for spans, places in zip(words, rare, strict=True)
    ]
    phrases = [
        [tuple(tokens[low:high]) for low, high in spans]
        for tokens, spans in zip(batch, cuts, strict=True)
    ]
    sampled = []
    for row, tokens in enumerate(batch):
        size = int(generator.integers(1, config.size + 1))
        own: dict[Tokens, Span] = {}
        if rare[row] and generator.random() < config.positive:
            for _ in range(int(generator.integers(1, config.own + 1))):
                span = _cut(words[row], rare[row], config.words, generator)
                own[tuple(tokens[slice(*span)])] = span
        if generator.random() < config.dropout:
            sampled.append(Sampled((), ()))
            continue
        others = [phrase for i, part in enumerate(phrases) if i != row for phrase in part]
        said = _said(tokens, words[row], max((len(p) for p in (*others, *pool)), default=0))
        kept = dict.fromkeys(list(own)[:size])
        for source in (others, pool):
            for place in generator.permutation(len(source)):
                if len(kept) >= size:
                    break
                if source[place] not in said:
                    kept[source[place]] = None
        listed = list(kept)
        listed = [listed[i] for i in generator.permutation(len(listed))]
        spans = ((*own[p], i) for i, p in enumerate(listed) if p in own)
        sampled.append(Sampled(tuple(listed), tuple(sorted(spans))))
    return sampled


def _cut(spans: list[Span], rare: list[int], most: int, generator: np.random.Generator) -> Span:
    """A phrase of up to `most` words around one of the words `rare`."""
    place = rare[int(generator.integers(len(rare)))]
    count = int(generator.integers(1, most + 1))
    first = max(0, place - int(generator.integers(count)))
    last = max(place, min(first + count, len(spans)) - 1)
    return spans[first][0], spans[last][1]


def _said(tokens: Sequence[int], spans: list[Span], longest: int) -> set[Tokens]:
    """Every phrase of whole words in `tokens` of up to `longest` pieces."""
    return {
        tuple(tokens[low:high])
        for i, (low, _) in enumerate(spans)
        for _, high in spans[i:]
        if high - low <= longest
    }
