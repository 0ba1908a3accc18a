"""`solomonic memory add STORE FILE...`: documents into a memory, with progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.memory_options import LM, Store, moment, opened, read_embedder
from solomonic.cli.options import Json
from solomonic.core import ConfigError, DataError, SolomonicError

if TYPE_CHECKING:
    from solomonic.memory import Memory
    from solomonic.memory.documents import Document
    from solomonic.memory.documents.keeping import Added


def add(
    store: Store,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Documents or folders; '-' is standard input."),
    ],
    name: Annotated[
        str | None, typer.Option(help="What citations call it, instead of its path (one document).")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="text, markdown, html or pdf; by default as it looks.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of text and HTML; found by default.")
    ] = None,
    password: Annotated[str | None, typer.Option(help="That opens a PDF.")] = None,
    size: Annotated[int, typer.Option(help="Most characters of a passage.")] = 1000,
    valid_from: Annotated[
        str | None, typer.Option(metavar="DATE", help="What it says holds from then on (ISO, UTC).")
    ] = None,
    valid_to: Annotated[
        str | None, typer.Option(metavar="DATE", help="What it says holds no longer.")
    ] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep older versions of a changed document too.")
    ] = False,
    lm: LM = None,
    json: Json = False,
) -> None:
    """Add documents: text, Markdown, HTML and PDF, cut into verbatim passages with their places.

    A document added twice is stored once; an interrupted adding goes on when it is repeated; a
    changed document replaces what was added from the same path before.
    """
    from solomonic.memory.documents import PassageConfig

    valid = (moment(valid_from, "--valid-from"), moment(valid_to, "--valid-to"))
    reading = {"source": name, "kind": kind, "encoding": encoding, "password": password}
    places = _places(files, name)
    embedder = None if lm is None else read_embedder(lm)
    settings = {
        "config": PassageConfig(size=size), "embed": embedder, "valid": valid, "keep_old": keep_old,
    }  # fmt: skip
    with opened(store, dim=embedder and embedder.dim) as memory, Progress(places, json) as shown:
        if embedder:
            from solomonic.lm.embed import claim_vectors

            claim_vectors(memory, embedder)
        results, failures = _add_all(memory, places, reading, settings, shown)
    if json:
        console.emit({"documents": results})
    if failures and len(places) == 1:
        raise failures[0]
    if failures:
        raise DataError(
            f"{len(failures)} of {len(places)} documents were refused; the others are in {store}."
        )


def _add_all(
    memory: Memory,
    places: list[Path | bytes],
    reading: dict[str, Any],
    settings: dict[str, Any],
    shown: Progress,
) -> tuple[list[dict[str, Any]], list[DataError]]:
    """What became of each document, and why some were refused; those keep no other from coming."""
    from solomonic.memory.documents import open_document
    from solomonic.memory.documents.keeping import add_document

    results: list[dict[str, Any]] = []
    failures: list[DataError] = []
    for place in places:
        try:
            document = open_document(place, **reading)
            shown.begin(document)
            added = add_document(memory, document, **settings, watch=shown.passages)
        except DataError as error:
            failures.append(error)
            file = "-" if isinstance(place, bytes) else str(place)
            results.append({"file": file, "status": "refused", "error": str(error)})
            shown.refuse(error)
        else:
            results.append(_record_of(added, document))
            shown.done(added, document)
    return results, failures


def _places(files: list[str], name: str | None) -> list[Path | bytes]:
    from solomonic.memory.documents import list_files

    places: list[Path | bytes] = []
    for file in files:
        places += [sys.stdin.buffer.read()] if file == "-" else list_files(Path(file))
    if name is not None and len(places) != 1:
        raise ConfigError(f"--name is for one document, and there are {len(places)}.")
    return places


def _record_of(added: Added, document: Document) -> dict[str, Any]:
    return {
        "file": document.source,
        "source": added.source,
        "status": added.status,
        "kind": document.kind,
        "encoding": document.encoding,
        "passages": added.passages,
        "written": added.written,
        "forgotten": added.forgotten,
        "characters": added.characters,
    }


class Progress:
    """How far `add` is: a bar where somebody watches, else a line for each document."""

    def __init__(self, places: list[Path | bytes], json: bool) -> None:
        self.quiet, self.total, self.source = json, len(places), ""
        self._bar: Any = None

    def __enter__(self) -> Progress:
        notes = console.notes()
        if notes.is_terminal and not self.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
            self._bar = Progress(*columns, console=notes, transient=True)
            self._row = self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, document: Document) -> None:
        self.source = Path(document.source).name
        self.passages(0)

    def passages(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(self._row, description=f"{self.source}: {count:,} passages")

    def done(self, added: Added, document: Document) -> None:
        count = f"{added.passages:,} passage{'' if added.passages == 1 else 's'}"
        text = f"{document.source}: {count}, {added.characters:,} characters"
        if added.status == "known":
            also = "" if added.source == document.source else f" as {added.source}"
            text = f"{document.source}: already there{also} ({count})"
        elif added.status == "resumed":
            text += f" (gone on with; {added.written:,} new)"
        elif added.status == "replaced":
            text += f" (replaces {added.forgotten:,} of an older version)"
        if document.encoding not in ("", "utf-8", "utf-8-sig"):
            text += f", read as {document.encoding}"
        self._say(text)

    def refuse(self, error: SolomonicError) -> None:
        if self.total > 1:  # else it is the error that ends the command
            self._say(f"refused: {error}")

    def _say(self, text: str) -> None:
        if not self.quiet:
            (self._bar.console.print if self._bar else console.say)(text)
        if self._bar is not None:
            self._bar.advance(self._row)
