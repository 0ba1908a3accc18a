"""How small a recogniser gets, and what that costs: word errors against bytes of the file.

    make bench ARGS=compression                                    ten minutes on one core
    make bench ARGS='compression --limit 60'                       a look
    make bench ARGS='compression --trained 50%=a.solo 75%=b.solo'  files of `solomonic compress`
    make bench ARGS='compression --trained 75%=b.solo --add RESULT'  to the rows of a result file

Rows: 8 bits a weight (what everything is compared with); 4 bits, and 4 bits with half of the
weights zero in vectors of 16, without training (by size, and with what training recordings say);
the same share of zeros at random places, which must be far worse; and the trained files given.

Recordings of ../shared/data, test splits (speakers that no training set has), heard by the native
recogniser from the file itself. Intervals are 95% bootstrap. With the result file, `solomonic plot
tradeoff` draws the picture.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from asr_peers_sets import thin
from peers.protocol import ROOT
from solomonic.compress.config import CompressConfig, select
from solomonic.compress.masks import random_mask
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import squeeze
from solomonic.evals.report import markdown_table, save_report
from solomonic.evals.wer import score
from solomonic.recipes.asr_data import Banks
from solomonic.recipes.compress import at_once, calibration
from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.data.bank import build
from solomonic.speech.data.manifest import Utterance, drop_unclear, read_manifest
from solomonic.speech.device_file import read_device_model, write_device_model
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import SpeechModel, load_speech_model
from solomonic.text.spoken import is_spoken, normalise

WORK = ROOT / "build" / "bench" / "compression"
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
SETS = {"AN4": "an4", "Speech Commands": "speech_commands_subset", "FSDD": "fsdd"}
METHODS = ("greedy", "beam")
TAIL = 0.5  # seconds of silence after an utterance, which the last word's label waits for


class Row(NamedTuple):
    """A way to make the model small. `kind` says which points a plot connects."""

    name: str
    kind: str
    config: CompressConfig | None
    calibrated: bool = False
    random: bool = False


ROWS = (
    Row("8 bits", "rounded", None),
    Row("4 bits", "rounded", CompressConfig()),
    Row("4 bits, calibrated", "calibrated", CompressConfig(), calibrated=True),
    Row("4 bits, 50% zeros", "rounded", CompressConfig(sparsity=0.5, pattern="vec16")),
    Row(
        "4 bits, 50% zeros, calibrated",
        "calibrated",
        CompressConfig(sparsity=0.5, pattern="vec16"),
        calibrated=True,
    ),
    Row(
        "4 bits, 75% zeros, calibrated",
        "calibrated",
        CompressConfig(sparsity=0.75, pattern="vec16"),
        calibrated=True,
    ),
    Row(
        "4 bits, 50% zeros at random",
        "random zeros",
        CompressConfig(sparsity=0.5, pattern="vec16"),
        random=True,
    ),
)


def main(arguments: list[str]) -> None:
    """Make every row's file, decode with it; a table on the screen, all figures in a file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py compression")
    parser.add_argument("--model", help="folder of a speech model (default: the shipped one)")
    parser.add_argument("--trained", nargs="*", default=[], metavar="NAME=FILE", type=_named)
    parser.add_argument("--dense", type=Path, help="device file in 8 bits that these came from")
    parser.add_argument("--only-trained", action="store_true", help="no rows without training")
    parser.add_argument(
        "--add", type=Path, metavar="RESULT", help="measure the trained files alone, and keep the "
        "rows of a result file of the same model, recordings and machine",
    )  # fmt: skip
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--limit", type=int, help="recordings of each set")
    parser.add_argument("--batches", type=int, default=24, help="of recordings to calibrate with")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args(arguments)
    if not SHARED.is_dir():
        sys.exit(f"this benchmark needs the project's recordings, and {SHARED} is not there")
    torch.set_num_threads(1)
    model = load_speech_model(options.model or SHIPPED)
    tests = {name: recordings(SETS[name], options.limit) for name in options.sets}
    records = json.loads(options.add.read_text("utf-8"))["rows"] if options.add else []
    for name, kind, file in files(model, options):
        started = time.monotonic()
        small = read_device_model(file)
        errors = {
            label: {method: errors_of(decode(file, heard, method)) for method in options.methods}
            for label, heard in tests.items()
        }
        records = [record for record in records if record["name"] != name]
        measured = sizes(small, file, 4 * model.parameters)
        records.append({"name": name, "kind": kind, **measured, "errors": errors})
        first = {label: next(iter(by.values()))["wer"] for label, by in errors.items()}
        shown = ", ".join(f"{label} {100 * wer:.1f}%" for label, wer in first.items())
        seconds = time.monotonic() - started
        print(f"{name}: {file.stat().st_size:,} bytes, {shown} ({seconds:.0f} s)", flush=True)
    print(f"\n{table(records)}")
    record = {"model": options.model, "limit": options.limit, "rows": records}
    if not options.no_save:
        print(save_report(RESULTS, "compression", record))


def files(model: SpeechModel, options: argparse.Namespace) -> Iterator[tuple[str, str, Path]]:
    """(name, kind, device file) of every row; those that are not there are made."""
    WORK.mkdir(parents=True, exist_ok=True)
    moments = None
    for number, row in enumerate(() if options.only_trained or options.add else ROWS):
        matrices: dict[str, QuantisedMatrix] | None = None
        if row.calibrated and moments is None:
            moments = calibration(model, training_banks(), options.batches)
        if row.config is not None:
            masks = random_masks(model, row.config) if row.random else None
            given = moments if row.calibrated else None
            matrices = at_once(model, row.config, given, masks)
        file = WORK / f"row{number}.solo"
        write_device_model(file, model, matrices)
        yield row.name, row.kind, file
    if options.dense:
        yield "8 bits, before training", "dense", options.dense
    for name, file in options.trained:
        yield name, "trained", file


def random_masks(model: SpeechModel, config: CompressConfig) -> dict[str, torch.Tensor]:
    """Masks of the same shares and pattern that know nothing of the weights."""
    generator = torch.Generator().manual_seed(0)
    whole = nn.ModuleDict({"transducer": model.transducer})
    return {
        name: random_mask((len(p), p.shape[1]), plan.sparsity, plan.pattern, generator)
        for name, (p, plan) in select(whole, config).items()
        if plan.sparsity
    }


def training_banks() -> Banks:
    """Features of some training recordings of every set, to calibrate with."""
    banks = []
    for folder in SETS.values():
        kept = thin(spoken(folder, "train"), 300)
        banks.append((build(kept, WORK / f"{folder}-train", workers=1), 1.0))
    return Banks(banks, [], [], [])


def recordings(folder: str, limit: int | None) -> list[tuple[Utterance, np.ndarray]]:
    """A test split with its samples."""
    chosen = spoken(folder, "test")
    return [(one, read_audio(one.audio)) for one in (thin(chosen, limit) if limit else chosen)]


def spoken(folder: str, split: str) -> list[Utterance]:
    """The recordings whose words are known and can be put into words."""
    kept, _ = drop_unclear(read_manifest(SHARED / folder, split))
    return [u for u in kept if is_spoken(normalise(u.text or ""))]


def decode(
    file: Path, heard: list[tuple[Utterance, np.ndarray]], method: str
) -> list[tuple[str, str, str | None]]:
    """(what was said, what was heard, by whom) of the recordings."""
    recognizer = NativeRecognizer(file)
    recognizer.set(**{"decode.greedy": method == "greedy"})
    silence = np.zeros(int(TAIL * RATE), np.float32)
    return [
        (
            normalise(one.text or ""),
            recognizer.transcribe(np.concatenate([samples, silence]), endpointing=False).text,
            one.speaker,
        )
        for one, samples in heard
    ]


def errors_of(decoded: list[tuple[str, str, str | None]]) -> dict[str, Any]:
    """Word error rate with its interval, as shares."""
    said, heard, speakers = zip(*decoded, strict=True)
    found = score(said, heard, speakers)
    return {
        "wer": found.wer.value,
        "low": found.wer.low,
        "high": found.wer.high,
        "words": found.words,
    }


def sizes(model: SpeechModel, file: Path, floats: int) -> dict[str, Any]:
    """Bytes of the file and of its form for download, and how many times smaller than the dense
    model in float32 (`floats` bytes) it is; a student is smaller than its teacher."""
    size = file.stat().st_size
    squeeze(file, WORK / "download")
    zeros = [(p == 0).float().mean().item() for p in model.transducer.parameters() if p.dim() == 2]
    return {
        "bytes": size,
        "download_bytes": (WORK / "download").stat().st_size,
        "float_bytes": floats,
        "times_smaller": floats / size,
        "zeros": float(np.mean(zeros)),
    }


def table(records: list[dict[str, Any]]) -> str:
    """As Markdown: bytes and the errors of every set, greedy and beam."""
    heads = [(label, method) for label, by in records[0]["errors"].items() for method in by]
    rows = [
        (
            record["name"],
            f"{record['bytes'] / 1e6:.2f}",
            f"{record['times_smaller']:.1f}",
            *(f"{100 * record['errors'][label][method]['wer']:.1f}" for label, method in heads),
        )
        for record in records
    ]
    names = (f"{label}, {method}" for label, method in heads)
    return markdown_table(("model", "MB", "times smaller", *names), rows)


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' should be NAME=FILE")
    return name, Path(file)
