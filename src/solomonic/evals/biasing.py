"""What personal words gain and cost: errors on listed words, errors on all others, false triggers.

Words are aligned as by the reference script of Le et al. 2021 (fbai-speech, is21_deep_bias): a
substitution costs 4, an insertion or a deletion 3. A reference word is biased when it belongs to an
occurrence of a listed phrase; its deletion or substitution counts in B-WER. An inserted word counts
in B-WER when it belongs to an occurrence of a listed phrase in the hypothesis. All else is U-WER.
For lists of single words this is that script's definition; it is given only those listed words
that the utterance says, where the whole list given here also catches insertions of the others.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from solomonic.core import DataError

_SUBSTITUTION, _GAP = 4, 3
_RESAMPLED_AT_ONCE = 1 << 22  # counts of utterances drawn, held at a time

# Columns of the counts of one utterance.
_FIELDS = (
    "biased_errors", "biased_words", "other_errors", "other_words",
    "recalled", "entities", "false_triggers", "triggered", "utterances",
)  # fmt: skip

Words = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Rate:
    """A ratio and its 95% bootstrap interval over utterances; nan where there is nothing to count.

    Error rates and recalls are shares, not percent.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class BiasScore:
    """Rates over all utterances.

    Attributes:
        wer: all errors / reference words.
        b_wer: errors on biased words / biased reference words.
        u_wer: errors on other words / other reference words.
        entity_recall: occurrences of listed phrases that the hypothesis has too / occurrences in
            the reference.
        false_trigger_rate: utterances whose hypothesis has a listed phrase more often than the
            reference / utterances.
        false_triggers: how often that was, in all.
        biased_words, other_words, entities, utterances: what was counted.
    """

    wer: Rate
    b_wer: Rate
    u_wer: Rate
    entity_recall: Rate
    false_trigger_rate: Rate
    false_triggers: int
    biased_words: int
    other_words: int
    entities: int
    utterances: int


def score(
    references: Sequence[Words],
    hypotheses: Sequence[Words],
    bias_lists: Sequence[Sequence[str]],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> BiasScore:
    """Score utterances given as lists of words (normalised alike) with each one's list of phrases.

    A phrase is one or several words with a blank between. Intervals come from `samples` draws of
    the utterances with replacement.

    Raises:
        DataError: the three do not have the same length, are empty, or an utterance is one string.
    """
    if not len(references) == len(hypotheses) == len(bias_lists) > 0:
        raise DataError(
            f"there are {len(references)} references, {len(hypotheses)} hypotheses and "
            f"{len(bias_lists)} lists; give one of each for every utterance, at least one."
        )
    for words in (*references, *hypotheses, *bias_lists):
        if isinstance(words, str):
            raise DataError(f"'{words[:40]}' is one string; give a list of words or phrases.")
    rows = zip(references, hypotheses, bias_lists, strict=True)
    counts = np.array([_count(*row) for row in rows], np.float64)
    drawn = _resample(counts, samples, np.random.default_rng(seed))
    total = counts.sum(0, keepdims=True)
    names = dict(zip(_FIELDS, total[0].astype(int).tolist(), strict=True))

    def rate(above: Sequence[str], below: Sequence[str]) -> Rate:
        columns = [[_FIELDS.index(name) for name in part] for part in (above, below)]
        value = _ratio(total, *columns)[0]
        ratios = _ratio(drawn, *columns)
        ratios = ratios[~np.isnan(ratios)]
        if not len(ratios):
            return Rate(float(value), float("nan"), float("nan"))
        low, high = np.quantile(ratios, (0.025, 0.975))
        return Rate(float(value), float(low), float(high))

    return BiasScore(
        wer=rate(("biased_errors", "other_errors"), ("biased_words", "other_words")),
        b_wer=rate(("biased_errors",), ("biased_words",)),
        u_wer=rate(("other_errors",), ("other_words",)),
        entity_recall=rate(("recalled",), ("entities",)),
        false_trigger_rate=rate(("triggered",), ("utterances",)),
        false_triggers=names["false_triggers"],
        biased_words=names["biased_words"],
        other_words=names["other_words"],
        entities=names["entities"],
        utterances=names["utterances"],
    )


def align(reference: Words, hypothesis: Words) -> list[tuple[int | None, int | None]]:
    """The cheapest alignment in order: (place in the reference or None, in the hypothesis or None).

    Where several are equally cheap a pair comes before an insertion and that before a deletion,
    seen from the end.
    """
    columns = len(hypothesis) + 1
    above = [_GAP * j for j in range(columns)]
    moves = [[1] * columns]  # 0 pair, 1 insertion, 2 deletion
    for word in reference:
        row, move = [above[0] + _GAP], [2]
        for j, heard in enumerate(hypothesis):
            best, chosen = above[j] + (0 if word == heard else _SUBSTITUTION), 0
            if row[j] + _GAP < best:
                best, chosen = row[j] + _GAP, 1
            if above[j + 1] + _GAP < best:
                best, chosen = above[j + 1] + _GAP, 2
            row.append(best)
            move.append(chosen)
        above = row
        moves.append(move)
    i, j = len(reference), len(hypothesis)
    pairs: list[tuple[int | None, int | None]] = []
    while i or j:
        chosen = moves[i][j]
        i, j = i - (chosen != 1), j - (chosen != 2)
        pairs.append((i if chosen != 1 else None, j if chosen != 2 else None))
    return pairs[::-1]


def _count(reference: Words, hypothesis: Words, phrases: Sequence[str]) -> tuple[int, ...]:
    """The counts of one utterance, in the order of `_FIELDS`."""
    listed = {tuple(phrase.split()) for phrase in phrases} - {()}
    said, biased = _occurrences(reference, listed)
    heard, inserted = _occurrences(hypothesis, listed)
    errors = {True: 0, False: 0}
    for i, j in align(reference, hypothesis):
        if i is None:
            errors[j in inserted] += 1
        elif j is None or reference[i] != hypothesis[j]:
            errors[i in biased] += 1
    false = sum((heard - said).values())
    return (
        errors[True], len(biased), errors[False], len(reference) - len(biased),
        sum((said & heard).values()), sum(said.values()), false, int(false > 0), 1,
    )  # fmt: skip


def _occurrences(
    words: Words, listed: set[tuple[str, ...]]
) -> tuple[Counter[tuple[str, ...]], set[int]]:
    """How often each listed phrase occurs, and the places of the words that belong to one."""
    found: Counter[tuple[str, ...]] = Counter()
    places: set[int] = set()
    for length in {len(phrase) for phrase in listed}:
        for at in range(len(words) - length + 1):
            phrase = tuple(words[at : at + length])
            if phrase in listed:
                found[phrase] += 1
                places.update(range(at, at + length))
    return found, places


def _resample(counts: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
    """(samples, fields): sums over as many utterances as there are, drawn with replacement."""
    rows = len(counts)
    at_once = max(1, _RESAMPLED_AT_ONCE // rows)
    sums: list[np.ndarray] = []
    for first in range(0, samples, at_once):
        size = min(at_once, samples - first)
        sums.append(generator.multinomial(rows, np.full(rows, 1 / rows), size=size) @ counts)
    return np.concatenate(sums)


def _ratio(sums: np.ndarray, above: list[int], below: list[int]) -> np.ndarray:
    numerator, denominator = sums[:, above].sum(1), sums[:, below].sum(1)
    nothing = np.full(len(sums), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
