"""Workers of `matvec`: one process a tool, that holds loaded chains of layers and times them.

One JSON object a line, read and answered, as in `protocol.py`. A worker module calls
`serve(load)`, where `load(folder, kind, layers)` returns a function that runs the chain that often.
Times are per call: `cpu`, processor time of all threads, and `wall`. Needs nothing but Python.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

SIZE = 1024
"""Inputs and outputs of every matrix."""
LSTM_LAYERS = 5
FLUSH = bytearray(64 << 20)
"""Read between frames that are to find nothing in the caches."""


def serve(load: Callable[[Path, str, int], Callable[[int], object]]) -> None:
    """Answer commands from standard input until it ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    chains: dict[str, Callable[[int], object]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = f"{request['kind']}, {request['layers']}"
        try:
            if request["do"] == "load":
                chains[name] = load(Path(request["folder"]), request["kind"], request["layers"])
                chains[name](1)
                reply = {}
            else:
                reply = timed(chains[name], request["times"], request.get("flush", False))
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=answers, flush=True)


def timed(run: Callable[[int], object], times: int, flush: bool) -> dict[str, float]:
    """Seconds a call: of `times` calls together, or with `flush` of the fastest of them, each after
    64 MiB of other memory were read."""
    best = {"cpu": float("inf"), "wall": float("inf")}
    for _ in range(times if flush else 1):
        count = 1 if flush else times
        if flush:
            FLUSH.count(1)
        wall, cpu = time.perf_counter(), time.process_time()
        run(count)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        found = {"cpu": cpu / count, "wall": wall / count}
        best = {clock: min(best[clock], found[clock]) for clock in best}
    return best
