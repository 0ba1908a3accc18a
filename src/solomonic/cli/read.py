"""`solomonic read DOC --save S`: a document read once, kept as a state of constant size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import DataError

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.lm.reading import Reading
    from solomonic.text import Tokenizer

Model = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder or device file of a model; by default the small one that comes with us.",
    ),
]


def read(
    document: Annotated[
        str, typer.Argument(metavar="DOC", help="Text, Markdown, HTML or PDF; '-' is stdin.")
    ],
    save: Annotated[Path, typer.Option(metavar="S", help="State file to write.")],
    model: Model = None,
    load: Annotated[
        Path | None, typer.Option(metavar="S0", help="Go on from this state: read DOC after it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a state file of something else.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between saves while it reads.")] = 30.0,
    json: Json = False,
) -> None:
    """Read a document and keep what the model remembers of it.

    Ctrl-C keeps what has been read; the same command then goes on from there. Afterwards:
    `solomonic generate --load S`, `solomonic merge A B -o C`, `solomonic inspect S`.
    """
    from solomonic.lm.state_files import inspect_state, load_state

    name, text, digest = read_text(document)
    found, tokenizer, place = load_model(model)
    start = None if load is None else load_state(load, found, tokenizer)
    ids = tokenizer.encode(text)
    # A document that follows another begins behind the other's last token.
    ids = [*(start.notes.unread if start else ()), tokenizer.eos_id, *ids]
    reading = _reading(found, tokenizer, ids, save, (name, digest, place), start, every, overwrite)
    already = reading.finished
    interrupted = _run(reading, show=not json)
    record = inspect_state(save) | {"resumed": reading.resumed, "complete": reading.finished}
    if json:
        console.emit(record)
    elif already:
        console.say(f"{save} has read all of {name}; nothing was left to do.")
    if interrupted:
        console.say(f"interrupted: {save} keeps what was read; the same command goes on.")
        raise typer.Exit(130)


def _reading(
    model: LanguageModel,
    tokenizer: Tokenizer,
    tokens: list[int],
    save: Path,
    names: tuple[str, str, str],
    start: Any,
    every: float,
    overwrite: bool,
) -> Reading:
    import torch

    from solomonic.lm.reading import Reading
    from solomonic.lm.state_files import Document, StateNotes

    name, digest, place = names
    document = Document(name=name, tokens=len(tokens), read=0, digest=digest)
    engine = f"torch {torch.__version__} on {model.device}"
    notes = StateNotes(documents=(document,), model=place, engine=engine)
    return Reading(
        model, tokens, save, notes,
        tokenizer=tokenizer, start=start, every=every, replace=overwrite,
    )  # fmt: skip


def _run(reading: Reading, show: bool) -> bool:
    """Read to the end with a bar; whether Ctrl-C came first."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    progress = None
    bar = Progress(
        TextColumn("reading"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} tokens"),
        TimeRemainingColumn(),
        console=console.notes(),
        disable=not show or not sys.stderr.isatty(),
    )
    try:
        with bar:
            row = bar.add_task("", total=len(reading.tokens) - 1, completed=reading.resumed)
            for progress in reading:
                bar.update(row, completed=progress.read)
    except KeyboardInterrupt:
        return True
    if show and progress is not None:
        speed = (progress.read - progress.resumed) / max(progress.seconds, 1e-9)
        size = console.show_bytes(reading.path.stat().st_size)
        before = f" ({progress.resumed:,} of them before)" if progress.resumed else ""
        console.say(
            f"{progress.read:,} tokens read{before}, {speed:,.0f} a second; {reading.path}: {size}"
        )
    return False


def read_text(document: str) -> tuple[str, str, str]:
    """Name, text and SHA-256 of a document.

    Raises:
        DataError: missing, empty, binary, or broken.
    """
    from solomonic.memory.documents import open_document, read_document

    place = sys.stdin.buffer.read() if document == "-" else Path(document)
    opened = open_document(place)
    text = read_document(opened)
    if not text.strip():
        raise DataError(f"{opened.source} holds no text; give a document with some.")
    return opened.source, text, opened.sha256


def load_model(place: Path | None) -> tuple[LanguageModel, Tokenizer, str]:
    """A model in PyTorch, its tokenizer, and its absolute path.

    A device file's weights are multiplied out to float32: same model, more memory.

    Raises:
        CheckpointError: nothing there, or damaged.
    """
    from solomonic.lm.device_file import read_device_model
    from solomonic.lm.pretrained import load_pretrained
    from solomonic.lm.shipped import ASSISTANT

    place = ASSISTANT if place is None else place
    model, tokenizer = (read_device_model if place.is_file() else load_pretrained)(place)
    return model, tokenizer, str(place.resolve())
