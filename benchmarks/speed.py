"""Speed against peers: decode, prefill, training, many streams; ratios beside the machine's limits.

    make bench ARGS=speed                          everything, about twenty minutes
    make bench ARGS='speed --quick'                a look at everything, under two minutes
    make bench ARGS='speed --only decode/10M'      some cells (--skip leaves out; --list shows all)
    make bench ARGS='speed --report'               table, result file and figures of finished cells

Every contender is a worker process (peers/), bound to the same processors, and the contenders of a
cell take turns: first to last, then last to first. Ratios are taken round by round. With one thread
time is processor time, which other programs on the machine do not lengthen; with two it is wall
time, since waiting for the other thread is part of the cost. Finished cells are kept in
build/bench/speed/cells.jsonl, so a killed run goes on; --again measures anew.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import limits
import speed_report
from peers.environment import peer_python
from peers.protocol import ROOT, NotHere, Worker
from sizes import GROWING, SIZES, peer_shape
from speed_plan import Cell, Contender, chosen, full_plan, quick_plan

WORK = ROOT / "build" / "bench" / "speed"
MODULES = {
    "ours": "ours", "torch": "ours", "transformers": "transformers_peer", "llama.cpp": "llama_cpp",
}  # fmt: skip
SLICE = 0.25  # seconds of one timed run of decoding
NEAR = 4_096  # up to here a growing cache is put back before every run
DRIFT = 1_900  # tokens that a seated stream may be decoded in all (peers/llama_cpp.py HEADROOM)
UNKNOWN = {"error": "never measured"}
DEFERRED = "not there yet"  # a contender that says so is asked again next time


class Pool:
    """Worker processes: one a tool for most cells, one a model where memory is measured."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}

    def get(self, contender: Contender, threads: int, own: str | None = None) -> Worker:
        """A worker bound to as many processors as threads; `own`: the name of one for itself.

        Raises:
            NotHere: llama.cpp cannot be built here.
        """
        key = own or MODULES[contender.peer]
        worker = self.workers.get(key)
        if worker is None or not worker.alive:
            llama = contender.peer == "llama.cpp"
            python = peer_python() if llama else Path(sys.executable)
            log = WORK / f"{MODULES[contender.peer]}.log"
            worker = self.workers[key] = Worker(python, MODULES[contender.peer], log)
        cpus = available()[-threads:]
        worker.ask("place", threads=threads, cpus=cpus)
        return worker

    def drop(self, own: bool) -> None:
        """Free what the workers hold: the models, or the processes of one contender each."""
        for key, worker in list(self.workers.items()):
            if own or not worker.alive:
                worker.close()
                del self.workers[key]
            else:
                worker.ask("drop")

    def close(self) -> None:
        self.drop(own=True)


def available() -> list[int]:
    """Processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


def spec_of(contender: Contender, size: str) -> dict[str, Any]:
    """What a worker needs to make the model."""
    if contender.peer in ("ours", "torch"):
        path = "native" if contender.peer == "ours" else "torch"
        return {"model": contender.model, "size": size, "path": path}
    return {"model": contender.model, "shape": peer_shape(size, contender.model)}


class Turn:
    """One contender of a cell: its worker, and what one timed run is."""

    def __init__(self, cell: Cell, contender: Contender, pool: Pool) -> None:
        self.cell, self.contender = cell, contender
        self.name = f"{contender.label}/{cell.size}"
        self.row: dict[str, Any] = {"rows": contender.rows, "rates": [], "cpu": [], "wall": []}
        self.count = 4
        own = {"train": f"{contender.peer}/{contender.model}", "memory": contender.label}
        if cell.kind in own:
            self.name = own[cell.kind]  # a training step in bfloat16 has the same weights
        try:
            self.worker = pool.get(contender, cell.threads, own.get(cell.kind))
        except NotHere as error:
            self.row |= {"error": str(error), "refused": True}
            return
        weights = "float32" if cell.kind == "train" else contender.weights
        spec = spec_of(contender, cell.size)
        loaded = self.worker.ask("load", name=self.name, spec=spec, weights=weights)
        self.keep(loaded, "parameters", "weight_bytes", "text")
        self.seat()

    @property
    def failed(self) -> bool:
        return "error" in self.row

    @property
    def decodes(self) -> bool:
        return self.cell.kind in ("decode", "flat", "streams")

    @property
    def position(self) -> int:
        at = self.contender.at
        return self.cell.point if at is None else at

    def keep(self, reply: dict[str, Any], *names: str) -> dict[str, Any]:
        """Put these parts of an answer into the row; an error always."""
        self.row |= {name: reply[name] for name in (*names, "error", "refused") if name in reply}
        return reply

    def seat(self) -> None:
        """Put the streams at their position, where the cell decodes."""
        if self.decodes and not self.failed:
            place = {"position": self.position, "rows": self.contender.rows}
            self.keep(self.worker.ask("seat", name=self.name, **place), "state_bytes")

    def prepare(self) -> None:
        """An uncounted run, which also says how many tokens make a run of SLICE seconds."""
        if self.failed or self.cell.kind == "memory":
            return
        if self.cell.kind == "train":  # a first step waits for memory that no one ever had
            if not self.worker.warm:
                self.keep(self.ask())
                self.worker.warm = True
            return
        if not self.decodes:
            self.keep(self.worker.ask("prefill", name=self.name, tokens=256))
            return
        reply = self.keep(self.ask())
        if not self.failed:
            steps = SLICE / (reply["wall"] / self.count)
            most = min(256, DRIFT // self.cell.rounds - 4)
            if self.contender.model in GROWING and self.position <= NEAR:
                most = 64
            self.count = int(max(4, min(most, steps)))

    def ask(self) -> dict[str, Any]:
        """One run, as the worker timed it."""
        cell, kind = self.cell, self.cell.kind
        if kind == "train":
            bfloat16 = self.contender.weights == "bfloat16"
            return self.worker.ask(
                "train", name=self.name, batch=cell.batch, length=cell.point, bfloat16=bfloat16
            )
        if not self.decodes:
            return self.worker.ask("prefill", name=self.name, tokens=cell.point)
        return self.worker.ask(
            "decode", name=self.name, tokens=self.count, rows=self.contender.rows
        )

    def run(self) -> None:
        """One counted run."""
        if self.failed:
            return
        if self.decodes and self.contender.model in GROWING and self.position <= NEAR:
            self.seat()
        reply = self.keep(self.ask(), "bytes")
        if self.failed:
            return
        clock = "cpu" if self.cell.threads == 1 else "wall"
        self.row["rates"].append(reply["tokens"] / reply[clock])
        for name in ("cpu", "wall"):
            self.row[name].append(reply[name])
        if self.cell.kind == "memory":
            self.keep(self.worker.ask("memory"), "peak")


def measure(cell: Cell, pool: Pool) -> dict[str, Any]:
    """All rounds of a cell; contenders alternate in order."""
    started = time.time()
    if cell.kind in ("train", "memory"):
        pool.close()  # make room
    turns = [Turn(cell, contender, pool) for contender in cell.contenders]
    for turn in turns:
        turn.prepare()
    for number in range(cell.rounds):
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn.run()
    pool.drop(own=cell.kind in ("train", "memory"))
    return {
        "cell": cell.name,
        "rows": {turn.contender.label: turn.row for turn in turns},
        "clock": "processor time" if cell.threads == 1 else "wall time",
        "rounds": cell.rounds,
        "seconds": round(time.time() - started, 1),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def finished(file: Path) -> dict[str, dict[str, Any]]:
    """The last record of every cell."""
    if not file.exists():
        return {}
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return {record["cell"]: record for record in records}


def missing(cell: Cell, records: dict[str, dict[str, Any]]) -> Cell | None:
    """The cell, if contenders of it were never measured, failed, or were not there yet.

    The whole cell is then measured again, because a ratio is between runs of one minute.
    """
    rows = records.get(cell.name, {}).get("rows", {})

    def settled(row: dict[str, Any]) -> bool:
        return "error" not in row or (row.get("refused", False) and DEFERRED not in row["error"])

    return None if all(settled(rows.get(c.label, UNKNOWN)) for c in cell.contenders) else cell


def keep_limits(file: Path) -> None:
    """Measure the machine's limits and keep the most that was ever found: before the cells and
    after them, because a limit found while a neighbour was busy would flatter every share of it."""
    known = json.loads(file.read_text()) if file.exists() else {}
    for name, rate in limits.measure().items():
        known[name] = max(rate, known.get(name, 0.0))
    file.write_text(json.dumps(known))


def show(record: dict[str, Any]) -> None:
    """A line a contender, fastest first."""
    print(f"{record['cell']}  ({record['seconds']} s, {record['clock']})")
    lines = speed_report.lines(record)
    print("\n".join(lines), flush=True)


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="run.py speed", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a look at everything, 2 minutes")
    parser.add_argument("--only", nargs="+", default=[], help="pieces of cell names, or peers")
    parser.add_argument("--skip", nargs="+", default=[], help="pieces of cell names, or peers")
    parser.add_argument("--again", action="store_true", help="measure finished cells anew")
    parser.add_argument("--list", action="store_true", help="show the cells and end")
    parser.add_argument("--report", action="store_true", help="only report the finished cells")
    parser.add_argument("--docs", action="store_true", help="write the section of the docs, too")
    return parser.parse_args(given)


def main(given: list[str]) -> None:
    """Measure what is missing, print it, write the result file."""
    options = arguments(given)
    work = WORK / "quick" if options.quick else WORK
    plan = quick_plan() if options.quick else full_plan()
    cells = chosen(plan, options.only, options.skip)
    log, kept = work / "cells.jsonl", work / "limits.json"
    records = finished(log)
    if not options.again:
        cells = [cell for cell in cells if missing(cell, records)]
    if options.list:
        for cell in cells:
            print(f"{cell.name:24} {cell.seconds:4} s  {len(cell.contenders)} contenders")
        return
    work.mkdir(parents=True, exist_ok=True)
    if not options.report:
        guess = sum(cell.seconds for cell in cells) + 20
        print(f"{len(cells)} cells, about {guess / 60:.0f} minutes; kept in {log}", flush=True)
        keep_limits(kept)
        pool = Pool()
        try:
            for cell in cells:
                if len(available()) < cell.threads:
                    print(f"{cell.name}: this machine has fewer than {cell.threads} processors")
                    continue
                record = measure(cell, pool)
                with log.open("a") as out:
                    print(json.dumps(record), file=out)
                show(record)
            if not options.quick:
                keep_limits(kept)
        finally:
            pool.close()
    found = json.loads(kept.read_text()) if kept.exists() else {}
    sizes = {name: dataclasses.asdict(size) for name, size in SIZES.items()}
    speed_report.report(finished(log), found, sizes, quick=options.quick, docs=options.docs)


if __name__ == "__main__":
    main(sys.argv[1:])
