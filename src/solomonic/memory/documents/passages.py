"""Cutting extracted text into passages that are stored, found and cited one by one.

A passage ends at the last good place in the second half of its largest size: after a paragraph,
else after a sentence, else a line, else a word, else anywhere but inside a character. Where the
text was cut into blocks on reading makes no difference.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator

from solomonic.core import Config, require
from solomonic.memory.documents.part import Part

# Each matches up to where the next passage begins; the best kind of place comes first.
_PLACES = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile("[.!?…。！？][\"'”’»)\\]]*\\s+|[。！？]"),
    re.compile(r"\n"),
    re.compile(r"\s+"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassageConfig(Config):
    """size: most characters of a passage. Small ones are found more precisely, large ones hold
    more of their surroundings.

    Raises:
        ConfigError: size below 16.
    """

    size: int = 1000

    def __post_init__(self) -> None:
        require(self.size >= 16, f"size = {self.size} characters is no passage; use 16 or more.")


@dataclasses.dataclass(frozen=True)
class Passage:
    """text: verbatim. offset: characters of the extracted text before it. page: of a PDF, from 1.
    section: the headings above it."""

    text: str
    offset: int
    page: int | None = None
    section: str = ""


def cut(parts: Iterable[Part], config: PassageConfig | None = None) -> Iterator[Passage]:
    """Passages of a text that comes in parts; only about one part and one passage are held.

    Joined they are the text of the parts: white space alone is no passage and goes in front of the
    next one. Only white space at the very end, or longer than a passage, is in none.
    """
    size = (config or PassageConfig()).size
    text, offset = "", 0
    last = Part("")
    for part in parts:
        text, last, at = text + part.text, part, 0
        while len(text) - at > size or (part.whole and text[at:].strip()):
            end = _end(text, at, size)
            if text[at:end].strip():
                yield Passage(text[at:end], offset + at, part.page, part.section)
            at = end
        offset, text = offset + at, text[at:]
    while text.strip():
        end = _end(text, 0, size)
        if text[:end].strip():
            yield Passage(text[:end], offset, last.page, last.section)
        offset, text = offset + end, text[end:]


def _end(text: str, start: int, size: int) -> int:
    """Where the passage that begins at `start` ends."""
    limit = start + size
    if len(text) <= limit:
        return len(text)
    for place in _PLACES:
        end = 0
        for match in place.finditer(text, start + size // 2, limit):
            end = match.end()
        # A match that ends at the limit may go on behind it; that space opens the next passage.
        if end:
            return end
    while limit > start + 1 and _joined(text[limit]):
        limit -= 1
    return limit


def _joined(character: str) -> bool:
    """Whether it belongs to the character before it (accents, joiners, variation selectors)."""
    return unicodedata.combining(character) > 0 or character in "‍︎️"
