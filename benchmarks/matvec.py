"""Products of a 1024 x 1024 matrix and a vector on one thread: ours against other runtimes.

make bench ARGS=matvec              60 seconds of rounds (and once some minutes to fetch the peers)
make bench ARGS="matvec 20"         20 seconds

Two figures for each format. From memory: a chain of layers that together are half as large again as
the last-level cache, which the other contenders have had in between, so that every weight comes
from memory, as in a recogniser whose other parts have had the cache. In cache: one matrix again and
again. And a frame of a five-layer LSTM-1024, with the caches emptied before it.

Each tool is a process with its chains loaded; they take turns, forwards and backwards, so that
ratios survive a busy machine. Times are of the processor, in microseconds a product. Quantising
the inputs is part of every product. All peers get huge pages (GLIBC_TUNABLES), which is worth 5 to
25% to them; ONNX Runtime is also measured as it comes.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from limits import third_level
from peers.environment import peer_python
from peers.matvec_worker import SIZE
from peers.protocol import BENCHMARKS, ROOT, NotHere, Worker
from solomonic.evals.report import save_report

RESULTS = BENCHMARKS / "results"
FOLDER = ROOT / "build" / "bench" / "matvec"
PACKAGES = {
    "onnx": ["onnxruntime==1.31.1", "onnx==1.23.2"],
    "executorch": ["executorch==1.5.1", "torchao==0.18.0", "torch==2.13.0"],
}
HUGE = "glibc.malloc.hugetlb=1"
EXECUTORCH_LAYERS = {"4 bit, groups of 32": 120, "8 bit": 72}
"""As exported by peers/matvec_executorch.py."""
NOT_HERE = (
    "A figure of another run, quoted and not measured here: 24.9 us with 8-bit activations and "
    "4-bit weights in groups of 32."
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A kind of weights of a tool.

    Attributes:
        bits: a weight of the dense matrix, scales and places of zeros included.
        repeats: the tool runs one matrix again and again; else cached times are those of three
            layers less those of one, because a call costs much beside a product.
    """

    tool: str
    kind: str
    bits: float
    repeats: bool = False

    @property
    def name(self) -> str:
        return f"{self.tool} {self.kind}"

    def layers(self, bytes_: int) -> int:
        """Of a chain of at least that many bytes."""
        if self.tool == "executorch":
            return EXECUTORCH_LAYERS[self.kind]
        return -(-bytes_ * 8 // int(self.bits * SIZE * SIZE))


OURS = tuple(
    Contender("ours", kind, bits, True)
    for kind, bits in {
        "q8": 8.03, "q4": 4.25, "q4r": 4.03, "s24_8": 5.03, "s24_4": 3.03,
        "v16_8 50%": 4.1, "v16_4 50%": 2.1, "v16_4 75%": 1.1,
    }.items()
)  # fmt: skip
PEERS = (
    *(
        Contender("onnx", kind, bits)
        for kind, bits in {
            "8 bit dynamic": 8.03, "8 bit static": 8.03, "8 bit, groups of 128": 8.25,
            "4 bit, groups of 128": 4.25, "4 bit, groups of 256": 4.13,
        }.items()
    ),
    *(
        Contender("ggml", kind, bits, True)
        for kind, bits in {"Q8_0": 8.5, "Q4_0": 4.5, "Q4_K": 4.5}.items()
    ),
    Contender("executorch", "8 bit", 8.03),
    Contender("executorch", "4 bit, groups of 32", 5.0),
    Contender("onnx as it comes", "8 bit dynamic", 8.03),
)  # fmt: skip
LSTMS = (
    Contender("ours", "LSTM q8", 8.0), Contender("ours", "LSTM s24_4", 3.0),
    Contender("ours", "LSTM v16_4 50%", 2.1), Contender("onnx", "LSTM 8 bit", 8.0),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """Times faster than another contender, or than the best of the peers."""

    ours: str
    other: str
    where: str
    wanted: float


TARGETS = (
    Target("ours v16_4 50%", "best peer", "memory", 2.0),
    Target("ours v16_4 50%", "onnx 8 bit dynamic", "memory", 5.0),
    Target("ours v16_4 50%", "onnx as it comes 8 bit dynamic", "memory", 5.0),
    Target("ours s24_4", "best peer", "memory", 1.6),
    Target("ours v16_4 50%", "ours q8", "cache", 1.0),
    Target("ours s24_4", "ours q8", "cache", 1.0),
    Target("ours LSTM v16_4 50%", "onnx LSTM 8 bit", "frame", 3.1),
)
MOST_FRAME = 900.0
"""Microseconds that a frame of the LSTM may take with sparse vectors."""


def python_of(tool: str) -> Path:
    """The interpreter that has a tool; makes its environment on first use.

    Raises:
        NotHere: it could not be installed.
    """
    if tool == "ours":
        return Path(sys.executable)
    if tool == "ggml":
        return peer_python()
    folder = ROOT / "build" / "peers" / tool
    python = folder / "bin" / "python"
    if subprocess.run([python, "-c", f"import {tool}"], capture_output=True).returncode == 0:
        return python
    print(f"Installing {', '.join(PACKAGES[tool])} in {folder}", flush=True)
    log = folder.with_suffix(".log")
    with log.open("w") as output:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", *PACKAGES[tool]],
        ):
            if subprocess.run(command, stdout=output, stderr=output).returncode:
                raise NotHere(f"{tool} could not be installed; {log} says why.")
    return python


def start(tool: str) -> Worker:
    """A tool's process; "as it comes" without huge pages."""
    name = tool.split()[0]
    python = python_of(name)
    if name == "executorch":
        command = [str(python), "-W", "ignore", "-m", "peers.matvec_executorch", str(FOLDER)]
        if subprocess.run([*command, "have"], cwd=BENCHMARKS, capture_output=True).returncode:
            print("Exporting chains for ExecuTorch (once; some minutes)", flush=True)
            if subprocess.run([*command, "export"], cwd=BENCHMARKS, capture_output=True).returncode:
                raise NotHere("executorch could not export the chains.")
    os.environ.pop("GLIBC_TUNABLES", None)
    if tool == name:
        os.environ["GLIBC_TUNABLES"] = HUGE
    worker = Worker(python, f"matvec_{name}", FOLDER / f"{name}.log", 1)
    os.environ.pop("GLIBC_TUNABLES", None)
    return worker


class Race:
    """Loaded contenders and their times, in microseconds a product, round by round."""

    def __init__(self, bytes_: int) -> None:
        self.bytes = bytes_
        self.workers: dict[str, Worker] = {}
        self.refused: dict[str, str] = {}
        self.contenders: list[Contender] = []
        self.times: dict[str, dict[str, list[dict[str, float]]]] = {}

    def enter(self, contender: Contender) -> None:
        """Load its chains; one that cannot be had is named in the result."""
        tool = contender.tool
        if tool in self.refused:
            return
        if tool not in self.workers:
            try:
                self.workers[tool] = start(tool)
            except NotHere as error:
                self.refused[tool] = f"{error} {NOT_HERE if tool == 'executorch' else ''}".strip()
                return
        for layers in self.chains(contender):
            reply = self.ask("load", contender, layers, folder=str(FOLDER))
            if "error" in reply:
                self.refused[contender.name] = reply["error"]
                return
        self.contenders.append(contender)
        self.times[contender.name] = {}

    def chains(self, contender: Contender) -> tuple[int, ...]:
        """Numbers of layers that are loaded."""
        if contender in LSTMS:
            return (1,)
        small = (1,) if contender.repeats else (1, 3)
        return *small, contender.layers(self.bytes)

    def ask(self, do: str, contender: Contender, layers: int, **rest: Any) -> dict[str, Any]:
        return self.workers[contender.tool].ask(do, kind=contender.kind, layers=layers, **rest)

    def timed(self, contender: Contender, layers: int, times: int, **rest: Any) -> dict[str, float]:
        """Microseconds a call."""
        reply = self.ask("time", contender, layers, times=times, **rest)
        if "error" in reply:
            raise RuntimeError(f"{contender.name}: {reply['error']}")
        return {clock: 1e6 * seconds for clock, seconds in reply.items()}

    def turn(self, contender: Contender) -> None:
        """One round's times of a contender."""
        found = self.times[contender.name]
        if contender in LSTMS:
            frame = self.timed(contender, 1, 4, flush=True)
            found.setdefault("frame", []).append(frame)
            return
        layers = contender.layers(self.bytes)
        whole = self.timed(contender, layers, 1)
        found.setdefault("memory", []).append({k: v / layers for k, v in whole.items()})
        few = self.timed(contender, 1, 200 if contender.tool != "ggml" else 10)
        if contender.repeats:
            products = 16 if contender.tool == "ggml" else 1
            few = {k: v / products for k, v in few.items()}
            found.setdefault("cache", []).append(few)
        else:
            found.setdefault("one", []).append(few)
            found.setdefault("three", []).append(self.timed(contender, 3, 100))

    def run(self, seconds: float) -> int:
        """Rounds for that long, at least four; returns how many."""
        began, rounds = time.monotonic(), 0
        while rounds < 4 or time.monotonic() - began < seconds:
            for contender in self.contenders[:: 1 if rounds % 2 else -1]:
                self.turn(contender)
            rounds += 1
        return rounds

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Least and median of each place: processor time, and the least wall time."""
        figures = {
            name: {
                where: {
                    "least": min(t["cpu"] for t in rounds),
                    "median": statistics.median(t["cpu"] for t in rounds),
                    "least_wall": min(t["wall"] for t in rounds),
                }
                for where, rounds in places.items()
            }
            for name, places in self.times.items()
        }
        for places in figures.values():
            if "three" in places:  # of a chain of one and of three: what a layer more takes
                one, three = places.pop("one"), places.pop("three")
                places["cache"] = {kind: (three[kind] - one[kind]) / 2 for kind in one}
        return figures

    def ratio(self, target: Target) -> dict[str, Any]:
        """How many times faster: of the least times, and the median over the rounds."""
        figures = self.figures()
        other = target.other
        if other == "best peer":
            names = [c.name for c in self.contenders if c in PEERS and c.tool != "onnx as it comes"]
            if not names:
                return {"wanted": target.wanted, "other": other}
            other = min(names, key=lambda name: figures[name][target.where]["least"])
        if target.ours not in figures or other not in figures:
            return {"wanted": target.wanted, "other": other}
        pair = [self.times[name][target.where] for name in (target.ours, other)]
        rounds = [b["cpu"] / a["cpu"] for a, b in zip(*pair, strict=True)]
        least = [figures[name][target.where]["least"] for name in (target.ours, other)]
        return {
            "ours": target.ours,
            "other": other,
            "where": target.where,
            "wanted": target.wanted,
            "of_least": least[1] / least[0],
            "of_rounds": statistics.median(rounds),
        }


def show(race: Race, ratios: list[dict[str, Any]]) -> None:
    """Tables."""
    figures = race.figures()
    print(f"{'microseconds a product':42} {'bits':>5} {'memory':>16} {'in cache':>16}")
    for contender in race.contenders:
        places = figures[contender.name]
        if contender in LSTMS:
            continue
        cells = [f"{places[w]['least']:7.1f} ({places[w]['median']:6.1f})" for w in places]
        print(f"{contender.name:42} {contender.bits:5.1f} " + " ".join(f"{c:>16}" for c in cells))
    print("least (median) of the rounds\n\na frame of LSTM-1024, five layers")
    for contender in race.contenders:
        if contender in LSTMS:
            frame = figures[contender.name]["frame"]
            print(f"{contender.name:42} {frame['least']:13.0f} ({frame['median']:.0f})")
    print("\ntimes faster: of the least times, median of the rounds, wanted")
    for ratio in ratios:
        if "of_least" not in ratio:
            print(f"{ratio['other']}: not measured")
            continue
        what = f"{ratio['ours']} than {ratio['other']} ({ratio['where']})"
        print(
            f"{what:62} {ratio['of_least']:5.2f} {ratio['of_rounds']:5.2f} {ratio['wanted']:5.1f}"
        )
    for name, why in race.refused.items():
        print(f"{name}: {why}")


def main(arguments: list[str]) -> None:
    """Measure for the seconds of the first argument (60), print and keep the figures."""
    seconds = float(arguments[0]) if arguments else 60.0
    FOLDER.mkdir(parents=True, exist_ok=True)
    race = Race(3 * (third_level() or 32 << 20) // 2)
    load = os.getloadavg()
    try:
        for contender in (*OURS, *PEERS, *LSTMS):
            race.enter(contender)
        rounds = race.run(seconds)
    finally:
        race.close()
    ratios = [race.ratio(target) for target in TARGETS]
    show(race, ratios)
    settings = {
        "size": SIZE, "chain_bytes": race.bytes, "rounds": rounds, "packages": PACKAGES,
        "load_before": load, "load_after": os.getloadavg(),
    }  # fmt: skip
    record = {
        "settings": settings,
        "unit": "microseconds of processor time a product (frame: a frame of the LSTM)",
        "results": race.figures(),
        "ratios": ratios,
        "most_microseconds_a_frame": MOST_FRAME,
        "refused": race.refused,
    }
    print(save_report(RESULTS, "matvec", json.loads(json.dumps(record))))
