"""Options that several commands share: one idea has one name, one help text and one default."""

from pathlib import Path
from typing import Annotated, Any

import typer

from solomonic.core import ConfigError

Checkpoint = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a trained model.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Device = Annotated[str, typer.Option(help="'cpu', 'cuda', or 'auto': the GPU where there is one.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
]

_UNLIMITED = 10_000_000  # steps of a run that the clock ends


def has_run(out: Path, resume: bool) -> bool:
    """Whether `out` holds a run to go on with.

    Raises:
        ConfigError: a run is there that nobody asked to go on with.
    """
    from solomonic.train import list_checkpoints

    found = list_checkpoints(out / "checkpoints")
    if found and not resume:
        raise ConfigError(
            f"{out} already holds a run ({found[-1].name}); add --resume to go on with it or "
            "choose another --out."
        )
    return bool(found)


def budget(minutes: float | None, steps: int | None, warmup: int | None) -> dict[str, Any]:
    """Settings of training that make the clock end a run.

    Args:
        warmup: of a run without a number of steps; None where it was chosen before (a resume).

    Raises:
        ConfigError: no time at all.
    """
    if minutes is None:
        return {}
    if minutes <= 0:
        raise ConfigError(f"--minutes {minutes} is no time to train in; give a positive number.")
    found: dict[str, Any] = {"max_seconds": 60.0 * minutes}
    if steps is None:
        found |= {"steps": _UNLIMITED} | ({} if warmup is None else {"warmup": warmup})
    return found
