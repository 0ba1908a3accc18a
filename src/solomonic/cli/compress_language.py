"""`solomonic compress` for language models: rounded, calibrated on text, or trained on it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.cli import console
from solomonic.cli.compress import WARMUP, stored_or_new, summary, tell
from solomonic.cli.options import budget, has_run
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.compress.matrix import QuantisedMatrix
    from solomonic.lm.data import TokenData
    from solomonic.lm.model import LanguageModel
    from solomonic.recipes.compress_language import LanguageCompressRun
    from solomonic.text import Tokenizer
    from solomonic.train import TrainResult

_FIXED = ("compress", "start", "calibration_batches", "length", "share", "temperature")


def compress_language(
    source: Path,
    out: Path,
    folder: Path,
    given: dict[str, Any],
    *,
    data: list[str] | None,
    dev: list[str] | None,
    noise: str | None,
    calibrate: bool,
    minutes: float | None,
    device: str,
    resume: bool,
    json: bool,
) -> None:
    """Make a language model small; arguments as the command's, `folder` for what is read and the
    run."""
    from solomonic.lm.any_model import load_any
    from solomonic.lm.device_file import write_device_model
    from solomonic.recipes.compress_language import LanguageCompressRun

    if noise is not None:
        raise ConfigError(f"{source} is a language model, which hears no noise; leave it out.")
    model, tokenizer, _ = load_any(source)
    result = None
    if not data or calibrate:
        run = LanguageCompressRun().changed(given)
        small, matrices = model, _at_once(run, model, tokenizer, data, dev, folder)
    else:
        going_on = has_run(folder, resume)
        steps = given.get("steps")
        given = budget(minutes, steps, None if going_on else WARMUP) | given
        run = stored_or_new(folder, going_on, source, given, LanguageCompressRun, _FIXED)
        tokens = _tokens(data, dev, tokenizer, folder)
        small, matrices, result = _by_training(
            run, model, tokenizer, tokens, folder, source,
            device=console.choose_device(device), resume=resume,
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    identity = write_device_model(out, small, tokenizer, matrices)
    parameters = sum(p.numel() for p in model.parameters())
    record = {"identity": identity, **summary(parameters, matrices, out)}
    if result is not None:
        record |= {"steps": result.step, "seconds": round(result.seconds, 1), "best": result.best}
    tell(record, json)
    if not json:
        console.say(f"Try: solomonic inspect {shlex.quote(str(out))}")


def _at_once(
    run: LanguageCompressRun,
    model: LanguageModel,
    tokenizer: Tokenizer,
    data: list[str] | None,
    dev: list[str] | None,
    folder: Path,
) -> dict[str, QuantisedMatrix]:
    from solomonic.recipes.compress_language import language_at_once, language_calibration

    if not data:
        if run.compress.sparsity:
            console.say("without --data nothing makes up for the zeros; measure what they cost")
        return language_at_once(model, run.compress)
    tokens = _tokens(data, dev, tokenizer, folder)
    moments = language_calibration(run, model, tokenizer, tokens)
    return language_at_once(model, run.compress, moments)


def _tokens(
    data: list[str], dev: list[str] | None, tokenizer: Tokenizer, folder: Path
) -> TokenData:
    """The text in the model's tokens, kept in the run's folder."""
    from solomonic.lm.data import DataConfig, prepare

    if len(data) > 1 or len(dev or ()) > 1:
        raise ConfigError(
            "a language model is trained on one text; give --data and --dev once, as a file or a "
            "folder of them."
        )
    config = DataConfig(path=data[0], valid=dev[0] if dev else None)
    return prepare(config, tokenizer, folder / "data")


def _by_training(
    run: LanguageCompressRun,
    model: LanguageModel,
    tokenizer: Tokenizer,
    tokens: TokenData,
    folder: Path,
    source: Path,
    *,
    device: str,
    resume: bool,
) -> tuple[LanguageModel, dict[str, QuantisedMatrix], TrainResult]:
    """Train, and read back the best finished model; progress on standard error."""
    from solomonic.cli.compress_run import run_training
    from solomonic.recipes.compress_language import finished_language, language_task

    def build(begun: LanguageCompressRun) -> Any:
        return language_task(begun, model, tokenizer, tokens, device)

    result = run_training(run, build, folder, source, resume)
    small, matrices = finished_language(folder)
    return small, matrices, result
