"""Workers: one process a tool, that holds loaded models and times what it is told to do.

The runner writes one JSON object a line, `{"do": "decode", "name": ..., ...}`, and reads one back.
Clocks are read inside the worker, around the work alone: `cpu`, the processor time of all threads
of the process, which does not count the turns that other programs take; and `wall`. A reply with
"error" is an answer too: the model or the length is not to be had here, and the sentence says why.

A worker module calls `serve(load)`, where `load(spec, weights, threads)` returns a `Model`.
"""

import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

BENCHMARKS = Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent


class NotHere(Exception):
    """A sentence for the report: this contender cannot do this (on this machine, or at all)."""


class Model(Protocol):
    """One loaded contender. What it cannot do it refuses with `NotHere`."""

    def facts(self) -> dict[str, Any]:
        """parameters, weight_bytes, text (what runs: instruction set, settings)."""
        ...

    def set_threads(self, threads: int) -> None:
        """Threads of the calls to come."""
        ...

    def prefill(self, tokens: int) -> None:
        """Read a fresh text of that many tokens, logits of the last one."""
        ...

    def seat(self, position: int, rows: int) -> int:
        """Make `rows` streams that have read `position` tokens; returns bytes of their state."""
        ...

    def decode(self, tokens: int) -> None:
        """That many further steps of the seated streams, one token a stream and step."""
        ...

    def train(self, batch: int, length: int, bfloat16: bool) -> None:
        """One training step: forward, backward, AdamW."""
        ...


def resident(entry: str) -> int:
    """Bytes resident now ("VmRSS") or at the peak ("VmHWM"), from Linux's /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {entry}; this benchmark needs Linux.")


def pin(cpus: list[int]) -> None:
    """Bind every thread of this process, and those it starts from now on, to `cpus`."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)


def limit_memory(share: float = 0.85) -> None:
    """Let this process fail with an error when it asks for more than that share of the memory that
    is available now, instead of letting the kernel choose a victim."""
    text = Path("/proc/meminfo").read_text()
    free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    most = resident("VmSize") + int(share * free)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


class Server:
    """The commands of a worker."""

    def __init__(self, load: Callable[[dict[str, Any], str, int], Model]) -> None:
        self.load_model = load
        self.models: dict[str, Model] = {}
        self.threads = 1
        self.before: int | None = None

    def load(self, name: str, spec: dict[str, Any], weights: str) -> dict[str, Any]:
        """Bring a model into memory under a name; loading it again is instant."""
        if name not in self.models:
            self.models[name] = self.load_model(spec, weights, self.threads)
        return self.models[name].facts()

    def drop(self) -> dict[str, Any]:
        """Forget every model."""
        self.models.clear()
        return {}

    def place(self, threads: int, cpus: list[int]) -> dict[str, Any]:
        """Threads and processors from now on; models loaded with others are forgotten."""
        if threads != self.threads:
            self.models.clear()
        self.threads = threads
        pin(cpus)
        return {}

    def prefill(self, name: str, tokens: int) -> dict[str, Any]:
        return self._timed(name, lambda model: model.prefill(tokens), tokens)

    def seat(self, name: str, position: int, rows: int = 1) -> dict[str, Any]:
        model = self.models[name]
        model.set_threads(self.threads)
        started = time.perf_counter()
        size = model.seat(position, rows)
        return {"state_bytes": size, "wall": time.perf_counter() - started}

    def decode(self, name: str, tokens: int, rows: int = 1) -> dict[str, Any]:
        self.models[name].decode(2)  # other contenders have had the caches since
        return self._timed(name, lambda model: model.decode(tokens), tokens * rows)

    def train(self, name: str, batch: int, length: int, bfloat16: bool) -> dict[str, Any]:
        """`bytes`: the peak of this step above what the process held before: weights, gradients'
        and moments' places and the libraries are the same in every step and not counted."""
        if self.before is None:
            limit_memory()
            self.models[name].train(1, 64, bfloat16)  # what is allocated once and for all
            self.before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        reply = self._timed(
            name, lambda model: model.train(batch, length, bfloat16), batch * length
        )
        reply["bytes"] = resident("VmHWM") - self.before
        return reply

    def memory(self) -> dict[str, Any]:
        return {"resident": resident("VmRSS"), "peak": resident("VmHWM")}

    def _timed(self, name: str, work: Callable[[Model], None], tokens: int) -> dict[str, Any]:
        model = self.models[name]
        model.set_threads(self.threads)
        wall, cpu = time.perf_counter(), time.process_time()
        work(model)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"tokens": tokens, "cpu": cpu, "wall": wall}


def serve(load: Callable[[dict[str, Any], str, int], Model]) -> None:
    """Answer commands from standard input until it ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(load)
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("do")
        try:
            reply = getattr(server, command)(**request)
        except NotHere as error:
            reply = {"error": str(error), "refused": True}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=answers, flush=True)


class Worker:
    """The runner's end of a worker process."""

    def __init__(self, python: str | Path, module: str, log: Path, threads: int = 2) -> None:
        # The pool is made as large as the most threads asked for; each call says how many it uses.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [str(python), "-W", "ignore", "-m", f"peers.{module}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, cwd=BENCHMARKS, env=environment,
            )  # fmt: skip
        self.log, self.warm = log, False

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the worker ended (status {self.process.wait()}); see {self.log}"}
        return json.loads(line)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End the process: it stops when its input does."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
