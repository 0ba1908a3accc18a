"""Universal predictors measured: text against PPMd and bzip2, speed, programs a second.

    make bench ARGS='induction text --data ../shared/data [--peer-python VENV/bin/python]'
    make bench ARGS='induction speed --data ../shared/data'
    make bench ARGS='induction machine --reference DIR'     a clone of google-deepmind/
                                                            neural_networks_solomonoff_induction

Each prints JSON. Sizes are those of the coder's bytes without an archive's head, as PPMd's are;
times are of the processor, on one core. `pyppmd` may live in an environment of its own.
"""

import argparse
import bz2
import gzip
import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from solomonic.induction import ByteTree, Mixer, coding, machine
from solomonic.induction.bracket import Bracket

_PPMD = (
    "import sys, pyppmd; d = sys.stdin.buffer.read(); "
    "e = pyppmd.Ppmd8Encoder(16, 256 << 20); print(len(e.encode(d)) + len(e.flush()))"
)


def texts(data: Path) -> Iterator[tuple[str, bytes]]:
    """Every text file of the shared data, unpacked where it is packed."""
    for path in sorted([*data.glob("text_*/**/*"), *data.glob("lexicon_*/**/*")]):
        if path.is_file():
            found = path.read_bytes()
            yield (
                str(path.relative_to(data)),
                gzip.decompress(found) if path.suffix == ".gz" else found,
            )


def measure_text(data: Path, peer: str, largest: int) -> list[dict]:
    """Bytes of the mixer, of PPMd (variant I, order 16, 256 MB) and of bzip2 -9, a file each."""
    rows = []
    for name, text in texts(data):
        if len(text) > largest:
            continue
        ppmd = subprocess.run([peer, "-c", _PPMD], input=text, capture_output=True, check=True)
        row = {
            "file": name,
            "bytes": len(text),
            "mixer": len(coding.encode(Mixer(), text)),
            "ppmd": int(ppmd.stdout),
            "bzip2": len(bz2.compress(text, 9)),
        }
        row["mixer_bits_per_byte"] = round(8 * row["mixer"] / max(len(text), 1), 4)
        row["ahead"] = row["mixer"] < min(row["ppmd"], row["bzip2"])
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def measure_speed(data: Path) -> dict:
    """Bytes a second of processor time of context trees and the mixer on 390 KB of Wikipedia."""
    text = (data / "text_wikitext2" / "test.txt").read_bytes()
    found = {}
    for name, make in (("mixer", Mixer), ("ctw", ByteTree)):
        predictor = make()
        begin = time.process_time()
        size = len(coding.encode(predictor, text))
        seconds = time.process_time() - begin
        found[name] = {
            "megabytes_per_second": round(len(text) / seconds / 1e6, 4),
            "bits_per_byte": round(8 * size / len(text), 4),
        }
    return found


def measure_machine(reference: Path, programs: int) -> dict:
    """Programs a second, ours and the public reference's, on the same sizes, in turn."""
    spec = importlib.util.spec_from_file_location("utms", reference / "data" / "utms.py")
    assert spec is not None and spec.loader is not None
    utms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utms)
    sampler = utms.FastSampler(np.random.default_rng(0))
    theirs = utms.BrainPhoqueUTM(sampler, alphabet_size=2)
    found: dict = {"programs": programs}
    rates: dict[str, list[float]] = {"ours": [], "reference": []}
    for turn in range(3):
        begin = time.process_time()
        outputs = [
            theirs.run_program("", memory_size=10, maximum_steps=1000, max_output_length=8)
            for _ in range(programs)
        ]
        rates["reference"].append(programs / (time.process_time() - begin))
        begin = time.process_time()
        ours = machine.sample(100 * programs, 8, cells=10, steps=1000, seed=turn)
        rates["ours"].append(100 * programs / (time.process_time() - begin))
        found["share_of_full_length"] = {
            "reference": np.mean([one["output_length"] == 8 for one in outputs]),
            "ours": float((ours.printed == 8).mean()),
        }
    found["programs_per_second"] = {name: round(float(np.median(r))) for name, r in rates.items()}
    found["times"] = round(float(np.median(rates["ours"]) / np.median(rates["reference"])), 1)
    bracket = Bracket(bytes([0, 1] * 4))
    begin = time.process_time()
    while (spent := time.process_time() - begin) < 1:
        bracket.work(10_000)
    found["bracket_after_a_second"] = {
        "states": bracket.states,
        "opened": bracket.opened,
        "low": bracket.low[-1],
        "undecided": bracket.pending[-1],
        "seconds": round(spent, 2),
    }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["text", "speed", "machine"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer-python", default="python3")
    parser.add_argument("--largest", type=int, default=1 << 30, help="skip larger files")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--programs", type=int, default=3000)
    given = parser.parse_args(arguments)
    if given.what == "text":
        rows = measure_text(given.data, given.peer_python, given.largest)
        print(json.dumps({"files": len(rows), "ahead": sum(row["ahead"] for row in rows)}))
    elif given.what == "speed":
        print(json.dumps(measure_speed(given.data), indent=1))
    elif given.reference is None:
        parser.error("machine needs --reference DIR")
    else:
        print(json.dumps(measure_machine(given.reference, given.programs), indent=1))


if __name__ == "__main__":
    main()
