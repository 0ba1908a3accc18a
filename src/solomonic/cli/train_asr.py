"""`solomonic train asr`: a speech recogniser from recordings and what is said in them."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Device, Json, Settings, budget, has_run
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.recipes.asr import AsrRun, Prepared
    from solomonic.recipes.asr_data import AsrData
    from solomonic.train import TrainResult

# Parts that a resumed run keeps.
_FIXED = ("model", "task", "online", "branching", "copies", "held_out")


Data = Annotated[
    list[str],
    typer.Option(help="Manifest (JSONL of audio and text), or its folder; may be repeated."),
]
Recipe = Annotated[
    str | None,
    typer.Option(help="Where settings start from: small (default), lstm, bmojo, debug."),
]
Dev = Annotated[
    list[str] | None, typer.Option(help="Manifest to hold out (default: by the splits of --data).")
]
Weights = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=X", help="Read the set of this folder's name X times an epoch."),
]
Init = Annotated[
    Path | None, typer.Option(help="Trained model to go on from, with its word pieces.")
]


def asr(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the model, its log and checkpoints.")],
    recipe: Recipe = None,
    dev: Dev = None,
    noise: Annotated[str | None, typer.Option(help="Manifest of noise to train against.")] = None,
    weight: Weights = None,
    init: Init = None,
    vocab_size: Annotated[int | None, typer.Option(help="Word pieces, the blank included.")] = None,
    copies: Annotated[
        int | None, typer.Option(help="Perturbed copies to train on as well.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock budget of training.")] = None,
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and batches.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a streaming recogniser; `Recognizer.from_pretrained` reads what it writes.

    A run that was killed goes on with the same command and `--resume`.
    """
    from solomonic.recipes.asr import WARMUP
    from solomonic.recipes.asr_data import AsrData

    stored = _stored(out, resume)
    given = console.given(vocab_size=vocab_size, copies=copies, steps=steps, seed=seed)
    given |= budget(minutes, steps, WARMUP if stored is None else None)
    given |= console.parse_settings(settings or [])
    sources = AsrData(
        manifests=tuple(data), dev=tuple(dev or ()), noise=noise, weights=_weights(weight or [])
    )
    run = (stored or _start(recipe, init)).changed(given)
    if stored is not None:
        _check_same(stored, run, recipe)
    target = console.choose_device(device)
    start = None if stored else init
    prepared, result = train_asr(run, sources, out, device=target, resume=resume, init=start)
    _report(result, prepared, json)


def train_asr(
    run: AsrRun,
    data: AsrData,
    out: Path,
    device: str = "cpu",
    resume: bool = False,
    init: Path | None = None,
) -> tuple[Prepared, TrainResult]:
    """Compute features, build, train and write; progress goes to standard error.

    With `resume` it goes on from the newest checkpoint in `out`, if there is one.
    """
    from solomonic.cli.progress import Watched
    from solomonic.recipes.asr import build_task, save_run
    from solomonic.train import list_checkpoints, train

    going_on = resume and bool(list_checkpoints(out / "checkpoints"))
    prepared = build_task(
        run, data, out, device=device, resume=going_on, init=init, progress=Features()
    )
    _remark(prepared)
    # The record keeps the vocabulary as it was asked for, so that the same command goes on with it.
    if not going_on:
        save_run(run, out)
    # Any: `Task.model` is assignable by its protocol, so to the checker no subclass will do.
    subject: Any = prepared.task
    how: Any = "auto" if resume else False
    if run.train.max_seconds is None:
        result = train(subject, run.train, out, resume=how)
    else:
        with Watched(subject, seconds=run.train.max_seconds, label="training") as watched:
            result = train(watched, run.train, out, resume=how, progress=False)
    save_run(run, out)  # what a resume changed is recorded only once `train` has accepted it
    return prepared, result


class Features:
    """Tells how far the features have come: a line a bank, and now and then one between."""

    def __init__(self, pause: float = 10.0) -> None:
        self._pause, self._shown = pause, time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._shown >= self._pause:
            self._shown = now
            console.say(f"features: {name}, {done:,} of {total:,} recordings")


def _remark(prepared: Prepared) -> None:
    """What is trained on, what is left out and why, and what may come as a surprise."""
    trained, held = prepared.utterances
    console.say(f"{trained:,} recordings, {prepared.hours:.2f} h, and {held:,} held out")
    for reason, count in prepared.left_out.items():
        console.say(f"left out: {count:,} {reason}")
    if not held:
        console.say("nothing is held out, so the newest model is kept, not the best")
    config = prepared.run.task
    full = config.warm_steps + config.ramp_steps
    if prepared.run.train.max_seconds is None and prepared.run.train.steps <= full:
        console.say(
            f"{prepared.run.train.steps} steps are too few: the joint network learns in full from "
            f"step {full} on (warm_steps + ramp_steps)"
        )


def _start(recipe: str | None, init: Path | None) -> AsrRun:
    """The recipe's run, with the model's own configuration where one is gone on from."""
    from solomonic.recipes import asr as recipes
    from solomonic.recipes import debug

    known = {
        "small": recipes.small,
        "lstm": recipes.lstm,
        "bmojo": recipes.bmojo,
        "debug": debug.speech,
    }
    if recipe is not None and recipe not in known:
        raise ConfigError(f"recipe '{recipe}' is unknown; use one of {', '.join(known)}.")
    run = known[recipe or "small"]()
    return run if init is None else run.replace(model=recipes.model_of(init))


def _weights(pairs: list[str]) -> dict[str, float]:
    """['an4=1.5'] -> {'an4': 1.5}."""
    weights = {}
    for name, value in console.parse_settings(pairs).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"--weight {name}={value} is no number; write it as in an4=1.5.")
        weights[name] = float(value)
    return weights


def _stored(out: Path, resume: bool) -> AsrRun | None:
    """The run to go on with, if there is one.

    Raises:
        ConfigError: a run is there that nobody asked to go on with.
    """
    from solomonic.recipes.asr import load_run

    return load_run(out) if has_run(out, resume) else None


def _check_same(stored: AsrRun, run: AsrRun, recipe: str | None) -> None:
    """A resumed run keeps everything but how long it trains; `solomonic.train` checks the rest."""
    if recipe is not None:
        raise ConfigError(
            "--recipe starts a run, and --resume goes on with one; leave --recipe out."
        )
    before, now = stored.to_json(), run.to_json()
    for part in _FIXED:
        old, new = before[part], now[part]
        if not isinstance(old, dict):
            old, new = {part: old}, {part: new}
        for name in {**old, **new}:
            value = old.get(name)  # settings of a small branch are only there where it is
            if new.get(name) != value:
                raise ConfigError(
                    f"{name} = {new.get(name)} differs from {value} of the run being resumed; "
                    "leave it out or choose another --out."
                )


def _report(result: TrainResult, prepared: Prepared, json: bool) -> None:
    record = result_record(result, prepared)
    if json:
        console.emit(record)
    else:
        rows = [(name, value) for name, value in record.items() if not isinstance(value, dict)]
        best = record["best"] or {}
        rows += [("held-out loss", best["loss"])] if "loss" in best else []
        console.table("Trained" if not result.interrupted else "Interrupted", ("", ""), rows)
        out = shlex.quote(str(result.out_dir))
        console.say(f"Try: solomonic transcribe recording.wav --model {out}")
    if result.interrupted:
        console.say("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(130)


def result_record(result: TrainResult, prepared: Prepared) -> dict[str, Any]:
    """What `--json` prints of a finished run."""
    transducer = prepared.task.model.transducer
    settings = prepared.run.model
    return {
        "out": str(result.out_dir),
        "front": settings.front,
        "pattern": settings.pattern,
        "pieces": settings.vocab_size,
        "parameters": sum(p.numel() for p in transducer.parameters()),
        "utterances": prepared.utterances[0],
        "held_out": prepared.utterances[1],
        "hours": round(prepared.hours, 3),
        "left_out": prepared.left_out,
        "steps": result.step,
        "frames": result.tokens,
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
        "precision": result.precision,
        "loss": result.loss,
        "best": result.best,
        "checkpoint": str(result.checkpoint),
    }
