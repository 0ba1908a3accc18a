"""`solomonic explain DIR`: which kernels run on this machine, and why no faster ones do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Checkpoint, Device, Json
from solomonic.core import ConfigError

DTYPES = ("float32", "bfloat16", "float64")


def explain(
    directory: Checkpoint,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(help="Type to compute in: 'float32', 'bfloat16' or 'float64'.")
    ] = "float32",
    json: Json = False,
) -> None:
    """Name the path of every op in training, prefill and decoding, and of text generation."""
    import torch

    from solomonic.kernels import native
    from solomonic.lm.paths import PHASES, engine, paths
    from solomonic.lm.pretrained import load_pretrained

    if dtype not in DTYPES:
        raise ConfigError(f"--dtype '{dtype}' is unknown; use one of {', '.join(DTYPES)}.")
    model, _ = load_pretrained(directory, device=console.choose_device(device))
    model.to(getattr(torch, dtype))
    core = native.load()
    name, why = engine(model)
    record: dict[str, Any] = {
        "directory": str(directory),
        "device": str(model.device),
        "dtype": dtype,
        "native_core": None
        if core is None
        else {"in_use": core.isa(), "available": core.isa_list().split()},
        "native_core_missing": native.why_not(),
        "generation": f"{name}; {why}",
        **paths(model),
    }
    if json:
        console.emit(record)
        return
    screen = console.screen()
    screen.print(f"{directory} on {record['device']} in {dtype}", markup=False)
    screen.print(f"native core: {_core(record)}", markup=False)
    screen.print(f"text generation: {record['generation']}", markup=False)
    for phase in PHASES:
        screen.print(f"\n[bold]{phase}[/bold]")
        for sentence in record[phase]:
            screen.print(f"  {sentence}", markup=False)


def _core(record: dict[str, Any]) -> str:
    core = record["native_core"]
    if core is None:
        return f"none; {record['native_core_missing']}"
    return f"{core['in_use']} (this processor can run {', '.join(core['available'])})"
