"""A speech model on all test sets: error rates, lattices and their bytes, processor time by part.

    make bench ARGS='asr --model DIR'                         half an hour on one core
    make bench ARGS='asr --model DIR --limit 30'              a look
    make bench ARGS='asr --model DIR --synthetic FOLDER'      with synthetic commands too

Recordings of ../shared/data, test splits (speakers that no training set has), through streams with
end-pointing as a user's audio goes. Intervals are 95% bootstrap. Time is processor time of one
thread; the parts are timed on `--cost` recordings of each set.
"""

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lattice_bytes
from asr_peers_sets import DIGITS, thin
from peers.protocol import ROOT
from solomonic.evals.asr import AsrConfig, choose, evaluate
from solomonic.evals.asr_report import AsrReport, Decoded, summarise
from solomonic.evals.report import markdown_table, save_report
from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.data.manifest import Utterance, read_manifest, write_manifest
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.features import FeatureStream, features
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model
from solomonic.speech.recognizer import Recognizer

WORK = ROOT / "build" / "bench" / "asr"
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
SETS = {
    "FSDD": ("fsdd", "test"),
    "Speech Commands": ("speech_commands_subset", "test"),
    "Speech Commands, digits": ("speech_commands_subset", "test"),
    "AN4": ("an4", "test"),
    "LibriSpeech": ("librispeech_small", "test"),
    "LibriSpeech, other": ("librispeech_small", "test_other"),
    "Arctic": ("arctic_kathleen", "test"),
    "telephone": ("wuw2_telephone", "test"),
}
PARTS = ("features", "voice detector", "encoder", "search", "results and lattices")


def main(arguments: list[str]) -> None:
    """Decode everything; tables on the screen, all figures in a result file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py asr")
    parser.add_argument("--model", help="folder of a speech model (default: the shipped one)")
    parser.add_argument("--synthetic", type=Path, help="folder of synthetic test commands")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="only these sets")
    parser.add_argument("--limit", type=int, help="recordings of each set")
    parser.add_argument("--cost", type=int, default=12, help="recordings of each set to time")
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args(arguments)
    if not SHARED.is_dir():
        sys.exit(f"this benchmark needs the project's recordings, and {SHARED} is not there")
    torch.set_num_threads(1)
    model = load_speech_model(options.model or SHIPPED)
    recognizer = Recognizer(model, (model.decode or DecodeConfig()).replace(beam=options.beam))
    sets = {name: SETS[name] for name in options.sets}
    manifests = {name: manifest(name, *place) for name, place in sets.items()}
    if options.synthetic:
        manifests["synthetic commands, new voices"] = (options.synthetic, "test")
    report = decode_sets(recognizer, manifests, options.limit)
    timed, pairs = [], []
    for name, (path, split) in manifests.items():
        for utterance in thin(choose(read_manifest(path, split), options.limit), options.cost):
            row, found = cost(recognizer, utterance)
            timed.append({"set": name, **row})
            pairs += found
    sizes = lattice_bytes.summarise(lattice_bytes.measure(pairs)) if pairs else {}
    parts = by_set(timed)
    for title, table in report.tables():
        print(f"## {title}\n\n{table}")
    print(f"## Greedy against beam {options.beam}\n\n{greedy_table(report)}")
    print(f"## Processor time for a second of audio\n\n{cost_table(parts)}")
    print("\n".join(f"{name}: {value}" for name, value in sizes.items()))
    record = {
        "model": options.model,
        "config": recognizer.model.transducer.config.to_json(),
        "parameters": recognizer.model.parameters,
        "weights": recognizer.model.weights,
        "beam": options.beam,
        "limit": options.limit,
        "report": without_places(report.to_json(), manifests),
        "cost": parts,
        "lattice_bytes": sizes,
    }
    if not options.no_save:
        print(save_report(RESULTS, "asr", record))


def without_places(report: Any, manifests: dict[str, tuple[Path, str]]) -> Any:
    """The report with recordings named from their sets on: where those lie is this machine's."""
    text = json.dumps(report)
    for path, _ in manifests.values():
        for place in {path, path.resolve()}:
            folder = place.parent if place.suffix else place
            text = text.replace(f"{folder.parent.as_posix()}/", "")
    return json.loads(text)


def manifest(name: str, folder: str, split: str) -> tuple[Path, str]:
    """The manifest and split of a set; that of the digits is written here."""
    path = SHARED / folder
    if name != "Speech Commands, digits":
        return path, split
    kept = [u for u in read_manifest(path, split) if u.text in DIGITS]
    place = WORK / "digits" / "manifest.jsonl"
    write_manifest(place, [dataclasses.replace(u, audio=u.audio.resolve()) for u in kept])
    return place, split


def decode_sets(
    recognizer: Recognizer, manifests: dict[str, tuple[Path, str]], limit: int | None
) -> AsrReport:
    """One report of all sets, each under our name for it."""
    config = AsrConfig(greedy=True)
    decoded: list[Decoded] = []
    failed: list[tuple[str, str]] = []
    for name, (path, split) in manifests.items():
        started = time.monotonic()
        found = evaluate(recognizer, path, split, config, limit=limit)
        decoded += [dataclasses.replace(item, source=name) for item in found.decoded]
        failed += found.failed
        print(f"{name}: {len(found.decoded)} in {time.monotonic() - started:.0f} s", flush=True)
        if found.interrupted:
            break
    return summarise(decoded, failed=failed, total=len(decoded) + len(failed))


class Clock:
    """Processor time spent in functions while they are wrapped, by label."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._undo: list[tuple[Any, str, Any, bool]] = []
        self._inside = False

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Time calls of `owner.name` under `label`; what they call counts with them."""
        original = getattr(owner, name)
        self._undo.append((owner, name, original, name in vars(owner)))

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            self._inside = True
            started = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.spent[label] += time.process_time() - started
                self._inside = False

        setattr(owner, name, timed)

    def unwrap(self) -> None:
        for owner, name, original, own in reversed(self._undo):
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)


def cost(recognizer: Recognizer, utterance: Utterance) -> tuple[dict[str, float], list]:
    """Processor seconds of one recording's parts, and its lattices with their audio.

    "other" is what streams, events and end-pointers take in Python. "encoder at once" is the
    encoder on the whole recording in one call: the difference to "encoder" is what reading it
    frame by frame, as it arrives, costs in calls.
    """
    samples = read_audio(utterance.audio)
    recognizer.transcribe(samples)  # what is made once and for all
    clock = Clock()
    net, decoder = recognizer.model.transducer, recognizer.decoder
    for owner, name, label in (
        (FeatureStream, "accept", "features"),
        (FeatureStream, "finish", "features"),
        (recognizer.voice, "step", "voice detector"),
        (net, "hidden", "encoder"),
        (net, "acoustic", "encoder"),
        (decoder, "advance", "search"),
        (decoder, "partial", "search"),
        (recognizer, "result_of", "results and lattices"),
    ):
        clock.wrap(owner, name, label)
    try:
        started = time.process_time()
        result = recognizer.transcribe(samples)
        total = time.process_time() - started
    finally:
        clock.unwrap()
    row = {**clock.spent, "other": total - sum(clock.spent.values()), "total": total}
    row["encoder at once"] = _seconds(lambda: _whole(recognizer, samples))
    row["audio"] = len(samples) / RATE
    pairs = [
        (part.lattice, samples[int(part.start * RATE) : int(part.end * RATE)])
        for part in result.utterances or (result,)
        if part.lattice is not None and part.end > part.start
    ]
    return row, pairs


def by_set(timed: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Processor seconds for a second of audio, by set and part, and over all."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in timed:
        groups.setdefault(row["set"], []).append(row)
    groups["all"] = timed
    names = [name for name in (timed[0] if timed else ()) if name not in ("set", "audio")]
    return {
        group: {
            name: sum(row[name] for row in rows) / sum(row["audio"] for row in rows)
            for name in names
        }
        for group, rows in groups.items()
        if rows
    }


def cost_table(parts: dict[str, dict[str, float]]) -> str:
    """As Markdown, in milliseconds."""
    names = list(next(iter(parts.values()), {}))
    rows = [(group, *(f"{1000 * row[name]:.1f}" for name in names)) for group, row in parts.items()]
    return markdown_table(("ms for a second of audio", *names), rows)


def greedy_table(report: AsrReport) -> str:
    """Error rates of both searches, in percent."""
    rows = [
        (name, f"{100 * item.wer.wer.value:.1f}", f"{100 * item.greedy.wer.value:.1f}")
        for name, item in report.sets.items()
        if item.greedy is not None
    ]
    return markdown_table(("set", "beam WER %", "greedy WER %"), rows)


def _whole(recognizer: Recognizer, samples: np.ndarray) -> Callable[[], Any]:
    net = recognizer.model.transducer
    frames = features(samples)
    step = net.config.frames_per_step
    whole = torch.from_numpy(frames[: len(frames) // step * step])[None]
    if not whole.shape[1]:
        return lambda: None

    def read() -> None:
        with torch.inference_mode():
            net.acoustic(net.hidden(whole)[0])

    return read


def _seconds(make: Callable[[], Callable[[], Any]]) -> float:
    """Processor time of what `make` makes, the second time it runs."""
    work = make()
    work()
    started = time.process_time()
    work()
    return time.process_time() - started
