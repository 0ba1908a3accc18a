"""The whole recogniser in C++: time, memory and first words of `solomonic-recognize`.

    make bench ARGS=recogniser                       ten minutes of audio; about five minutes
    make bench ARGS='recogniser --hours 2'           flat for two hours
    make bench ARGS='recogniser --model m.solo'      another device file (else: the shipped model)

Times are processor time of one thread, so that a busy machine does not change them much. The peer
is ONNX Runtime with the same matrices in int8 (peers/recogniser_onnx.py): their products alone,
which is less than a recogniser needs. sherpa-onnx runs models of its own kinds only, not this one.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
import wave
from pathlib import Path
from typing import Any, cast

import numpy as np

from peers.protocol import ROOT
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import read_pack
from solomonic.evals.report import markdown_table, save_report
from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.data.manifest import read_manifest
from solomonic.speech.events import Partial
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.speech.places import DEVICE_FILE, SHIPPED

WORK = ROOT / "build" / "bench" / "recogniser"
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
COMMAND = ROOT / "build" / "native-plain" / "solomonic-recognize"
ONNX = ROOT / "build" / "peers" / "onnx" / "bin" / "python"
LABELS = 4
"""Word pieces a second, for which the peer's prediction network is counted."""


def main(arguments: list[str]) -> None:
    """Measure; a table on the screen, all figures in a result file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py recogniser")
    parser.add_argument("--model", type=Path, help="a device file")
    parser.add_argument("--hours", type=float, default=1 / 6, help="length of the long recording")
    parser.add_argument("--count", type=int, default=40, help="recordings that are repeated in it")
    parser.add_argument("--command", type=Path, default=COMMAND, help="solomonic-recognize")
    given = parser.parse_args(arguments)
    if not given.command.is_file():
        raise SystemExit(f"{given.command} is not built; `make native-plain` builds it.")
    WORK.mkdir(parents=True, exist_ok=True)
    model = given.model or SHIPPED / DEVICE_FILE
    clips = recordings(given.count)
    speech = sum(map(len, clips)) / RATE
    record: dict[str, Any] = {
        "model": model.parent.name if given.model is None else model.name,
        "model_bytes": model.stat().st_size,
        "clips": len(clips),
        "clip_seconds": speech,
        "load": os.getloadavg()[0],
        "runtime": NativeRecognizer(model).describe()["kernels"],
        "first_partial": first_partials(model, clips),
    }
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        short, long = Path(folder) / "short.wav", Path(folder) / "long.wav"
        write_wav(short, clips[:1], 0.2)
        write_wav(long, clips, given.hours * 3600)
        record["start"] = run(given.command, model, short)
        record["long"] = run(given.command, model, long)
        record["long_greedy"] = run(given.command, model, long, "--set", "decode.greedy=1")
    record["peer"] = peer(model)
    show(record)
    print(save_report(RESULTS, "recogniser", record))


def recordings(count: int) -> list[np.ndarray]:
    """Read sentences of people, or where there are none the package's samples."""
    manifest = SHARED / "librispeech_small" / "manifest.jsonl"
    if manifest.is_file():
        rows = [row for row in read_manifest(manifest) if row.split == "test" and row.audio]
        paths = [Path(row.audio) for row in rows[:: max(len(rows) // count, 1)][:count]]
    else:
        paths = sorted((SHIPPED / "samples").glob("*.opus"))
    return [read_audio(path) for path in paths]


def write_wav(path: Path, clips: list[np.ndarray], seconds: float) -> None:
    """The recordings one after the other, a second of faint noise between, to that length."""
    random = np.random.default_rng(0)
    left = round(seconds * RATE)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        while left > 0:
            for clip in clips:
                noise = 1e-4 * random.standard_normal(RATE)
                piece = np.concatenate((clip, noise))[: max(left, 0)]
                file.writeframes(np.round(np.clip(piece, -1, 1) * 32767).astype("<i2").tobytes())
                left -= len(piece)


def run(command: Path, model: Path, audio: Path, *options: str) -> dict[str, Any]:
    """Processor time, peak memory and memory on the way of one run of the command."""
    with wave.open(str(audio)) as file:
        seconds = file.getnframes() / RATE
    text = audio.with_suffix(".txt")  # a pipe that nobody empties would stop it after 64 kB
    with text.open("wb") as out:
        process = subprocess.Popen(
            [str(command), str(model), str(audio), *options],
            stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    on_the_way, peak = [], 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        resident, peak = memory_of(process.pid, peak)
        on_the_way.append(resident)
        time.sleep(0.01 if len(on_the_way) < 100 else 0.1)
    words = text.read_text("utf-8").split()
    if process.returncode:
        raise SystemExit(f"{command} failed with status {process.returncode}.")
    later = [resident for resident in on_the_way[len(on_the_way) // 4 :] if resident]
    return {
        "audio_seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": peak,
        "words": len(words),
        "resident_after_a_quarter": later[0] if later else None,
        "resident_at_the_end": later[-1] if later else None,
    }


def memory_of(process: int, peak: int) -> tuple[int, int]:
    """Bytes resident now (0 when it has ended) and at most so far.

    wait4 tells the peak too, but counts what this process held when it made the other.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, peak
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    if "VmHWM" not in found:
        return 0, peak
    return int(found["VmRSS"]) * 1024, max(int(found["VmHWM"]) * 1024, peak)


def first_partials(model: Path, clips: list[np.ndarray]) -> dict[str, float]:
    """Processor time of a stream from its first sample to its first words, in seconds."""
    recognizer = NativeRecognizer(model)
    found = []
    for clip in clips:
        stream = recognizer.create_stream()
        for start in range(0, len(clip), 320):
            stream.accept_waveform(RATE, clip[start : start + 320])
            if any(isinstance(event, Partial) for event in stream.events()):
                found.append(float(stream.counters["seconds"]))
                break
    return {"median": float(np.median(found)), "most": max(found), "recordings": len(found)}


def peer(model: Path) -> dict[str, Any] | None:
    """ONNX Runtime's processor time for the products of a second of audio; None: it is not here."""
    if not ONNX.is_file():
        return None
    pack = read_pack(model)
    reduction = int(pack.config["transducer.reduction"])
    step = float(pack.config["transducer.shift_ms"]) * int(pack.config["transducer.stack"])
    frames = 1000 / (step * reduction)
    front, back, label = f"front:{reduction}", "back:1", "label:1"
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in pack.tensors.items():
        short = name.removeprefix("transducer.")
        if not isinstance(tensor, QuantisedMatrix) or not name.startswith("transducer."):
            continue
        if short.startswith(("context.", "predictor.embed")):
            continue  # not read here, or looked up
        part = back
        if short.startswith(("encoder.embed.", "encoder.front.")):
            part = front
        elif short.startswith("predictor."):
            part = label
        levels = np.asarray(tensor.levels, np.int8)
        scales = np.asarray(tensor.scales, np.float32).reshape(len(levels), -1)[:, 0]
        arrays[f"{part}|{name}|levels"], arrays[f"{part}|{name}|scales"] = levels, scales
    matrices = WORK / "matrices.npz"
    np.savez(matrices, **cast(Any, arrays))
    worker = Path(__file__).parent / "peers" / "recogniser_onnx.py"
    done = subprocess.run([str(ONNX), str(worker), str(matrices)], capture_output=True, text=True)
    if done.returncode:
        print(f"ONNX Runtime failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    call = found["call"]
    parts = {front: frames, back: frames, label: LABELS}
    without = sum(rate * max(found.get(part, 0) - call, 0) for part, rate in parts.items())
    return {
        **found,
        "second": without,
        "calls": call * sum(parts.values()),
        "weights": sum(a.size for key, a in arrays.items() if key.endswith("levels")),
    }


def show(record: dict[str, Any]) -> None:
    """The figures for eyes."""
    start, long, greedy = record["start"], record["long"], record["long_greedy"]

    def factor(one: dict[str, Any]) -> float:
        spent = one["processor_seconds"] - start["processor_seconds"]
        return spent / (one["audio_seconds"] - start["audio_seconds"])

    record["real_time_factor"], record["real_time_factor_greedy"] = factor(long), factor(greedy)
    first, size = record["first_partial"], record["model_bytes"]
    rows = [
        ["model file", f"{size / 1e6:.2f} MB"],
        ["kernels", record["runtime"]],
        ["audio", f"{long['audio_seconds'] / 60:.0f} min, {long['words']} words"],
        ["real-time factor, beam of 8", f"{factor(long):.5f}"],
        ["real-time factor, greedy", f"{factor(greedy):.5f}"],
        ["start and a short recording", f"{1000 * start['processor_seconds']:.0f} ms"],
        ["first words, median", f"{1e3 * first['median']:.1f} ms"],
        ["first words, most", f"{1e3 * first['most']:.1f} ms"],
        ["peak memory", f"{long['peak_bytes'] / 1e6:.1f} MB"],
        ["peak memory against the model's file", f"{long['peak_bytes'] / size:.2f}"],
    ]
    if long["resident_at_the_end"]:
        grown = long["resident_at_the_end"] - long["resident_after_a_quarter"]
        rows.append(["grown in the last three quarters", f"{grown / 1e3:.0f} kB"])
    if record["peer"]:
        second = record["peer"]["second"]
        rows += [
            [f"ONNX Runtime {record['peer']['version']}, int8 products alone", f"{second:.5f}"],
            ["ours (greedy, all of it) against it", f"{factor(greedy) / second:.2f}"],
            ["ours (beam of 8, all of it) against it", f"{factor(long) / second:.2f}"],
        ]
    print(markdown_table(["", "value"], rows))
