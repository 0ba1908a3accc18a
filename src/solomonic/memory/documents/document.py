"""A document as a file: what kind it is, who it is (by its bytes), and its text in parts."""

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from solomonic.core import ConfigError, DataError
from solomonic.memory.documents import encodings, markdown
from solomonic.memory.documents.part import Part

KINDS = ("text", "markdown", "html", "pdf")
_ENDINGS = {
    ".pdf": "pdf",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".xht": "html",
    ".md": "markdown", ".markdown": "markdown", ".mdown": "markdown", ".mkd": "markdown",
}  # fmt: skip
_TEXTS = {
    ".txt", ".text", ".rst", ".org", ".adoc", ".tex", ".log", ".csv", ".tsv", ".json", ".jsonl",
    ".yaml", ".yml", ".toml", ".ini", ".py", ".c", ".h", ".cpp", ".rs", ".go", ".js", ".ts",
    ".java", ".sh", ".sql", ".srt", ".vtt",
}  # fmt: skip
_PAGE = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.I | re.S)


@dataclasses.dataclass(frozen=True)
class Document:
    """A readable document.

    Attributes:
        source: what citations call it.
        kind: one of `KINDS`.
        sha256: of its bytes.
        size: bytes.
        encoding: of its characters; "" for PDF, and for HTML where the page itself says it.
        place: the file, or the bytes themselves.
        password: that opens it.
    """

    source: str
    kind: str
    sha256: str
    size: int
    encoding: str
    place: Path | bytes = dataclasses.field(repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)

    def parts(self) -> Iterator[Part]:
        """The extracted text in order; text and Markdown are never in memory whole.

        Raises:
            DataError: the file cannot be read (again), is broken, or holds no text.
            ConfigError: a package that reads this kind is not installed.
        """
        with _opened(self.place, self.source) as stream:
            yield from self._parts(stream)

    def _parts(self, stream: BinaryIO) -> Iterator[Part]:
        if self.kind == "pdf":
            from solomonic.memory.documents import pdf

            yield from pdf.pages(stream, self.source, self.password)
        elif self.kind == "html":
            from solomonic.memory.documents import html

            tree = html.parse(stream.read(), self.source, self.encoding or None)
            yield from html.sections(tree)
        else:
            blocks = encodings.decoded(stream, self.encoding, self.source)
            if self.kind == "markdown":
                yield from markdown.sections(blocks)
            else:
                yield from map(Part, blocks)


def open_document(
    place: str | Path | bytes,
    *,
    source: str | None = None,
    kind: str | None = None,
    encoding: str | None = None,
    password: str | None = None,
) -> Document:
    """Look at a document: one pass over its bytes. Its text is read by `Document.parts`.

    Args:
        place: a file, or the bytes of one.
        source: what citations call it; the file's absolute path by default.
        kind: one of `KINDS`; by default what its bytes and then its name say.
        encoding: of text and HTML; found by default (see `encodings`).
        password: of a PDF.

    Raises:
        DataError: missing, unreadable, binary, or of an unknown encoding.
        ConfigError: `kind` is unknown.
    """
    path = place if isinstance(place, bytes) else Path(place)
    name = source or ("standard input" if isinstance(path, bytes) else str(path.absolute()))
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"there is no kind of document '{kind}'; use {', '.join(KINDS)}.")
    encoding = encodings.check_encoding(encoding)
    with _opened(path, name) as stream:
        try:
            beginning = stream.read(4096)
            found = kind or _kind(beginning, path)
            stream.seek(0)
            if found in ("pdf", "html"):
                survey = encodings.Survey(*encodings.identity(stream), encoding or "")
            else:
                survey = encodings.survey(stream, encoding)
        except OSError as error:
            raise DataError(f"cannot read {name} ({error.strerror}); check the disk.") from None
    if survey.encoding is None:
        raise DataError(
            f"{name} is binary or text of an unknown encoding; text, Markdown, HTML and PDF can "
            "be read (name the encoding if it is text)."
        )
    return Document(
        name, found, survey.sha256, survey.size, survey.encoding, path, password=password
    )


def read_document(document: Document) -> str:
    """All of the extracted text: what offsets of passages count in."""
    return "".join(part.text for part in document.parts())


def list_files(place: Path) -> list[Path]:
    """A file itself; of a folder, the documents in and below it by their endings, sorted. Hidden
    files and folders are left out.

    Raises:
        DataError: nothing there, or a folder without documents.
    """
    if not place.is_dir():
        return [place]
    known = _TEXTS | set(_ENDINGS)
    found = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in known
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
        and path.is_file()
    )
    if not found:
        raise DataError(
            f"the folder {place} holds no documents by their endings (.txt, .md, .html, .pdf ...); "
            "name the files one by one."
        )
    return found


def _kind(beginning: bytes, path: Path | bytes) -> str:
    """By the bytes where they are unmistakable, else by the name."""
    if b"%PDF-" in beginning[:1024]:
        return "pdf"
    ending = "" if isinstance(path, bytes) else path.suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    return "html" if ending not in _TEXTS and _PAGE.match(beginning) else "text"


def _opened(place: Path | bytes, name: str) -> BinaryIO:
    if isinstance(place, bytes):
        return io.BytesIO(place)
    try:
        return place.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {name} ({error.strerror}); check the path.") from None
