"""Realization: identification against nfoursid and statsmodels on the same outputs, and textures.

    make bench ARGS='realization PEERS_PYTHON [RUNS]'

PEERS_PYTHON is the interpreter of an environment with nfoursid and statsmodels (`python -m venv X;
X/bin/pip install nfoursid statsmodels`); this file runs itself there with the argument `peer`.
Every model is judged in the same closed form: what its one-step predictor loses against that of the
system that made the outputs, in nats a sample, next to n_par / 2T, what maximum likelihood loses.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = (1_000, 10_000)
PEER_LIMIT = 240
"""Seconds a peer may take for one series."""


def truth() -> Any:
    """Four states, two outputs: poles -0.5, 0.7, 0.79 ± 0.43i."""
    from solomonic.realization import StateSpace, innovations_form

    random = np.random.default_rng(3)
    A = np.zeros((4, 4))
    A[0, 0], A[1, 1], A[2:, 2:] = -0.5, 0.7, [[0.79, 0.43], [-0.43, 0.79]]
    C, noise = random.standard_normal((2, 4)), random.standard_normal((4, 4))
    return innovations_form(StateSpace(A, C, noise @ noise.T, np.eye(2)))


def peer(name: str, path: str) -> dict[str, Any]:
    """Fit one peer (4 states are told to it); matrices of its innovations form."""
    y = np.load(path)
    warnings.simplefilter("ignore")
    if name == "nfoursid":
        import pandas
        from nfoursid.nfoursid import NFourSID

        started = time.process_time()
        names = [f"y{k}" for k in range(y.shape[1])]
        found = NFourSID(pandas.DataFrame(y - y.mean(0), columns=names), names, num_block_rows=10)
        found.subspace_identification()
        model, covariance = found.system_identification(rank=4)
        m = y.shape[1]
        R, S, Q = covariance[:m, :m], covariance[m:, :m], covariance[m:, m:]
        seconds = time.process_time() - started
        return {"A": model.a.tolist(), "C": model.c.tolist(), "Q": Q.tolist(), "R": R.tolist(),
                "S": S.tolist(), "seconds": seconds}  # fmt: skip
    from statsmodels.tsa.statespace.varmax import VARMAX

    started = time.process_time()
    found = VARMAX(y, order=(2, 2), trend="c").fit(disp=False, maxiter=200)
    seconds = time.process_time() - started
    filtered = found.filter_results
    A, C = (np.asarray(getattr(filtered, name)[:, :, -1]) for name in ("transition", "design"))
    K = np.asarray(filtered.kalman_gain[:, :, -1])
    R = np.asarray(filtered.forecasts_error_cov[:, :, -1])
    return {"A": A.tolist(), "C": C.tolist(), "K": K.tolist(), "R": R.tolist(),
            "seconds": seconds, "converged": bool(found.mle_retvals["converged"])}  # fmt: skip


def run_peer(python: str, name: str, y: np.ndarray) -> dict[str, Any]:
    """A peer in its own process and environment."""
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place) / "y.npy")
        np.save(path, y)
        command = [python, __file__, "peer", name, path]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PEER_LIMIT, check=True
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done within {PEER_LIMIT} s"}
        except subprocess.CalledProcessError as error:
            return {"failed": error.stderr.strip().splitlines()[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """Excess loss and poles of a peer's model."""
    from solomonic.core import SolomonicError
    from solomonic.realization import StateSpace, expected_loss, from_innovations

    if "failed" in found:
        return found
    real = truth()
    record = {key: found[key] for key in ("seconds", "converged") if key in found}
    A = np.array(found["A"])
    record["poles"] = [[p.real, p.imag] for p in np.linalg.eigvals(A).astype(complex)]
    record["pole_error"] = pole_error(np.linalg.eigvals(A))
    try:
        if "K" in found:
            model = from_innovations(A, found["C"], found["K"], found["R"])
        else:
            model = StateSpace(A, found["C"], found["Q"], found["R"], found["S"])
        record["excess_nats"] = expected_loss(model, real) - expected_loss(real, real)
    except SolomonicError as error:
        record["failed"] = str(error)
    return record


def pole_error(poles: np.ndarray) -> float:
    """Largest distance from a true pole to the nearest one found."""
    return float(np.abs(truth().poles()[:, None] - poles).min(1).max())


def ours(y: np.ndarray, order: int | None) -> dict[str, Any]:
    """`identify` on the same outputs."""
    from solomonic.realization import expected_loss, identify

    started = time.process_time()
    found = identify(y, order)
    seconds = time.process_time() - started
    real = truth()
    return {
        "order": found.order,
        "seconds": seconds,
        "pole_error": pole_error(found.model.poles()),
        "excess_nats": expected_loss(found.model, real) - expected_loss(real, real),
    }


def textures() -> dict[str, Any]:
    """24 x 24 x 400 frames, 20 states: seconds of the processor and of the clock, least of 5."""
    from solomonic.realization import StateSpace, fit_texture

    random = np.random.default_rng(0)
    radius, angle = np.linspace(0.985, 0.998, 10), np.linspace(0.12, 1.6, 10)
    A = np.zeros((20, 20))
    for k, (r, a) in enumerate(zip(radius, angle, strict=True)):
        turn = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = r * np.array(turn)
    images = np.linalg.qr(random.standard_normal((576, 20)))[0].T
    model = StateSpace(A, np.eye(20), np.eye(20) - A @ A.T, np.zeros((20, 20)))
    frames = model.sample(400, 1) @ images + 1e-3 * random.standard_normal((400, 576))
    frames = frames.reshape(400, 24, 24)
    clock, processor = [], []
    for _ in range(5):
        before = time.perf_counter(), time.process_time()
        texture = fit_texture(frames)
        clock.append(time.perf_counter() - before[0])
        processor.append(time.process_time() - before[1])
    apart = np.abs(model.poles()[:, None] - texture.poles()).min(1).max()
    return {"seconds": min(processor), "wall_seconds": min(clock), "pole_error": float(apart)}


def measure(python: str, runs: int) -> list[dict[str, Any]]:
    """One record a length and a method, every method on the same outputs."""
    real, records = truth(), []
    for length in LENGTHS:
        for run in range(runs):
            y = real.sample(length, run + 1)
            found = {"identify": ours(y, None), "identify, order told": ours(y, 4)}
            found["nfoursid"] = judge(run_peer(python, "nfoursid", y))
            if run == 0:  # minutes a fit
                found["statsmodels VARMAX(2, 2)"] = judge(run_peer(python, "statsmodels", y))
            for name, record in found.items():
                records.append({"method": name, "samples": length, "run": run, **record})
                shown = {k: v for k, v in records[-1].items() if k != "poles"}
                print(json.dumps(shown), flush=True)
    return records


def main(arguments: list[str]) -> None:
    """Measure and write one result file."""
    if not arguments:
        sys.exit(__doc__)
    from solomonic.evals.report import save_report

    load = os.getloadavg()
    runs = int(arguments[1]) if len(arguments) > 1 else 10
    report = {
        "settings": {
            "system": "4 states, 2 outputs, poles -0.5, 0.7, 0.79 ± 0.43i",
            "theory_excess_nats": {str(n): (16 + 3 + 2) / 2 / n for n in LENGTHS},
            "load_before": load,
        },
        "results": measure(arguments[0], runs),
        "texture": textures(),
    }
    report["settings"]["load_after"] = os.getloadavg()
    print(report["texture"])
    print(save_report(Path(__file__).parent / "results", "realization", report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        print(json.dumps(peer(sys.argv[2], sys.argv[3])))
    else:
        main(sys.argv[1:])
