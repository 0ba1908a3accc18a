"""`solomonic solve TASKS --store STORE`: tasks by verified experience, a guess, or a search."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import ConfigError, SolomonicError

if TYPE_CHECKING:
    from solomonic.memory.solver import Answer, Solver, Task

_SHOWN = 60  # characters of a value in the table


def solve(
    tasks: Annotated[Path, typer.Argument(metavar="TASKS", help="Tasks, one JSON object a line.")],
    store: Annotated[str, typer.Option(help="Memory of solved tasks; made where it is missing.")],
    budget: Annotated[float, typer.Option(help="Seconds of searching a task, each time.")] = 10.0,
    candidates: Annotated[
        int | None, typer.Option(help="At most so many candidates a task, each time.")
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|FILE|shipped",
            help="A language model that proposes answers: a folder, a device file, or 'shipped'.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Answer open tasks, unverified, from this confidence on (0 to 1)."),
    ] = None,
    allow_weak_sandbox: Annotated[
        bool,
        typer.Option(
            "--allow-weak-sandbox",
            help="Run Python and Lean where nothing keeps them from the network.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Solve tasks; whatever was solved before is verified again and costs next to nothing.

    Stopped runs lose nothing: the same command goes on, also within a search. A task that is
    malformed or of an unknown kind is reported and the others are solved. With `--json` one line
    of JSON a task.
    """
    from solomonic.memory.solver import Budget, SandboxConfig, Solver, SolverConfig, read_tasks
    from solomonic.memory.solver.domains import all_domains

    listed = read_tasks(tasks)
    limits = Budget(seconds=budget, candidates=candidates)
    config = SolverConfig(confidence=confidence)
    domains = all_domains(SandboxConfig(allow_weak=allow_weak_sandbox))
    proposer = None if lm is None else _proposer(lm)
    with Solver(store, domains=domains, proposer=proposer, config=config) as solver:
        report = Report(json)
        for number, task in enumerate(listed, 1):
            report.task(number, len(listed), task)
            try:
                answer = solver.solve(task, limits, report.progress)
            except SolomonicError as error:
                report.failed(task, error)
            except KeyboardInterrupt:
                report.end(solver)
                console.say("stopped; the same command goes on from here")
                raise
            else:
                report.answered(task, answer)
        report.end(solver)
    if report.refused:
        raise ConfigError(
            f"{report.refused} of {len(listed)} tasks were refused, see above; the others are done."
        )


def _proposer(lm: str) -> Any:
    from solomonic.lm.any_model import load_any
    from solomonic.lm.paths import engine
    from solomonic.lm.proposer import LanguageModelProposer

    model, tokenizer, _ = load_any(lm)
    chosen, _ = engine(model, "auto")
    if chosen == "native":
        from solomonic.lm.native import NativeModel

        return LanguageModelProposer(NativeModel(model), tokenizer)
    return LanguageModelProposer(model, tokenizer)


class Report:
    """What people and programs see of a run."""

    def __init__(self, json: bool) -> None:
        self.json = json
        self.paths: dict[str, int] = {}
        self.refused = 0
        self.work = 0
        self.began = time.perf_counter()
        self._label = ""
        self._spoken = self.began

    def task(self, number: int, total: int, task: Task) -> None:
        self._label = f"{number}/{total} {task.id} ({task.kind})"

    def progress(self, cost: Any) -> None:
        """A line every five seconds while a search goes on."""
        now = time.perf_counter()
        if now - self._spoken >= 5:
            self._spoken = now
            console.say(
                f"{self._label}: {cost.candidates:,} candidates in {cost.seconds:.0f} s ..."
            )

    def failed(self, task: Task, error: SolomonicError) -> None:
        self.refused += 1
        if self.json:
            console.emit_line({"id": task.id, "kind": task.kind, "error": str(error)})
        console.say(f"{self._label}: refused: {error}")

    def answered(self, task: Task, answer: Answer) -> None:
        self.paths[answer.path] = self.paths.get(answer.path, 0) + 1
        self.work += answer.cost.work
        if self.json:
            record = {"id": task.id, "kind": task.kind, **dataclasses.asdict(answer)}
            console.emit_line(record)
            return
        value = answer.value
        if value is None:
            shown = f"- ({answer.proof})"
        else:
            line = " ".join(value.split())
            shown = line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."
        told = [f"{task.id}: {shown}", answer.path]
        if answer.value is not None:
            told.append(answer.proof)
        told.append(f"{answer.cost.candidates:,} candidates, {answer.cost.seconds:.3f} s")
        print("  ".join(told), flush=True)
        for name, extra in answer.details.items():
            print(f"    {name}: {extra}".rstrip().replace("\n", "\n        "), flush=True)

    def end(self, solver: Solver) -> None:
        seconds = time.perf_counter() - self.began
        found = ", ".join(f"{count} {path}" for path, count in sorted(self.paths.items()))
        console.say(
            f"{found or 'nothing'}; {self.work:,} candidates and verifications in {seconds:.2f} s"
        )
        totals = solver.ledger.summary().values()
        solved, known = sum(t["solved"] for t in totals), sum(t["tasks"] for t in totals)
        console.say(f"{solver.ledger.place} now holds {known:,} tasks, {solved:,} of them solved")
