"""`solomonic train lm`: a language model from text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console, train_asr, train_parts
from solomonic.cli.options import Device, Json, Settings, budget, has_run
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.lm.data import DataConfig
    from solomonic.recipes.lm import LmRun
    from solomonic.train import TrainResult

app = typer.Typer(help="Train a model.", no_args_is_help=True)
RECIPES = ("small", "base", "debug")
_WARMUP = 50  # steps of a run that the clock ends, where it cannot be a share of them

app.command()(train_asr.asr)
app.command()(train_parts.context)
app.command()(train_parts.endpoint)


@app.command()
def lm(
    data: Annotated[Path, typer.Option(help="Text file, folder of them, or JSONL (also .gz).")],
    out: Annotated[Path, typer.Option(help="Folder for the model, its log and checkpoints.")],
    recipe: Annotated[
        str | None, typer.Option(help="Where settings start from: small (default), base, debug.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="One letter a layer, repeated to --layers: T, W, M, D, F or B."),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers.")] = None,
    width: Annotated[int | None, typer.Option(help="Width (hidden_size).")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads; divides the width.")] = None,
    window: Annotated[int | None, typer.Option(help="Tokens a window shows.")] = None,
    slots: Annotated[int | None, typer.Option(help="Eidetic slots a layer.")] = None,
    length: Annotated[int | None, typer.Option(help="Tokens a row of a batch.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a batch.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock budget.")] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Train a BPE of this size on the text (default: bytes).")
    ] = None,
    text_key: Annotated[str, typer.Option(help="Key of a JSONL record's text.")] = "text",
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and batches.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a language model on text; `generate`, `eval` and Transformers read what it writes.

    A run that was killed goes on with the same command and `--resume`.
    """
    stored = _stored(out, resume)
    given = console.given(
        hidden_size=width,
        num_attention_heads=heads,
        window_size=window,
        eidetic_slots=slots,
        length=length,
        batch_size=batch_size,
        steps=steps,
        vocab_size=vocab_size,
        seed=seed,
    )
    given |= budget(minutes, steps, None if stored else _WARMUP)
    given |= console.parse_settings(settings or [])
    text = _text(data, text_key, given)
    start = stored or _recipe(recipe)
    if pattern is not None or layers is not None:
        given["pattern"] = start.model.pattern if pattern is None else pattern
    run = start.changed(given, layers)
    if stored is not None:
        _check_same(stored, run, recipe)
    result = train_lm(run, text, out, device=console.choose_device(device), resume=resume)
    _report(result, run, json)


def _text(data: Path, text_key: str, given: dict[str, Any]) -> DataConfig:
    """What to read; settings of it are taken out of `given`."""
    from solomonic.lm.data import DataConfig
    from solomonic.recipes.settings import sort_settings

    config = DataConfig(path=str(data), text_key=text_key)
    own = {name: given.pop(name) for name in ("valid", "valid_fraction") if name in given}
    return config.replace(**sort_settings(own, config)[0])


def _recipe(name: str | None) -> LmRun:
    from solomonic.recipes import debug
    from solomonic.recipes import lm as recipes

    known = {"small": recipes.small, "base": recipes.base, "debug": debug.language_model}
    if name is not None and name not in known:
        raise ConfigError(f"recipe '{name}' is unknown; use one of {', '.join(known)}.")
    return known[name or "small"]()


def _stored(out: Path, resume: bool) -> LmRun | None:
    """The run to go on with, if there is one.

    Raises:
        ConfigError: a run is there that nobody asked to go on with.
    """
    from solomonic.recipes.lm import load_run

    return load_run(out) if has_run(out, resume) else None


def _check_same(stored: LmRun, run: LmRun, recipe: str | None) -> None:
    """A resumed run keeps its model; `solomonic.train` checks the rest."""
    if recipe is not None:
        raise ConfigError(
            "--recipe starts a run, and --resume goes on with one; leave --recipe out."
        )
    before, now = stored.model.to_json(), run.model.to_json()
    for name in before:
        if before[name] != now[name]:
            raise ConfigError(
                f"{name} = {now[name]} differs from {before[name]} of the run being resumed; leave "
                "it out or choose another --out."
            )
    if stored.length != run.length:
        raise ConfigError(
            f"length = {run.length} differs from {stored.length} of the run being resumed; leave "
            "it out or choose another --out."
        )


def train_lm(
    run: LmRun,
    data: DataConfig,
    out: Path,
    device: str = "cpu",
    resume: bool = False,
    label: str = "training",
) -> TrainResult:
    """Tokenise, build, train and write; progress goes to standard error.

    With `resume` it goes on from the newest checkpoint in `out`, if there is one.
    """
    from solomonic.cli.progress import Watched
    from solomonic.recipes.lm import build_task, load_run, save_run
    from solomonic.train import train

    # Any: `Task.model` is assignable by its protocol, so to the checker no subclass will do.
    task: Any = build_task(run, data, out, device=device)
    if load_run(out) is None or not resume:
        save_run(run, out)
    going_on: Any = "auto" if resume else False
    if run.train.max_seconds is None:
        result = train(task, run.train, out, resume=going_on)
    else:
        with Watched(task, seconds=run.train.max_seconds, label=label) as watched:
            result = train(watched, run.train, out, resume=going_on, progress=False)
    save_run(run, out)  # what a resume changed is recorded only once `train` has accepted it
    return result


def _report(result: TrainResult, run: LmRun, json: bool) -> None:
    record = result_record(result, run)
    if json:
        console.emit(record)
    else:
        rows = [(name, value) for name, value in record.items() if not isinstance(value, dict)]
        best = record["best"] or {}
        rows += [(f"held-out {name}", best[name]) for name in _SHOWN if name in best]
        console.table("Trained" if not result.interrupted else "Interrupted", ("", ""), rows)
        out = shlex.quote(str(result.out_dir))
        console.say(f"Try: solomonic generate {out} --prompt 'Once'")
    if result.interrupted:
        console.say("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(130)


_SHOWN = ("loss", "bits_per_byte", "perplexity")


def result_record(result: TrainResult, run: LmRun) -> dict[str, Any]:
    """What `--json` prints of a finished run."""
    from solomonic.evals.measure import config_state_bytes
    from solomonic.recipes import count_parameters

    return {
        "out": str(result.out_dir),
        "pattern": run.model.layers,
        "parameters": count_parameters(run.model),
        "state_bytes": config_state_bytes(run.model),
        "steps": result.step,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
        "precision": result.precision,
        "loss": result.loss,
        "best": result.best,
        "evaluation": result.evaluation,
        "checkpoint": str(result.checkpoint),
    }
