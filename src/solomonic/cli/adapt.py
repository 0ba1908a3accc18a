"""`solomonic adapt DOC --save DELTA`: what a model learns from a document, as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Settings
from solomonic.cli.read import Model, load_model, read_text
from solomonic.core import ConfigError, DataError

if TYPE_CHECKING:
    from solomonic.lm.adapt import AdaptConfig, AdaptResult


def adapt(
    document: Annotated[
        str, typer.Argument(metavar="DOC", help="Text, Markdown, HTML or PDF; '-' is stdin.")
    ],
    save: Annotated[Path, typer.Option(metavar="DELTA", help="File of the changes.")],
    model: Model = None,
    memory: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Learn from its nearest chunks first.")
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

    name, text, digest = read_text(document)
    found, tokenizer, _ = load_model(model)
    for path in over or ():
        Delta.load(path).apply(found)
    store = _open(memory)
    try:
        result = adapt(
            found, text,
            tokenizer=tokenizer, memory=store, budget_seconds=seconds,
            config=config_of(settings, methods),
        )  # fmt: skip
    finally:
        if store is not None:
            store.close()
    if result.delta is None:
        raise DataError("there was no time for a single step; give more --seconds.")
    notes = {"document": name, "sha256": digest} | dict(result.delta.notes)
    delta = Delta(
        fingerprint=result.delta.fingerprint,
        changes=result.delta.changes,
        over=result.delta.over,
        notes=notes,
    )
    delta.save(save)
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


def _open(path: Path | None) -> Any:
    if path is None:
        return None
    from solomonic.memory import Memory

    if not path.exists():
        raise DataError(f"there is no memory at {path}; make one with `solomonic memory add`.")
    return Memory.open(path, read_only=True)


def _report(result: AdaptResult, save: Path, json: bool) -> None:
    size = save.stat().st_size
    if json:
        console.emit(result.to_json() | {"file": str(save), "bytes": size})
        return
    for line in result.report():
        console.say(line)
    console.say(f"{save}: {console.show_bytes(size)}")
