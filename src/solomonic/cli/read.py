"""`solomonic read DOC --save S`: a document read once, kept as a state of constant size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solomonic.cli import console
from solomonic.cli.documents import Document, Model, load_model, read_text
from solomonic.cli.options import Json

if TYPE_CHECKING:
    from solomonic.lm.reading import Reading


def read(
    document: Document,
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
    import torch

    from solomonic.lm import state_files
    from solomonic.lm.reading import Reading

    given = read_text(document)
    found, tokenizer, place = load_model(model)
    start = None if load is None else state_files.load_state(load, found, tokenizer)
    # A document that follows another begins behind the other's last token.
    unread = start.notes.unread if start else ()
    tokens = [*unread, tokenizer.eos_id, *tokenizer.encode(given.text)]
    told = state_files.Document(name=given.name, tokens=len(tokens), read=0, digest=given.sha256)
    engine = f"torch {torch.__version__} on {found.device}"
    notes = state_files.StateNotes(documents=(told,), model=place, engine=engine)
    reading = Reading(
        found, tokens, save, notes,
        tokenizer=tokenizer, start=start, every=every, replace=overwrite,
    )  # fmt: skip
    already = reading.finished
    interrupted = _run(reading, show=not json)
    if json:
        about = {"resumed": reading.resumed, "complete": reading.finished}
        console.emit(state_files.inspect_state(save) | about)
    elif already:
        console.say(f"{save} has read all of {given.name}; nothing was left to do.")
    if interrupted:
        console.say(f"interrupted: {save} keeps what was read; the same command goes on.")
        raise typer.Exit(130)


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
