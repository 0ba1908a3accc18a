"""`solomonic gen universal`: training text from a universal source."""

from __future__ import annotations

import json as json_form
from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Seed
from solomonic.core import ConfigError, require, write_whole

app = typer.Typer(help="Make training data.", no_args_is_help=True)

_MOST = 36  # symbols that have a digit
_SETTINGS = ".universal.json"  # hidden: no training reads it


@app.callback()
def options() -> None:
    """A group even while it has one command."""


@app.command()
def universal(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    count: Annotated[int, typer.Option(help="Sequences in all.")] = 10_000,
    length: Annotated[int, typer.Option(help="Symbols a sequence.")] = 256,
    alphabet: Annotated[int, typer.Option(help="Symbols there are: 2 to 36.")] = 2,
    cells: Annotated[int, typer.Option(help="Cells of the machine's ring.")] = 200,
    shard: Annotated[int, typer.Option(help="Sequences a file.")] = 10_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Outputs of programs drawn from the universal prior, as JSONL that `train lm --data` reads.

    A record is {"text": "0110..."}, a digit a symbol. Shards that are there are kept, so a killed
    run goes on with the same command, and another one is refused; equal seeds give equal shards.
    """
    require(
        count >= 1 and shard >= 1 and length >= 1, "--count, --shard and --length are at least 1."
    )
    if not 2 <= alphabet <= _MOST:
        raise ConfigError(f"--alphabet {alphabet} must be from 2 to {_MOST}.")
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; give a folder.")
    settings = {
        "count": count, "length": length, "alphabet": alphabet, "cells": cells, "shard": shard,
        "seed": seed,
    }  # fmt: skip
    _same_run(out / _SETTINGS, settings)
    files = -(-count // shard)
    made = 0
    for index in range(files):
        wanted = min(shard, count - index * shard)
        path = out / f"universal-{index:05d}.jsonl"
        if not path.exists():
            write_whole(path, _shard(wanted, length, alphabet, cells, seed + (index << 40)))
            made += 1
            console.say(f"{path}: {wanted:,} sequences")
    record = {"out": str(out), "shards": files, "made": made, "sequences": count}
    if json:
        console.emit(record)
    else:
        console.say(f"Try: solomonic train lm --data {out} --out model --minutes 10")


def _same_run(file: Path, settings: dict[str, int]) -> None:
    """Keep the settings of a folder's shards; what is there must have been made with the same.

    Raises:
        ConfigError: the folder holds shards of other settings.
        StorageError: it cannot be written.
    """
    if file.exists():
        for name, value in json_form.loads(file.read_bytes()).items():
            if settings.get(name) != value:
                raise ConfigError(
                    f"{file.parent} holds sequences of another run (--{name} {value}, not "
                    f"{settings.get(name)}); choose another --out."
                )
    else:
        write_whole(file, json_form.dumps(settings).encode())


def _shard(count: int, length: int, alphabet: int, cells: int, seed: int) -> bytes:
    from solomonic.evals.regret import DIGITS
    from solomonic.induction.sources import machine_outputs

    digits = DIGITS.encode()
    found = machine_outputs(count, length, alphabet=alphabet, cells=cells, seed=seed)
    lines = [
        json_form.dumps({"text": bytes(digits[symbol] for symbol in one).decode()}) for one in found
    ]
    return ("\n".join(lines) + "\n").encode()
