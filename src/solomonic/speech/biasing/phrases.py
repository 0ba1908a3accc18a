"""Phrase lists: reading them, what a phrase may be, and how it is spelled in word pieces.

One phrase a line, empty lines and lines that begin with # aside, with an optional weight of its
own in nats per piece:

    siobhan nguyen
    turn on the kettle :2.5
    zebra<TAB>1.0

Nothing is left out in silence: what cannot be used is an error that lists it, or is listed in
`dropped` when the caller asks for that.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from solomonic.core import DataError, VocabularyError
from solomonic.text.pieces import WORD_START, WordPieces
from solomonic.text.spoken import normalise

MOST_PHRASES = 5000
LONGEST_LINE = 1000  # characters
MOST_WORDS = 8
FEWEST_CHARACTERS = 3  # of a phrase; one that a carrier opens may have 2
LARGEST_BOOST = 20.0
WEIGHTED = re.compile(r"(.*\S)\s+:\s*([-+]?\d+(?:\.\d*)?)")
_SHOWN = 5  # how many phrases a message lists


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A word or several, and what each piece of it is worth in nats (None: the list's default).

    Raises:
        DataError: the boost is not above 0 and at most 20, or the text is too long.
    """

    text: str
    boost: float | None = None

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST_LINE:
            raise DataError(
                f"a phrase has {len(self.text):,} characters ('{_short(self.text)}'); give one "
                f"phrase a line, at most {LONGEST_LINE:,} characters."
            )
        if self.boost is not None and not 0 < self.boost <= LARGEST_BOOST:
            raise DataError(
                f"the boost {self.boost:g} of '{_short(self.text)}' is not above 0 and at most "
                f"{LARGEST_BOOST:g}; 1 to 3 nats per piece are usual."
            )


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A phrase that is not used, and why."""

    text: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Spelled:
    """A phrase as the vocabulary writes it: its segmentations, the likeliest first, and its worth
    in nats, which is the boost times the pieces of the first."""

    text: str
    worth: float
    segmentations: tuple[tuple[int, ...], ...]


def read_phrases(source: str | Path | Iterable[str | Phrase]) -> list[Phrase]:
    """The phrases of a file (UTF-8) or of lines, in their order.

    Raises:
        DataError: no such file, no text, a line too long, a wrong weight (the line is named), or
            more than 5,000 phrases.
    """
    if isinstance(source, str | Path):
        lines, place = _lines(Path(source)), f"line {{}} of {source}"
    else:
        lines, place = source, "phrase {}"
    found: list[Phrase] = []
    for number, line in enumerate(lines, 1):
        if isinstance(line, Phrase):
            found.append(line)
        elif isinstance(line, str):
            found += _parse(line, place.format(number))
        else:
            raise DataError(
                f"{place.format(number)} is no text but {type(line).__name__}; give words."
            )
        if len(found) > MOST_PHRASES:
            raise DataError(
                f"there are more than {MOST_PHRASES:,} phrases; give those that matter for this "
                "request, or put names into a class that a carrier such as 'call @contact' opens."
            )
    return found


def spell(
    phrases: Iterable[Phrase],
    pieces: WordPieces,
    *,
    boost: float,
    segmentations: int,
    possessives: bool,
    fewest: int = FEWEST_CHARACTERS,
) -> tuple[list[Spelled], list[Dropped]]:
    """What can be used of `phrases`, each text once with its largest boost, and what cannot.

    Text that the vocabulary cannot write is tried again as it is spoken (lower case, no accents,
    small numbers in words: `text.spoken.normalise`).
    """
    known = {piece for piece in pieces.pieces if len(piece) == 1} - {WORD_START} | {" "}
    boosts: dict[str, float] = {}
    dropped = []
    for phrase in phrases:
        text = " ".join(phrase.text.lower().split())
        if not known.issuperset(text):
            text = normalise(text)
        reason = _unusable(text, known, fewest)
        if reason:
            dropped.append(Dropped(phrase.text, reason))
            continue
        for form in (text, _possessive(text)) if possessives else (text,):
            boosts[form] = max(boosts.get(form, 0.0), phrase.boost or boost)
    spelled = []
    for text, weight in boosts.items():
        try:
            ways = pieces.encode_nbest(text, segmentations)
        except VocabularyError as error:
            dropped.append(Dropped(text, str(error)))
            continue
        worth = weight * len(ways[0])
        spelled.append(Spelled(text, worth, tuple(tuple(way) for way in ways)))
    return spelled, dropped


def complain(dropped: Sequence[Dropped], total: int, what: str) -> None:
    """Raise a `DataError` that lists `dropped`, of `total` entries of `what`, if there are any."""
    if not dropped:
        return
    shown = "; ".join(f"'{_short(d.text)}' {d.reason}" for d in dropped[:_SHOWN])
    more = f"; and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
    raise DataError(
        f"{len(dropped)} of {total} {what} cannot be used: {shown}{more}. Change or remove them; "
        "in Python, strict=False leaves them out and lists them in `dropped`."
    )


def _parse(line: str, place: str) -> Iterator[Phrase]:
    """The phrase of a line, if it has one."""
    if len(line) > LONGEST_LINE:
        raise DataError(
            f"{place} has {len(line):,} characters; give one phrase a line, at most "
            f"{LONGEST_LINE:,} characters."
        )
    text, boost = line.strip(), None
    if not text or text.startswith("#"):
        return
    head, tab, weight = text.rpartition("\t")
    found = WEIGHTED.fullmatch(text)
    try:
        if tab and head.strip():
            text, boost = head.strip(), float(weight)
        elif found:
            text, boost = found[1], float(found[2])
        if boost is not None and not math.isfinite(boost):
            raise ValueError
        yield Phrase(text, boost)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except ValueError as error:
        raise DataError(
            f"{place}: '{_short(weight)}' after the tab is no number; write the phrase, a tab and "
            "its boost in nats per piece, such as 2.5."
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read the phrases {path} ({error.strerror}); give a text file with one phrase "
            "a line."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text; save the phrases as UTF-8, one a line."
        ) from error
    if "\0" in text:
        raise DataError(f"{path} is binary, not a list of phrases; give one phrase a line.")
    return text.splitlines()


def _unusable(text: str, known: set[str], fewest: int) -> str | None:
    """Why a phrase cannot be used, or None."""
    unknown = sorted(set(text) - known)
    if unknown:
        shown = ", ".join(repr(c) for c in unknown[:_SHOWN])
        hint = "; write numbers in words" if any(c.isdigit() for c in unknown) else ""
        return f"has {shown}, which the vocabulary cannot spell{hint}"
    if len(text.replace(" ", "")) < fewest:
        return f"has fewer than {fewest} letters and would be heard everywhere"
    words = len(text.split())
    if words > MOST_WORDS:
        return f"has {words} words, more than {MOST_WORDS}; give the part that is hard to hear"
    return None


def _possessive(text: str) -> str:
    return f"{text}'" if text.endswith("s") else f"{text}'s"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
