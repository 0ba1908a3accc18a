"""What is a quotation: text between an opening mark and the first mark that closes it.

Marks do not nest: in “a “b” c” the quotation is `a “b`. Apostrophes and single quotation marks are
left alone, as nobody can tell them apart.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

from solomonic.core import Config, require

MARKS = {'"': '"', "“": "”", "„": "“”", "«": "»", "‹": "›", "「": "」", "『": "』"}
"""Opening marks, and for each the characters that close it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuoteConfig(Config):
    """marks: opening marks, and for each the characters that close it. fold_whitespace: any white
    space equals any other, as where lines of a source are wrapped; else a quotation must be equal
    to the last character.

    Raises:
        ConfigError: a mark is not one character, or closes with nothing.
    """

    marks: dict[str, str] = dataclasses.field(default_factory=lambda: dict(MARKS))
    fold_whitespace: bool = False

    def __post_init__(self) -> None:
        require(bool(self.marks), "marks is empty; name the quotation marks to look at.")
        for opener, closers in self.marks.items():
            require(
                len(opener) == 1 and len(closers) >= 1,
                f"the mark {opener!r} must be one character, with at least one that closes it.",
            )


@dataclasses.dataclass(frozen=True)
class Quotation:
    """text: what stands between the marks. start, end: where, in characters of the answer.
    opener: the mark before it. closed: whether a mark follows; else the answer ends first."""

    text: str
    start: int
    end: int
    opener: str
    closed: bool


def quotations(answer: str, config: QuoteConfig) -> Iterator[Quotation]:
    """Every quotation of `answer`, in order."""
    opening, closing = _patterns(tuple(config.marks.items()))
    at = 0
    while match := opening.search(answer, at):
        start = match.end()
        end = closing[match[0]].search(answer, start)
        at = end.end() if end else len(answer)
        stop = end.start() if end else len(answer)
        yield Quotation(answer[start:stop], start, stop, match[0], end is not None)


@functools.lru_cache(maxsize=16)
def _patterns(
    marks: tuple[tuple[str, str], ...],
) -> tuple[re.Pattern[str], dict[str, re.Pattern[str]]]:
    def one_of(characters: str) -> re.Pattern[str]:
        return re.compile(f"[{re.escape(characters)}]")

    return one_of("".join(opener for opener, _ in marks)), {o: one_of(c) for o, c in marks}
