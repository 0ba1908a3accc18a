"""Word error rate, by `jiwer`, on text that was normalised; with intervals.

Both sides pass through `text.spoken.normalise` first: case, accents, punctuation and curly
apostrophes go, numbers with one common reading become words ("20" and "twenty" are the same,
"1984" stays as it is). Nothing else is forgiven: contractions, spellings and filler words count.

    WER = (substitutions + deletions + insertions) / words of the reference

Intervals are 95% percentile bootstrap. Utterances of one speaker resemble each other, so speakers
are drawn where at least five are known, with all their utterances; else utterances are drawn.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.core import ConfigError, DataError
from solomonic.evals.biasing import Rate
from solomonic.evals.report import markdown_table
from solomonic.text.spoken import is_spoken, normalise

FEWEST_SPEAKERS = 5  # of which an interval over speakers says anything


@dataclasses.dataclass(frozen=True)
class WordErrors:
    """Counts of one utterance; `words` are those of the reference."""

    words: int
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def edits(self) -> int:
        """Errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions


@dataclasses.dataclass(frozen=True, kw_only=True)
class WerScore:
    """Error rates of a set, as shares.

    Attributes:
        wer: errors / reference words; may be above 1. nan where there are no words.
        ser: utterances with an error / utterances.
        words, substitutions, deletions, insertions: counts.
        utterances, speakers: how many; speakers are those known.
        drawn: what the intervals' samples draw, "speakers" or "utterances".
        unspoken: references with numbers or letters that the normaliser cannot put into words:
            no recogniser of words can have them right.
    """

    wer: Rate
    ser: Rate
    words: int
    substitutions: int
    deletions: int
    insertions: int
    utterances: int
    speakers: int
    drawn: str
    unspoken: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; rates are shares with `low` and `high`."""
        return dataclasses.asdict(self)


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[WordErrors]:
    """Errors of each utterance, both sides normalised.

    An utterance in which nothing is said counts what was heard as insertions.

    Raises:
        DataError: there are not as many hypotheses as references.
        ConfigError: `jiwer` is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise ConfigError(
            "word error rates need jiwer; install it with `pip install 'solomonic[eval]'`."
        ) from error
    if len(references) != len(hypotheses):
        raise DataError(
            f"there are {len(references)} references and {len(hypotheses)} hypotheses; give one "
            "of each for every utterance."
        )
    pairs = [(normalise(r), normalise(h)) for r, h in zip(references, hypotheses, strict=True)]
    found: list[WordErrors] = []
    for reference, hypothesis in pairs:
        if not reference:  # which jiwer refuses
            found.append(WordErrors(0, insertions=len(hypothesis.split())))
            continue
        counts = jiwer.process_words(reference, hypothesis)
        words = len(reference.split())
        found.append(WordErrors(words, counts.substitutions, counts.deletions, counts.insertions))
    return found


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> WerScore:
    """Rates of a set of utterances with their intervals.

    Args:
        speakers: of each utterance, as far as known.
        samples: of the bootstrap.

    Raises:
        DataError: the lists differ in length or are empty.
    """
    errors = count_errors(references, hypotheses)
    if not errors:
        raise DataError("there are no utterances to score; decode at least one.")
    speakers = [None] * len(errors) if speakers is None else speakers
    if len(speakers) != len(errors):
        raise DataError(f"there are {len(errors)} utterances and {len(speakers)} speakers.")
    known = {speaker for speaker in speakers if speaker}
    by_speaker = len(known) >= FEWEST_SPEAKERS and None not in speakers
    groups = list(speakers) if by_speaker else list(range(len(errors)))
    rows = np.array([(e.edits, e.words, e.edits > 0, 1) for e in errors], np.float64)
    drawn = _resample(rows, groups, samples, np.random.default_rng(seed))
    total = rows.sum(axis=0)
    return WerScore(
        wer=_rate(total, drawn, 0, 1),
        ser=_rate(total, drawn, 2, 3),
        words=sum(e.words for e in errors),
        substitutions=sum(e.substitutions for e in errors),
        deletions=sum(e.deletions for e in errors),
        insertions=sum(e.insertions for e in errors),
        utterances=len(errors),
        speakers=len(known),
        drawn="speakers" if by_speaker else "utterances",
        unspoken=sum(not is_spoken(normalise(reference)) for reference in references),
    )


def wer_table(scores: Mapping[str, WerScore]) -> str:
    """The scores as a Markdown table, a row a set."""
    rows = [
        (
            name,
            percent(s.wer),
            interval(s.wer),
            str(s.substitutions),
            str(s.deletions),
            str(s.insertions),
            f"{s.words:,}",
            percent(s.ser),
            f"{s.utterances:,}",
            f"{s.speakers:,}" if s.speakers else "",
        )
        for name, s in scores.items()
    ]
    header = (
        "set", "WER %", "95% interval", "sub", "del", "ins", "words", "sentences wrong %",
        "utterances", "speakers",
    )  # fmt: skip
    return markdown_table(header, rows)


def percent(rate: Rate) -> str:
    """12.3, or a dash where there is nothing to count."""
    return "-" if np.isnan(rate.value) else f"{100 * rate.value:.1f}"


def interval(rate: Rate) -> str:
    """10.1 to 14.8, in percent."""
    if np.isnan(rate.low):
        return "-"
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"


def _resample(
    rows: np.ndarray, groups: Sequence[Any], samples: int, random: np.random.Generator
) -> np.ndarray:
    """(samples, columns): sums over as many groups as there are, drawn with replacement."""
    index = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(index), rows.shape[1]))
    np.add.at(sums, [index[group] for group in groups], rows)
    drawn = [
        random.multinomial(len(sums), np.full(len(sums), 1 / len(sums))) @ sums
        for _ in range(samples)
    ]
    return np.array(drawn).reshape(samples, rows.shape[1])


def _rate(total: np.ndarray, drawn: np.ndarray, above: int, below: int) -> Rate:
    value = float(total[above] / total[below]) if total[below] else float("nan")
    usable = drawn[drawn[:, below] > 0]
    if not len(usable):
        return Rate(value, float("nan"), float("nan"))
    low, high = np.quantile(usable[:, above] / usable[:, below], (0.025, 0.975))
    return Rate(value, float(low), float(high))
