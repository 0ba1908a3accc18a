"""The texts of a store as one string of bytes, and the way from a place there to its source.

Texts are UTF-8, each followed by the byte 0xFF, which UTF-8 does not have: no match reaches from
one text into the next. Stored passages that follow each other in their source are one text again,
so that a quotation may reach from one into the next.
"""

import dataclasses
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

END = b"\xff"
_SPACE = re.compile(r"\s+")


class SourceText(NamedTuple):
    """text: verbatim. source: where it is from. offset: characters of the source before it.
    version: texts of different versions of a source are never joined. pages: (character of the
    source, page) where each page begins, in order."""

    source: str
    text: str
    offset: int = 0
    version: str = ""
    pages: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Span:
    """Where a quotation stands: characters `start` to `end` of the extracted text of `source`, on
    `page` (where it begins) if it has pages."""

    source: str
    start: int
    end: int
    page: int | None = None


class Corpus:
    """Texts to search in.

    Attributes:
        data: all texts, each with `END` behind it.
        texts: how many there are.
    """

    def __init__(self, texts: Iterable[SourceText], fold: bool = False) -> None:
        self.fold = fold
        self._sources: list[SourceText] = []  # without their texts
        self._starts: list[int] = []
        self._origins: list[np.ndarray] = []  # characters before each byte, where space is folded
        pieces, size = [], 0
        for found in texts:
            text = found.text
            if not text:
                continue
            data, origin = _folded(text) if fold else (encoded(text), None)
            self._sources.append(found._replace(text=""))
            self._starts.append(size)
            if origin is not None:
                self._origins.append(origin)
            pieces += [data, END]
            size += len(data) + 1
        self.data = b"".join(pieces)

    @property
    def texts(self) -> int:
        return len(self._starts)

    def encode(self, quoted: str) -> bytes:
        """A quotation as it would stand in `data`."""
        return encoded(_SPACE.sub(" ", quoted) if self.fold else quoted)

    def places(self, pattern: bytes) -> Iterator[int]:
        """Where `pattern` begins in `data`, in order; no place of an empty one."""
        at = self.data.find(pattern) if pattern else -1
        while at >= 0:
            yield at
            at = self.data.find(pattern, at + 1)

    def span(self, start: int, end: int) -> Span:
        """The source of bytes `start` to `end`, which lie in one text and hold whole characters."""
        text = bisect_right(self._starts, start) - 1
        first = self._starts[text]
        found = self._sources[text]
        if self.fold:
            origin = self._origins[text]
            begin, last = int(origin[start - first]), int(origin[end - first - 1])
            stop = found.offset + last + 1
        else:
            begin = len(self.data[first:start].decode())
            stop = found.offset + begin + len(self.data[start:end].decode())
        begin += found.offset
        page = bisect_right(found.pages, begin, key=lambda entry: entry[0]) - 1
        return Span(found.source, begin, stop, found.pages[page][1] if page >= 0 else None)

    def around(self, anchor: int, start: int, end: int) -> tuple[int, int]:
        """`start` and `end` moved into the text that byte `anchor` lies in, and outward to whole
        characters."""
        text = bisect_right(self._starts, anchor) - 1
        first = self._starts[text]
        last = self._starts[text + 1] - 1 if text + 1 < self.texts else len(self.data) - 1
        start, end = min(max(start, first), last), min(max(end, first), last)
        while start > first and 0x80 <= self.data[start] < 0xC0:
            start -= 1
        while end < last and 0x80 <= self.data[end] < 0xC0:
            end += 1
        return start, end


def joined(texts: Iterable[SourceText]) -> Iterator[SourceText]:
    """Texts of one source that follow each other without a gap, as one.

    They may come in any order; texts without a source stay as they are.
    """
    by_source: dict[tuple[str, str], list[SourceText]] = {}
    for text in texts:
        if text.source:
            by_source.setdefault((text.source, text.version), []).append(text)
        else:
            yield text
    for parts in by_source.values():
        parts.sort(key=lambda part: part.offset)
        run: list[SourceText] = []
        end = -1
        for part in parts:
            if run and part.offset != end:
                yield _join(run)
                run = []
            run.append(part)
            end = part.offset + len(part.text)
        yield _join(run)


def _join(parts: Sequence[SourceText]) -> SourceText:
    pages = tuple(page for part in parts for page in part.pages)
    return parts[0]._replace(text="".join(part.text for part in parts), pages=pages)


def stored_texts(memory: Any, at: float | None = None) -> Iterator[SourceText]:
    """The texts of a `Memory`; with `at` (unix seconds) those alone that are valid then. What has
    no source is called after its number."""
    for item in memory.items():
        begins, ends = item.valid_from, item.valid_to
        if at is not None and not (
            (begins is None or begins <= at) and (ends is None or at < ends)
        ):
            continue
        source, version = item.source or f"item {item.id}", str(item.meta.get("document", ""))
        page = item.meta.get("page")
        pages = ((item.offset, page),) if isinstance(page, int) else ()
        yield SourceText(source, item.text, item.offset, version, pages)


def encoded(text: str) -> bytes:
    """UTF-8; what cannot stand in any text (half a surrogate pair) becomes bytes never found."""
    return text.encode("utf-8", errors="surrogatepass")


def _folded(text: str) -> "tuple[bytes, np.ndarray]":
    """UTF-8 with every run of white space as one space, and for each byte the place of its
    character in `text`."""
    import numpy as np

    points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    space = np.isin(points, _space_points())
    kept = np.flatnonzero(~(space & np.concatenate([[False], space[:-1]])))
    folded = np.where(space[kept], 32, points[kept]).astype("<u4")
    lengths = 1 + (folded >= 0x80) + (folded >= 0x800) + (folded >= 0x10000)
    data = encoded(folded.tobytes().decode("utf-32-le", errors="surrogatepass"))
    return data, np.repeat(kept, lengths)


def _space_points() -> "np.ndarray":
    import numpy as np

    return np.array([point for point in range(0x3001) if _SPACE.fullmatch(chr(point))], dtype="<u4")
