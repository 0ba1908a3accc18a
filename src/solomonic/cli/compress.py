"""`solomonic compress`: a recogniser or a language model as one small file for a device."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from solomonic.cli import console
from solomonic.cli.options import Device, Json, Settings, budget, has_run
from solomonic.core import CheckpointError, ConfigError

if TYPE_CHECKING:
    from solomonic.compress.matrix import QuantisedMatrix
    from solomonic.recipes.asr_data import AsrData, Banks
    from solomonic.recipes.compress import CompressRun
    from solomonic.recipes.compress_language import LanguageCompressRun
    from solomonic.speech.pretrained import SpeechModel
    from solomonic.train import TrainResult

_Run = TypeVar("_Run", "CompressRun", "LanguageCompressRun")
WARMUP = 50
"""Steps of warm-up of a run that the clock ends."""
_FIXED = (
    "compress", "task", "online", "distill", "start", "calibration_batches", "copies", "held_out"
)  # fmt: skip
_BY_CLOCK = ("steps", "max_seconds")  # what of them a resumed run may change


_Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Folder or device file of a speech or language model.",
        show_default=False,
    ),
]
_Sparsity = Annotated[float | None, typer.Option(help="Share of the weights that become zero.")]
_Pattern = Annotated[
    str | None, typer.Option(help="Of the zeros: vec16 (default), 2:4 or unstructured.")
]
_Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Only look at --data, do not train: a minute.")
]
_Data = Annotated[
    list[str] | None,
    typer.Option(
        help="Manifest (JSONL of audio and text) to train on; may be repeated. Of a language "
        "model: text, as for train lm."
    ),
]


def compress(
    model: _Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as m.solo.")],
    bits: Annotated[int | None, typer.Option(help="8, 6, 5 or 4 a weight (default: 4).")] = None,
    sparsity: _Sparsity = None,
    pattern: _Pattern = None,
    data: _Data = None,
    dev: Annotated[list[str] | None, typer.Option(help="Manifest or text to hold out.")] = None,
    noise: Annotated[str | None, typer.Option(help="Manifest of noise to train against.")] = None,
    calibrate: _Calibrate = False,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the training run (default: beside --out).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock budget of training.")] = None,
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the batches.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Make a model small: fewer bits, and zeros that cost nothing.

    With --data it is trained on while it shrinks, with itself as its teacher; without, its weights
    are rounded as they are, which 4 bits bear well and many zeros do not.
    """
    from solomonic.recipes.compress import CompressRun

    given = console.given(bits=bits, sparsity=sparsity, pattern=pattern, steps=steps, seed=seed)
    if sparsity and pattern is None:
        given["pattern"] = "vec16"
    given |= console.parse_settings(settings or [])
    _check_options(model, out, data, calibrate, steps, minutes, resume)
    folder = _beside(out, run)
    if _is_language_model(model):
        from solomonic.cli.compress_language import compress_language

        compress_language(
            model, out, folder, given, data=data, dev=dev, noise=noise, calibrate=calibrate,
            minutes=minutes, device=device, resume=resume, json=json,
        )  # fmt: skip
        return
    whole = _load(model)
    if not data or calibrate:
        source = _data(data, dev, noise) if data else None
        matrices = _at_once(CompressRun().changed(given), whole, source, folder)
        _report(whole, whole, matrices, out, None, json)
        return
    going_on = has_run(folder, resume)
    given = budget(minutes, steps, None if going_on else WARMUP) | given
    config = stored_or_new(folder, going_on, model, given, CompressRun, _FIXED)
    small, matrices, result = compress_by_training(
        config, whole, _data(data, dev, noise), folder, model,
        device=console.choose_device(device), resume=resume,
    )  # fmt: skip
    _report(whole, small, matrices, out, result, json)


def compress_by_training(
    run: CompressRun,
    model: SpeechModel,
    data: AsrData,
    folder: Path,
    source: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
) -> tuple[SpeechModel, dict[str, QuantisedMatrix], TrainResult]:
    """Compute features, train, and read back the best finished model; progress on standard error.

    Args:
        folder: of the run; source: of `model`, for the record.
    """
    from solomonic.cli.compress_run import run_training
    from solomonic.recipes.compress import build_task, finished

    banks = _banks(run, model, data, folder)

    def build(begun: CompressRun) -> Any:
        return build_task(begun, model, banks, device)

    result = run_training(run, build, folder, source, resume)
    model.transducer.to("cpu")
    small, matrices = finished(model, folder)
    return small, matrices, result


def _is_language_model(model: Path) -> bool:
    from solomonic.cli.inspect_device import model_type
    from solomonic.lm import device_file, pretrained

    return model_type(model) in (device_file.MODEL_TYPE, pretrained.MODEL_TYPE)


def _load(model: Path) -> SpeechModel:
    from solomonic.speech.device_file import layer_settings
    from solomonic.speech.pretrained import load_speech_model

    whole = load_speech_model(model)
    layer_settings(whole.transducer.config)  # what no file can hold is said before any work
    return whole


def _data(data: list[str], dev: list[str] | None, noise: str | None) -> AsrData:
    from solomonic.recipes.asr_data import AsrData

    return AsrData(manifests=tuple(data), dev=tuple(dev or ()), noise=noise)


def _banks(run: CompressRun, model: SpeechModel, data: AsrData, folder: Path) -> Banks:
    """Features of the recordings, those that the model reads."""
    from solomonic.cli.train_asr import Features
    from solomonic.recipes.asr_data import build_banks, read_sets
    from solomonic.speech.features import FeatureConfig

    config = model.transducer.config
    sets, left_out = read_sets(data, run.held_out)
    for reason, count in left_out.items():
        console.say(f"left out: {count:,} {reason}")
    features = FeatureConfig(bins=config.bins, shift_ms=config.shift_ms)
    banks = build_banks(sets, data, folder / "data", features, run.copies, Features())
    if not sum(map(len, banks.held_out)):
        console.say("nothing is held out, so the newest model is kept, not the best")
    return banks


def _at_once(
    run: CompressRun, model: SpeechModel, data: AsrData | None, folder: Path
) -> dict[str, QuantisedMatrix]:
    from solomonic.recipes.compress import at_once, calibration

    if data is None:
        if run.compress.sparsity:
            console.say(
                "without --data nothing makes up for the zeros; expect many more errors than "
                "training or --calibrate leaves"
            )
        return at_once(model, run.compress)
    moments = calibration(model, _banks(run.replace(copies=0), model, data, folder))
    return at_once(model, run.compress, moments)


def _check_options(
    model: Path,
    out: Path,
    data: list[str] | None,
    calibrate: bool,
    steps: int | None,
    minutes: float | None,
    resume: bool,
) -> None:
    """Options that mean nothing together are refused, not ignored."""
    if not model.exists():
        raise CheckpointError(
            f"there is no model at {model}; give the --out of `solomonic train asr` or `train lm`, "
            "or a device file."
        )
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give the name of a file, such as m.solo.")
    if calibrate and not data:
        raise ConfigError("--calibrate looks at recordings or text; give them as --data.")
    training = [
        name
        for name, value in (("--steps", steps), ("--minutes", minutes), ("--resume", resume))
        if value not in (None, False)
    ]
    if training and not data:
        raise ConfigError(f"{training[0]} is for training, which needs --data.")
    if training and calibrate:
        raise ConfigError(f"{training[0]} is for training; leave it or --calibrate out.")


def _beside(out: Path, run: Path | None) -> Path:
    return out.with_name(out.name + ".run") if run is None else run


def stored_or_new(
    folder: Path,
    going_on: bool,
    model: Path,
    given: dict[str, Any],
    kind: type[_Run],
    fixed: tuple[str, ...],
) -> _Run:
    """The run to begin, or the stored one, which keeps all but how long it trains.

    Args:
        kind: of run; fixed: its parts that a resumed run keeps.

    Raises:
        ConfigError: a setting or the model differs from the stored run's.
    """
    from solomonic.recipes.compress import load_run

    if not going_on:
        return kind().changed(given)
    stored = load_run(folder, kind)
    if stored is None:
        raise CheckpointError(f"{folder} has checkpoints and no record; choose another --run.")
    before, source = stored
    if source != model.resolve():
        raise ConfigError(f"the run in {folder} began with {source}; give that model.")
    run = before.changed(given)
    old, new = before.to_json(), run.to_json()
    for part in fixed:
        was, now = old[part], new[part]
        pairs = was.items() if isinstance(was, dict) else [(part, was)]
        for name, value in pairs:
            found = now[name] if isinstance(now, dict) else now
            if found != value and name not in _BY_CLOCK:
                raise ConfigError(
                    f"{name} = {found} differs from {value} of the run being resumed; leave it "
                    "out or choose another --run."
                )
    return run


def _report(
    before: SpeechModel,
    small: SpeechModel,
    matrices: dict[str, QuantisedMatrix],
    out: Path,
    result: TrainResult | None,
    json: bool,
) -> None:
    from solomonic.speech.device_file import write_device_model

    out.parent.mkdir(parents=True, exist_ok=True)
    identity = write_device_model(out, small, matrices)
    record = {"identity": identity, **summary(before.parameters, matrices, out)}
    if result is not None:
        record |= {"steps": result.step, "seconds": round(result.seconds, 1), "best": result.best}
    tell(record, json)
    if not json:
        console.say(f"Try: solomonic transcribe recording.wav --model {shlex.quote(str(out))}")


def tell(record: dict[str, Any], json: bool) -> None:
    """Show what was made."""
    if json:
        console.emit(record)
        return
    rows = [(name, value) for name, value in record.items() if not isinstance(value, dict)]
    best = record.get("best") or {}
    rows += [("held-out loss", best["loss"])] if "loss" in best else []
    console.table("Compressed", ("", ""), rows)


def summary(parameters: int, matrices: dict[str, QuantisedMatrix], out: Path) -> dict[str, Any]:
    """How small it became."""
    from solomonic.compress.compressor import mean_bits

    float_bytes, size = 4 * parameters, out.stat().st_size
    weights = sum(matrix.levels.size for matrix in matrices.values())
    zeros = sum(int((matrix.values == 0).sum()) for matrix in matrices.values())
    return {
        "out": str(out),
        "bytes": size,
        "float_bytes": float_bytes,
        "times_smaller": round(float_bytes / size, 2),
        "matrices": len(matrices),
        "weights": weights,
        "zeros": round(zeros / weights, 4),
        "entropy_bits": round(mean_bits(matrices), 3),
    }
