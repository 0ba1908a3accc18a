"""`solomonic adapt DOC --save DELTA`: what a model learns from a document, as a file of its own."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.documents import Document, Model, load_model, read_text
from solomonic.cli.memory_options import opened
from solomonic.cli.options import Json, Settings
from solomonic.core import ConfigError, DataError

if TYPE_CHECKING:
    from solomonic.lm.adapt import AdaptConfig, AdaptResult


def adapt(
    document: Document,
    save: Annotated[Path, typer.Option(metavar="DELTA", help="File of the changes.")],
    model: Model = None,
    memory: Annotated[
        str | None, typer.Option(metavar="STORE", help="Learn from its nearest chunks first.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop learning after so long.")] = None,
    over: Annotated[
        list[Path] | None,
        typer.Option(metavar="DELTA", help="Learn on top of this one; may be repeated."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="a,b", help="Of examples, neighbours, dynamic.")
    ] = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Let a model learn from a document while it reads it, and keep what it learned.

    The model itself stays as it is. `solomonic generate DIR --adapt DELTA` uses the changes; no
    other model takes them. `--set rate=0.0003`, `--set parameters=norms` and so on change how.
    """
    from solomonic.lm.adapt import Delta, adapt

    given = read_text(document)
    config = config_of(settings, methods)
    found, tokenizer, _ = load_model(model)
    for path in over or ():
        Delta.load(path).apply(found)
    with contextlib.ExitStack() as opening:
        result = adapt(
            found, given.text,
            tokenizer=tokenizer, budget_seconds=seconds, config=config,
            memory=opening.enter_context(opened(memory, read_only=True)) if memory else None,
        )  # fmt: skip
    if result.delta is None:
        raise DataError(
            "no step was made: examples change no weights, neighbours none where nothing is found; "
            "add dynamic to --methods."
            if result.finished
            else "there was no time for a single step; give more --seconds."
        )
    notes = {"document": given.name, "sha256": given.sha256, **result.delta.notes}
    dataclasses.replace(result.delta, notes=notes).save(save)
    _report(result, save, json)


def config_of(settings: list[str] | None, methods: str | None) -> AdaptConfig:
    """The settings of `--set` and `--methods`.

    Raises:
        ConfigError: one is unknown or out of range.
    """
    from solomonic.lm.adapt import AdaptConfig

    record: dict[str, Any] = console.parse_settings(settings or [])
    if methods is not None:
        record["methods"] = methods.replace(",", " ").split()
    try:
        return AdaptConfig.from_json(record)
    except TypeError as error:
        raise ConfigError(f"--set has a value of the wrong kind ({error}).") from error


def _report(result: AdaptResult, save: Path, json: bool) -> None:
    size = save.stat().st_size
    if json:
        console.emit(result.to_json() | {"file": str(save), "bytes": size})
        return
    for line in result.report():
        console.say(line)
    console.say(f"{save}: {console.show_bytes(size)}")
