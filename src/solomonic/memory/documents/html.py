"""HTML to parts: the text that a reader sees, one part a section.

The whole page is parsed into a tree (beautifulsoup4 over Python's own parser, which never fails on
broken tags), so a page must fit in memory; `MAX_BYTES` is where this is refused. White space is
collapsed as in a browser, but for <pre>; blocks are separated by line ends.
"""

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from solomonic.core import ConfigError, DataError
from solomonic.memory.documents import encodings
from solomonic.memory.documents.markdown import Headings
from solomonic.memory.documents.part import Part, storable

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

MAX_BYTES = 64 << 20
"""Of a page. Its tree takes about ten times as much."""
_HIDDEN = {
    "script", "style", "template", "noscript", "title", "textarea", "select", "option", "svg",
    "math", "canvas", "object", "iframe", "audio", "video", "datalist",
}  # fmt: skip
_SPACED = {
    "p", "pre", "ul", "ol", "dl", "table", "blockquote", "figure", "section", "article", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6",
}  # fmt: skip
_LINES = {
    "address", "aside", "body", "caption", "dd", "details", "dialog", "div", "dt", "fieldset",
    "figcaption", "footer", "form", "header", "html", "legend", "li", "main", "nav", "summary",
    "tbody", "tfoot", "thead", "tr",
}  # fmt: skip
_CELLS = {"td", "th"}
_SPACE = re.compile("[ \t\n\r\f]+")  # not U+00A0, which is there to be kept


def parse(data: bytes, name: str, encoding: str | None = None) -> "BeautifulSoup":
    """The tree of a page.

    Raises:
        ConfigError: beautifulsoup4 is not installed.
        DataError: the page is too large, no text, or nothing that a parser accepts.
    """
    try:
        import bs4
        from bs4.exceptions import ParserRejectedMarkup
    except ImportError:
        raise ConfigError(
            "reading HTML needs beautifulsoup4; install it with: pip install 'solomonic[memory]'"
        ) from None
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{name} has {len(data):,} bytes, and a page must be parsed whole (at most "
            f"{MAX_BYTES:,}); split it, or convert it to text."
        )
    text = _decode(data, name, encoding)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XML, and text that looks like an address
            return bs4.BeautifulSoup(text, "html.parser")
    except (ParserRejectedMarkup, AssertionError, RecursionError) as error:
        raise DataError(f"{name} is no HTML that can be read ({error}); convert it to text.") from (
            None
        )


def sections(tree: "BeautifulSoup") -> Iterator[Part]:
    """The visible text, cut before headings; one with nothing under it stays with the next."""
    page = _Text()
    for kind, node in _walk(tree):
        if kind == "text":
            page.add(str(node), node.parent)
        elif node.name in _CELLS:
            if kind == "enter":  # </td> is often left out
                page.cell()
        elif node.name == "br":
            if kind == "enter":
                page.break_line()
        else:
            level = re.fullmatch("h([1-6])", node.name)
            if level and kind == "enter":
                yield from page.section(int(level[1]), node.get_text())
            elif level:
                page.filled = False
            if node.name in _SPACED:
                page.lines(2)
            elif node.name in _LINES:
                page.lines(1)
    yield from page.rest()


class _Text:
    """Collects text; white space is written only when more text follows it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.headings = Headings()
        self.title = ""
        self.filled = False  # something besides headings stands in this section
        self.begun = False
        self.gap = ""  # white space owed

    def add(self, text: str, parent: Any) -> None:
        if parent is not None and (parent.name == "pre" or parent.find_parent("pre")):
            lines = text.replace("\r\n", "\n").replace("\r", "\n")
            if body := lines.rstrip("\n"):
                self._write(body)
            self.gap += lines[len(body) :]
            return
        words = _SPACE.sub(" ", text)
        if words.startswith(" ") and not self.gap:
            self.gap = " "
        if stripped := words.strip(" "):
            self._write(stripped)
            self.gap = " " if words.endswith(" ") else ""

    def lines(self, count: int) -> None:
        if self.gap.count("\n") < count:
            self.gap = "\n" * count

    def break_line(self) -> None:
        self.gap = "\n" if "\n" not in self.gap else self.gap + "\n"

    def cell(self) -> None:
        if "\n" not in self.gap:
            self.gap = "\t"

    def section(self, level: int, title: str) -> Iterator[Part]:
        if self.filled:
            self.lines(2)
            self._space()
            yield from self.rest()
            self.begun = False  # the gap is written
        self.headings.enter(level, title)
        self.title = str(self.headings)

    def rest(self) -> Iterator[Part]:
        if self.pieces:
            yield Part(storable("".join(self.pieces)), section=self.title, whole=True)
        self.pieces, self.filled = [], False

    def _write(self, text: str) -> None:
        self._space()
        self.pieces.append(text)
        self.filled = self.begun = True

    def _space(self) -> None:
        if self.begun:  # no page or section begins with white space
            self.pieces.append(self.gap)
        self.gap = ""


def _walk(tree: "BeautifulSoup") -> Iterator[tuple[str, Any]]:
    """('enter' | 'leave', tag) and ('text', string) in order, without recursion; hidden elements,
    comments and declarations are left out."""
    from bs4.element import CData, NavigableString, Tag

    stack: list[tuple[Any, Iterator[Any]]] = [(None, iter([tree]))]
    while stack:
        owner, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            if owner is not None:
                yield "leave", owner
        elif isinstance(node, Tag):
            if node.name not in _HIDDEN:
                yield "enter", node
                stack.append((node, iter(node.contents)))
        elif type(node) in (NavigableString, CData):
            yield "text", node


def _decode(data: bytes, name: str, encoding: str | None) -> str:
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    for candidate in (encoding, encodings.marked(data), declared, "utf-8", encodings.WESTERN):
        if candidate is None:
            continue
        try:
            return data.decode(candidate)
        except UnicodeError as error:
            if candidate == encoding:
                raise DataError(f"{name} is no {encoding} text ({error}); name another.") from None
        except LookupError:  # a declared name that nobody knows
            continue
    raise DataError(f"{name} is binary or in an unknown encoding; name its encoding.")
