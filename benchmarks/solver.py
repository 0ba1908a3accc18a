"""The solver: traps never fallen into, second calls, and the cost of a family of related tasks.

    make bench ARGS="solver [--only traps|second|family] [--pairs 5000] [--tasks 120] [--seed 1]"

Cost is counted in candidates that a search evaluated and calls of verifiers, which no other process
can change, and in seconds, which stand beside them. `cold` is the same search with nothing
remembered: a new solver for every task. Each part is a few minutes.
"""

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.evals.report import markdown_table, save_report
from solomonic.evals.traps import traps
from solomonic.memory.solver import Answer, Budget, Solver, SolverConfig, Task

RESULTS = Path(__file__).parent / "results"
KINDS = ("arithmetic", "units", "truth", "sequence", "function")
BUDGETS = {"sequence": Budget(seconds=60, candidates=1_000_000)}
BUDGETS["function"] = Budget(seconds=60, candidates=150_000)
COLD = SolverConfig(near=0)
PARTS = ("traps", "second", "family")


def measure_traps(pairs: int, seed: int) -> dict[str, Any]:
    """Both tasks of every pair in turn, in one store; and what a cache by likeness would do."""
    paths: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    wrong, cache_wrong = 0, 0
    began = time.perf_counter()
    budget = Budget(seconds=10, candidates=2000)
    with Solver() as solver:
        for trap in traps(pairs, seed, KINDS):
            first = solver.solve(Task.from_record(trap.first), budget)
            second = solver.solve(Task.from_record(trap.second), budget)
            paths[second.path] += 1
            changes[trap.change] += 1
            if second.value is not None and not trap.right(second.value, second.details):
                wrong += 1
            if first.value is not None and not _right(trap.right, first):
                cache_wrong += 1
    return {
        "pairs": pairs,
        "wrong": wrong,
        "paths": dict(paths),
        "changes": dict(changes),
        "wrong if the near-duplicate's answer were served": cache_wrong,
        "seconds": time.perf_counter() - began,
    }


def _right(right: Callable[..., bool], answer: Answer) -> bool:
    """Whether the first task's answer would have been right for the second."""
    try:
        return right(str(answer.value), answer.details)
    except (ValueError, TypeError, ArithmeticError, IndexError):
        return False


def sequences(count: int, seed: int) -> Iterator[Task]:
    """Different sequences of related rules, 10 terms each."""
    rng, seen = random.Random(seed), set()
    while len(seen) < count:
        a, b, c = rng.randint(1, 3), rng.randint(0, 2), rng.randint(0, 2)
        rule = rng.choice(["quadratic", "sums", "powers", "steps", "fibonacci", "products"])
        base = [a * n * n + b * n + c for n in range(10)]
        match rule:
            case "sums":
                terms = np.cumsum(base).tolist()
            case "powers":
                terms = [a * 2**n + b * n + c for n in range(10)]
            case "steps":
                terms = [a * (n // 2) + b * (n % 2) + c for n in range(10)]
            case "fibonacci":
                terms = [a, a + b]
                while len(terms) < 10:
                    terms.append(terms[-1] + terms[-2])
            case "products":
                terms = [n * (a * n + b) * (n + c) for n in range(10)]
            case _:
                terms = base
        if tuple(terms) not in seen:
            seen.add(tuple(terms))
            yield Task("sequence", {"terms": terms}, f"{rule} {a} {b} {c}")


WORDS = ["ada", "grace", "alan", "edsger", "barbara", "donald", "frances", "tony", "lovelace"]
FUNCTIONS: dict[str, Callable[[Any, int, str], Any]] = {
    "initials": lambda x, k, s: s.join(w[:1].upper() for w in x.split()),
    "last word": lambda x, k, s: s + x.split()[-1].upper(),
    "joined": lambda x, k, s: s.join(sorted(x.split())),
    "titled": lambda x, k, s: x.title() + s,
    "replaced": lambda x, k, s: x.upper().replace(" ", s),
    "first letters": lambda x, k, s: x[:k] + s,
    "top": lambda x, k, s: sorted(x)[::-1][:k],
    "sum of squares": lambda x, k, s: sum(v * v for v in x) + k,
    "scaled": lambda x, k, s: [v * k for v in x if v % 2 == 0],
    "running": lambda x, k, s: sum(sorted(x)[:k]),
    "above": lambda x, k, s: len([v for v in x if v > k]),
    "line": lambda x, k, s: [v * k + 1 for v in x],
}


def functions(count: int, seed: int) -> Iterator[Task]:
    """Different functions of texts and of lists, four examples each."""
    rng, seen = random.Random(seed), set()
    names = list(FUNCTIONS)
    while len(seen) < count:
        name = rng.choice(names)
        k, s = rng.randint(1, 4), rng.choice([" ", "", "-", ".", "/", "_", "+", "; ", ":", "#"])
        examples = []
        for _ in range(4):
            if names.index(name) < 6:
                given: Any = " ".join(rng.sample(WORDS, rng.randint(2, 3)))
            else:
                given = [rng.randint(-9, 20) for _ in range(rng.randint(4, 7))]
            examples.append({"in": [given], "out": FUNCTIONS[name](given, k, s)})
        key = (name, s) if names.index(name) < 5 else (name, k, s * (name == "first letters"))
        if key not in seen:
            seen.add(key)
            yield Task("function", {"examples": examples}, f"{name} {k} {s!r}")


def measure_family(tasks: list[Task]) -> dict[str, Any]:
    """The family once with experience (one store on the disk), once cold."""
    budget = BUDGETS[tasks[0].kind]
    with tempfile.TemporaryDirectory() as folder, Solver(Path(folder) / "s.db") as solver:
        warm = [solver.solve(task, budget) for task in tasks]
        # Once more: nothing may have been forgotten, and nothing may cost much.
        again = [solver.solve(task, budget) for task, a in zip(tasks, warm, strict=True) if a.value]
    cold = []
    for task in tasks:
        with Solver(config=COLD) as solver:
            cold.append(solver.solve(task, budget))
    both = [
        (w, c)
        for w, c in zip(warm, cold, strict=True)
        if w.value is not None and c.value is not None
    ]
    tenth = max(1, len(tasks) // 10)
    curve = [sum(a.cost.work for a in warm[i : i + tenth]) for i in range(0, len(warm), tenth)]
    return {
        "tasks": len(tasks),
        "solved": sum(a.value is not None for a in warm),
        "solved cold": sum(a.value is not None for a in cold),
        "paths": dict(Counter(a.path for a in warm)),
        "work": sum(a.cost.work for a in warm),
        "work cold": sum(a.cost.work for a in cold),
        "work ratio": _ratio(sum(a.cost.work for a in cold), sum(a.cost.work for a in warm)),
        "work ratio, solved by both": _ratio(
            sum(c.cost.work for _, c in both), sum(w.cost.work for w, _ in both)
        ),
        "seconds": sum(a.cost.seconds for a in warm),
        "seconds cold": sum(a.cost.seconds for a in cold),
        "seconds ratio": _ratio(
            sum(a.cost.seconds for a in cold), sum(a.cost.seconds for a in warm)
        ),
        "work by tenth": curve,
        "second time, work": sum(a.cost.work for a in again),
        "second time, seconds": sum(a.cost.seconds for a in again),
    }


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf")


def measure_second(tasks: list[Task]) -> dict[str, Any]:
    """The second call of tasks that had to be searched for, against the first, task by task."""
    work, seconds, same = [], [], True
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder, Solver(Path(folder) / "s.db") as solver:
            first = solver.solve(task, BUDGETS[task.kind])
            second = solver.solve(task, BUDGETS[task.kind])
        if first.path != "searched":
            continue
        same &= first.value == second.value and second.path == "hit"
        work.append(second.cost.work / first.cost.work)
        seconds.append(second.cost.seconds / first.cost.seconds)
    shares = np.array(work)
    return {
        "tasks": len(work),
        "identical": same,
        "work, median": float(np.median(shares)),
        "work, largest": float(shares.max()),
        "work, total": _ratio(len(work), sum(1 / share for share in shares)),
        "tasks above 1% of the work": int((shares > 0.01).sum()),
        "seconds, median": float(np.median(seconds)),
        "seconds, largest": float(max(seconds)),
    }


def main(arguments: list[str]) -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="solver")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--tasks", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    for part in PARTS if options.only is None else (options.only,):
        record: dict[str, Any] = {}
        if part == "traps":
            record["traps"] = measure_traps(options.pairs, options.seed)
        for kind, make in (("sequence", sequences), ("function", functions)):
            tasks = list(make(options.tasks, options.seed))
            if part == "family":
                record[kind] = measure_family(tasks)
            elif part == "second":
                record[kind] = measure_second(tasks)
        for name, figures in record.items():
            rows = [[key, str(value)] for key, value in figures.items()]
            print(f"\n{part}: {name}\n\n" + markdown_table(["figure", "value"], rows))
        print(
            save_report(options.out, f"solver_{part}", {"load": os.getloadavg(), "results": record})
        )
