"""What `read`, `adapt` and `generate` share: a document's text, and a model with its tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from solomonic.core import DataError

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.text import Tokenizer

Document = Annotated[
    str, typer.Argument(metavar="DOC", help="Text, Markdown, HTML or PDF; '-' is stdin.")
]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder or device file of a model; by default the small one that comes with us.",
    ),
]


class DocumentText(NamedTuple):
    """name: what people call it. text: all of it, extracted. sha256: of the document's bytes."""

    name: str
    text: str
    sha256: str


class LoadedModel(NamedTuple):
    """A model in PyTorch, its tokenizer, and the absolute path that they are from."""

    model: LanguageModel
    tokenizer: Tokenizer
    place: str


def read_text(document: str) -> DocumentText:
    """The text of a file, or of standard input ('-').

    Raises:
        DataError: missing, empty, binary, or broken.
    """
    from solomonic.memory.documents import open_document, read_document

    opened = open_document(sys.stdin.buffer.read() if document == "-" else Path(document))
    text = read_document(opened)
    if not text.strip():
        raise DataError(f"{opened.source} holds no text; give a document with some.")
    return DocumentText(opened.source, text, opened.sha256)


def load_model(place: Path | None) -> LoadedModel:
    """A model by its folder or device file; None or "shipped" is the package's own.

    Raises:
        CheckpointError: nothing there, or damaged.
    """
    from solomonic.lm.any_model import find_model, load_any

    found = find_model(place)
    model, tokenizer, _ = load_any(found)
    return LoadedModel(model, tokenizer, str(found.resolve()))
