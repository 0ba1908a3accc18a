"""The training run inside `solomonic compress`, the same for recognisers and language models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from solomonic.cli import console


def run_training(
    run: Any, build: Callable[[Any], Any], folder: Path, source: Path, resume: bool
) -> Any:
    """Train a compressed task, with progress on standard error; gives the `TrainResult`.

    Args:
        run: a `CompressRun` or `LanguageCompressRun`.
        build: makes the task of a run.
        folder: of the run; source: of the model, for the record.
        resume: go on from the newest checkpoint, where there is one.

    Raises:
        Exit: 130, after an interruption; the run can be resumed.
    """
    from solomonic.cli.progress import Watched
    from solomonic.recipes.compress import save_run
    from solomonic.train import train

    going_on = resume and (folder / "checkpoints").is_dir()
    # What calibration would find, the checkpoint has.
    task = build(run.replace(start="dense") if going_on else run)
    if not going_on:
        save_run(run, folder, source)
    how: Any = "auto" if resume else False
    if run.train.max_seconds is None:
        result = train(task, run.train, folder, resume=how)
    else:
        with Watched(task, seconds=run.train.max_seconds, label="compressing") as watched:
            result = train(watched, run.train, folder, resume=how, progress=False)
    save_run(run, folder, source)
    if result.interrupted:
        console.say("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(130)
    task.compressor.detach()
    return result
