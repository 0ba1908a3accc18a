"""The solver's five paths, what it remembers, and that nothing unverified is served."""

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from solomonic.core import CheckpointError, ConfigError, DataError, StorageError
from solomonic.evals.traps import Trap, traps
from solomonic.memory import Memory
from solomonic.memory.solver import (
    Budget,
    Known,
    Proposal,
    Solver,
    SolverConfig,
    Task,
    Verdict,
    read_tasks,
)
from solomonic.memory.solver.domains.arithmetic import Arithmetic
from solomonic.memory.solver.domains.lean import Lean
from solomonic.memory.solver.domains.python import PythonTests
from solomonic.memory.solver.domains.sequences import Sequences
from solomonic.memory.solver.sandbox import SandboxConfig, protections

PATIENT = Budget(seconds=300)
SLOW = SandboxConfig(seconds=60.0)
BRACKETS = "S -> '(' S ')' S | ''"
needs_sandbox = pytest.mark.skipif("seccomp" not in protections(), reason="no seccomp here")


def sum_task(text: str = "1 + 1") -> Task:
    return Task("arithmetic", {"expression": text})


def sequence(*terms: int, **more: Any) -> Task:
    return Task("sequence", {"terms": list(terms), **more})


def function(*pairs: tuple[list[Any], Any]) -> Task:
    return Task("function", {"examples": [{"in": given, "out": out} for given, out in pairs]})


@dataclasses.dataclass
class Guesser:
    """Says what it was told to; counts its draws."""

    guesses: list[str]
    confidence: float = 0.9
    name: str = "guesser"
    drawn: list[int] = dataclasses.field(default_factory=list)
    prompts: list[str] = dataclasses.field(default_factory=list)

    def best(self, prompt: str, stop: str) -> Proposal | None:
        self.prompts.append(prompt)
        return Proposal(self.guesses[0], self.confidence) if self.guesses else None

    def sample(self, prompt: str, stop: str, index: int) -> Proposal:
        self.drawn.append(index)
        return Proposal(self.guesses[index % len(self.guesses)], self.confidence)


def test_the_second_call_is_a_hit_that_was_verified_again(tmp_path: Path) -> None:
    task = function((["ada lovelace"], "AL"), (["grace hopper"], "GH"))
    with Solver(tmp_path / "s.db") as solver:
        first = solver.solve(task, PATIENT)
    with Solver(tmp_path / "s.db") as solver:  # another process, as far as it can tell
        second = solver.solve(dataclasses.replace(task, id="another name"), PATIENT)
    assert (first.path, second.path) == ("searched", "hit")
    assert first.value == second.value and second.verified
    assert second.cost.candidates == 0 and second.cost.verifications == 1
    assert second.cost.work <= first.cost.work / 100


def test_a_stored_answer_that_is_wrong_is_not_served(tmp_path: Path) -> None:
    with Solver(tmp_path / "s.db") as solver:
        solver.solve(sum_task("2 + 2"))
    with sqlite3.connect(tmp_path / "s.db") as db:
        assert db.execute("UPDATE solver_task SET value = '5'").rowcount == 1
    db.close()
    with Solver(tmp_path / "s.db") as solver:
        answer = solver.solve(sum_task("2 + 2"))
        assert (answer.value, answer.path) == ("4", "searched")
        assert solver.solve(sum_task("2 + 2")).path == "hit"


def test_every_answer_was_accepted_for_this_very_task() -> None:
    """A verifier that notes what it accepted: nothing else may come out."""
    accepted: set[tuple[str, str]] = set()

    class Watched(Sequences):
        def verify(self, task: Known, value: str) -> Verdict:
            verdict = super().verify(task, value)
            if verdict.accepted:
                accepted.add((task.key, value))
            return verdict

    domain = Watched()
    rng = random.Random(3)
    with Solver(domains=[domain]) as solver:
        for _ in range(40):
            a, b, c = (rng.randint(0, 2) for _ in range(3))
            task = sequence(*(a * n * n + b * n + c for n in range(8)))
            accepted.clear()
            answer = solver.solve(task, Budget(seconds=60, candidates=3000))
            if answer.value is not None:
                assert answer.verified
                assert (domain.read(task.content).key, answer.value) in accepted


def solved_wrong(solver: Solver, trap: Trap) -> bool:
    budget = Budget(seconds=60, candidates=500)
    solver.solve(Task.from_record(trap.first), budget)
    answer = solver.solve(Task.from_record(trap.second), budget)
    try:
        return answer.value is not None and not trap.right(answer.value, answer.details)
    except ValueError:
        return True  # not even of the right form


KINDS = ("arithmetic", "units", "truth", "sequence", "function")


def test_near_duplicates_are_never_answered_wrongly() -> None:
    pairs = int(os.environ.get("SOLOMONIC_TRAPS", "150"))
    with Solver() as solver:
        wrong = [trap for trap in traps(pairs, 11, KINDS) if solved_wrong(solver, trap)]
    assert wrong == []


def test_the_traps_catch_a_solver_that_trusts_likeness() -> None:
    class Trusting(Arithmetic):
        def verify(self, task: Known, value: str) -> Verdict:
            return Verdict(True, "it looks alike")

    with Solver(domains=[Trusting()]) as solver:
        wrong = sum(solved_wrong(solver, trap) for trap in traps(60, 11, KINDS[:3]))
    assert wrong > 20


def test_solutions_of_others_are_adapted() -> None:
    with Solver() as solver:
        assert solver.solve(sequence(0, 1, 4, 9, 16, 25), PATIENT).path == "searched"
        near = solver.solve(sequence(3, 8, 23, 48, 83, 128, next=2), PATIENT)
        assert (near.path, near.details["next"]) == ("adapted", [183, 248])
        solver.solve(function(([[1, 2, 3]], 14), ([[2]], 4), ([[3, 1]], 10)), PATIENT)
        solver.solve(function((["a b"], "B,A"), (["x y z"], "Z,Y,X")), PATIENT)
        other = solver.solve(function((["a b"], "B;A"), (["x y z"], "Z;Y;X")), PATIENT)
        assert other.path == "adapted"


def test_a_family_gets_cheaper() -> None:
    """Initials with ever other signs between: the first is searched for, the others are adapted."""
    words = ["ada lovelace", "grace brewster hopper", "alan turing"]
    costs = []
    with Solver() as solver:
        for sign in ["-", "/", ": ", "+", "#"]:
            pairs = [([text], sign.join(w[0].upper() for w in text.split())) for text in words]
            answer = solver.solve(function(*pairs), PATIENT)
            assert answer.verified
            costs.append(answer.cost.work)
    assert sum(costs[1:]) < costs[0] / 5


def test_a_retry_starts_where_the_budget_ended(tmp_path: Path) -> None:
    """In pieces over several processes' lives, as many candidates as in one go."""
    tasks = [
        function((["ada lovelace"], "AL"), (["grace hopper"], "GH")),
        Task("grammar", {"grammar": BRACKETS, "contains": ["(()())"], "min_length": 8}),
    ]
    for task in tasks:
        with Solver() as solver:
            whole = solver.solve(task, PATIENT)
        spent, calls = 0, 0
        while True:
            calls += 1
            with Solver(tmp_path / "s.db") as solver:
                answer = solver.solve(
                    task, Budget(seconds=60, candidates=whole.cost.candidates // 5)
                )
            spent += answer.cost.candidates
            if answer.path != "gave up":
                break
            assert answer.value is None and not answer.verified
            assert answer.spent.candidates == spent
        assert (answer.value, answer.path) == (whole.value, "searched")
        assert 5 <= calls <= 8
        assert whole.cost.candidates <= spent <= whole.cost.candidates + 20


def test_the_bank_of_sequences_is_made_once(tmp_path: Path) -> None:
    hard = sequence(2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    budget = Budget(seconds=60, candidates=20_000)
    with Solver(tmp_path / "s.db") as solver:
        assert solver.solve(hard, budget).path == "gave up"
    with Solver(tmp_path / "s.db") as solver:
        cubes = solver.solve(sequence(0, 1, 8, 27, 64, 125), budget)
        assert cubes.path == "searched" and cubes.cost.candidates == 0
        again = solver.solve(hard, budget)
    assert 20_000 <= again.cost.candidates < 150_000
    assert again.spent.candidates >= 40_000


def test_an_exhausted_search_says_so() -> None:
    task = Task("grammar", {"grammar": "S -> 'a' | 'b'", "contains": ["c"]})
    with Solver() as solver:
        answer = solver.solve(task)
        assert answer.path == "gave up" and "nothing is left" in answer.proof


def test_a_proposer_is_served_only_when_the_verifier_accepts() -> None:
    with Solver(proposer=Guesser(["2"])) as solver:
        right = solver.solve(sum_task("1 + 1"))
        wrong = solver.solve(sum_task("1 + 2"))
    assert (right.path, right.value, right.verified) == ("proposed", "2", True)
    assert (wrong.path, wrong.value) == ("searched", "3")


@needs_sandbox
def test_draws_go_on_and_are_verified_once(tmp_path: Path) -> None:
    """Four wrong sources and a right one, drawn one a call; the fourth repeats the first."""
    wrong = "x):\n    return x\n"
    guesser = Guesser([wrong, wrong, "x):\n    return -x\n", "x):\n    return x * x + 0.5 - 0.5\n"])
    tests = "assert square(3) == 9\nassert square(1.5) == 2.25\nassert square(-2.0) == 4"
    task = Task("python", {"name": "square", "tests": tests, "prompt": "the square"})
    verifications = 0
    for _ in range(10):
        with Solver(tmp_path / "s.db", domains=[PythonTests(SLOW)], proposer=guesser) as solver:
            answer = solver.solve(task, Budget(seconds=60, candidates=2))
        verifications += answer.cost.verifications
        if answer.value is not None:
            break
    assert answer.path == "searched"
    assert guesser.drawn == [0, 1, 2, 3]
    assert verifications == 3  # the three different sources
    assert "# the square" in guesser.prompts[0] and "def square(" in guesser.prompts[0]


def test_kinds_without_a_verifier_are_refused_or_marked() -> None:
    task = Task("open", {"question": "Who?"})
    with (
        Solver(proposer=Guesser(["Ada"])) as solver,
        pytest.raises(ConfigError, match="nothing verifies"),
    ):
        solver.solve(task)
    sure, unsure = Guesser(["Ada"], 0.95), Guesser(["Ada"], 0.5)
    config = SolverConfig(confidence=0.9)
    with Solver(proposer=sure, config=config) as solver:
        for _ in range(2):  # never remembered as experience
            answer = solver.solve(task)
            assert (answer.value, answer.path, answer.verified) == ("Ada", "confident", False)
            assert answer.proof.startswith("NOT VERIFIED")
        assert solver.ledger.summary() == {}
    with Solver(proposer=unsure, config=config) as solver:
        assert solver.solve(task).value is None


def test_a_verifier_that_is_switched_off_is_refused() -> None:
    class Unverified(Arithmetic):
        verifier = ""

    with (
        Solver(domains=[Unverified()]) as solver,
        pytest.raises(ConfigError, match="nothing verifies"),
    ):
        solver.solve(sum_task())


@needs_sandbox
def test_python_cannot_pretend_to_have_passed() -> None:
    domain = PythonTests(SLOW)
    task = domain.read({"name": "f", "tests": "assert f(2) == 4\nassert f(3) == 9"})
    good = "def f(x):\n    return x * x\n"
    bad = [
        "def f(x):\n    return x + 2\n",
        "import os\nos._exit(0)\n",
        "raise SystemExit(0)\n",
        "class A(int):\n    def __eq__(self, o): return True\n    def __repr__(self): return '9'\n"
        "def f(x):\n    return A()\n",
        'import os\nos.write(int(os.environ[\'RESULT\']), b\'["x", ["4", "9"]]\')\nos._exit(0)\n',
        "def f(x):\n    while True: pass\n",
        "def f(:\n",
    ]
    quick = PythonTests(SandboxConfig(seconds=60.0, cpu_seconds=1))
    assert quick.verify(task, good).accepted
    for source in bad:
        assert not quick.verify(task, source).accepted, source
    inside = domain.read({"name": "f", "tests": "for n in range(5):\n    assert f(n) == n * n"})
    assert domain.verify(inside, good).accepted
    assert not domain.verify(inside, bad[0]).accepted and not domain.verify(inside, bad[1]).accepted


@needs_sandbox
def test_python_tasks_are_searched_and_adapted() -> None:
    tests = "assert norm([1, 2, 3]) == 14\nassert norm([2]) == 4\nassert norm([]) == 0"
    with Solver(domains=[PythonTests(SLOW)]) as solver:
        first = solver.solve(Task("python", {"name": "norm", "tests": tests}), PATIENT)
        assert first.path == "searched" and str(first.value).startswith("def norm(x0):")
        other = Task("python", {"name": "g", "tests": "assert g([1, 2]) == 5\nassert g([4]) == 16"})
        second = solver.solve(other, PATIENT)
    assert second.path == "adapted" and str(second.value).startswith("def g(x0):")


def test_lean_is_refused_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with Solver(domains=[Lean()]) as solver, pytest.raises(ConfigError, match="no program 'lean'"):
        solver.solve(Task("lean", {"statement": "theorem t : 1 = 1"}))


@needs_sandbox
def test_lean_is_believed_only_after_it_spoke(tmp_path: Path) -> None:
    """A stand-in in Python that accepts `by omega` only: what is sent, how answers are read."""
    program = tmp_path / "lean"
    program.write_text(
        f"#!{sys.executable} -IS\nimport sys\ntext = open(sys.argv[1]).read()\n"
        "if 'by omega' not in text:\n    print('error: unsolved goals'); sys.exit(1)\n"
        "used = 'sorryAx' if 'cheat' in text else 'propext'\n"
        "print(f\"'t' depends on axioms: [{used}]\")\n"
    )
    program.chmod(0o755)
    domain = Lean(SLOW, str(program))
    task = domain.read({"statement": "theorem t (a b : Nat) : a + b = b + a"})
    assert domain.verify(task, "by omega").accepted
    for proof in (
        "by rfl",
        "by sorry",
        "by omega -- cheat",
        "by omega\naxiom x : False",
        "#eval 1",
    ):
        assert not domain.verify(task, proof).accepted, proof
    with Solver(domains=[domain]) as solver:
        answer = solver.solve(
            Task("lean", {"statement": "theorem t (a b : Nat) : a + b = b + a"}), PATIENT
        )
    assert answer.value == "by omega" and "propext" in answer.proof


BAD: list[tuple[Mapping[str, Any], str]] = [
    ({"kind": "nothing"}, "no tasks of kind 'nothing'"),
    ({"kind": "arithmetic"}, "needs 'expression'"),
    ({"kind": "arithmetic", "expression": "1 +"}, "ends too early"),
    ({"kind": "arithmetic", "expression": "1", "unit": "m"}, "no field 'unit'"),
    ({"kind": "sequence", "terms": [1, 2]}, "4 to 1000 terms"),
    ({"kind": "sequence", "terms": [1, 2, 3, True]}, "whole numbers"),
    ({"kind": "sequence", "terms": [1, 2, 3, 4], "next": -1}, "'next'"),
    ({"kind": "function", "examples": []}, "1 to 200 examples"),
    ({"kind": "function", "examples": [{"in": 1, "out": 1}]}, "list of arguments"),
    ({"kind": "function", "examples": [{"in": [1.5], "out": 1}]}, "whole numbers"),
    ({"kind": "python", "name": "f", "tests": "x = 1"}, "no assert"),
    ({"kind": "python", "name": "f()", "tests": "assert f(1)"}, "no name"),
    ({"kind": "python", "name": "f", "tests": "assert ("}, "no Python"),
    ({"kind": "grammar", "grammar": "S -> 'a'", "min_length": 9, "max_length": 2}, "above"),
    ({"kind": "grammar", "grammar": "S -> 'a'", "contains": "a"}, "list of texts"),
]


@pytest.mark.parametrize(("record", "why"), BAD)
def test_malformed_tasks_are_refused(record: Mapping[str, Any], why: str) -> None:
    with Solver() as solver, pytest.raises((DataError, ConfigError), match=why):
        solver.solve(Task.from_record(record))


@pytest.mark.parametrize(("text", "why"), [("", "no tasks"), ("{", "line 1"), ("\n[1]", "line 2")])
def test_task_files_name_the_bad_line(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=why):
        read_tasks(tmp_path / "t.jsonl")
    with pytest.raises(DataError, match="cannot read"):
        read_tasks(tmp_path / "none.jsonl")


def test_a_memory_and_a_solver_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with Solver(path) as solver, Memory.open(path) as memory:
        memory.write("verbatim")
        solver.solve(sum_task())
        memory.write("more")
    with Memory.open(path) as memory, Solver(path) as solver:
        assert len(memory) == 2
        assert solver.solve(sum_task()).path == "hit"


def test_foreign_and_newer_stores_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(CheckpointError):
        Solver(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(CheckpointError):
        Solver(tmp_path / "other.db")
    Solver(tmp_path / "s.db").close()
    newer = sqlite3.connect(tmp_path / "s.db")
    newer.execute("UPDATE solver_version SET version = 99")
    newer.commit()
    newer.close()
    with pytest.raises(CheckpointError, match="newer"):
        Solver(tmp_path / "s.db")
    with pytest.raises(ConfigError, match="kept in a file"):
        Solver("postgresql://x/y")
    with pytest.raises(StorageError):
        Solver(tmp_path / "text" / "s.db")


@pytest.mark.parametrize("data", [b"cut", zlib.compress(b'{"version": 0}')])
def test_a_search_that_cannot_be_gone_on_with_begins_anew(data: bytes, tmp_path: Path) -> None:
    """Saved by another version, or damaged: it is only work, and can be done again."""
    task = Task("sequence", {"terms": [1, 5, 13, 25, 41, 61]})
    with Solver(tmp_path / "s.db") as solver:
        assert solver.solve(task, Budget(candidates=20)).path == "gave up"
        names = solver.ledger.db.execute("SELECT key FROM solver_frontier").fetchall()
        assert len(names) >= 1
        solver.ledger.db.execute("UPDATE solver_frontier SET data = ?", (data,))
    with Solver(tmp_path / "s.db") as solver:
        answer = solver.solve(task, Budget(seconds=60, candidates=50_000))
        assert (answer.path, answer.verified) == ("searched", True)


KILLED = """
import sys
from solomonic.memory.solver import Budget, Solver, Task
with Solver(sys.argv[1]) as solver:
    for n in range(100000):
        answer = solver.solve(Task("arithmetic", {"expression": f"{n} + {n}"}))
        print(n, answer.value, flush=True)
"""


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    kills = int(os.environ.get("SOLOMONIC_KILLS", "2"))
    rng = random.Random(9)
    for index in range(kills):
        path = tmp_path / f"{index}.db"
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(rng.randint(1, 60))]
            time.sleep(rng.random() / 50)
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines()
        with Solver(path) as solver:
            for line in lines:
                if len(line.split()) == 2 and line.endswith("\n"):
                    n = int(line.split()[0])
                    assert solver.solve(sum_task(f"{n} + {n}")).path == "hit"
