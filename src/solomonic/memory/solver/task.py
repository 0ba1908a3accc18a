"""What is asked of a solver, what it answers, and what that cost.

A task is a record of JSON: its `kind` names the domain that understands the rest. Two tasks are the
same task when their canonical forms are equal, whatever their ids, spaces or order of keys.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from solomonic.core import Config, DataError, require

Path_ = Literal["hit", "adapted", "proposed", "searched", "confident", "gave up"]
_TASK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        kind: name of its domain.
        content: the rest of its record.
        id: how the asker calls it; no part of the task.
    """

    kind: str
    content: Mapping[str, Any]
    id: str = ""

    @classmethod
    def from_record(cls, record: Any, where: str = "task") -> "Task":
        """A task from its JSON form, `{"kind": ..., ...}`.

        Raises:
            DataError: it is no object, or has no kind.
        """
        if not isinstance(record, Mapping) or not isinstance(record.get("kind"), str):
            raise DataError(f'{where} is no task; write {{"kind": "arithmetic", ...}} a line.')
        content = {key: value for key, value in record.items() if key not in ("kind", "id")}
        return cls(record["kind"], content, str(record.get("id", "")))


@dataclasses.dataclass(frozen=True)
class Known:
    """A task as its domain understood it.

    Attributes:
        kind: name of the domain.
        canonical: JSON that equal tasks share, and only they.
        family: a coarse name that near repeats share.
        parsed: whatever the domain needs to verify and to search.
    """

    kind: str
    canonical: str
    family: str
    parsed: Any

    @property
    def key(self) -> str:
        """A digest of kind and canonical form."""
        return hashlib.sha256(f"{self.kind}\n{self.canonical}".encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """One text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What work was done.

    Attributes:
        candidates: programs, derivations or samples that were made and evaluated by the search.
        verifications: calls of the verifier.
        seconds: by the clock, everything included.
    """

    candidates: int = 0
    verifications: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.candidates + other.candidates,
            self.verifications + other.verifications,
            self.seconds + other.seconds,
        )

    @property
    def work(self) -> int:
        """Candidates and verifications: the part that no other process can change."""
        return self.candidates + self.verifications


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget(Config):
    """What one call may spend on searching: `seconds`, and `candidates` where given."""

    seconds: float = 10.0
    candidates: int | None = None

    def __post_init__(self) -> None:
        require(self.seconds >= 0, f"seconds = {self.seconds} must not be negative.")
        require(self.candidates is None or self.candidates >= 0, "candidates must not be negative.")


class Verdict(NamedTuple):
    """What a verifier says: whether the value solves the task, and on which grounds."""

    accepted: bool
    proof: str


class Proposal(NamedTuple):
    """A guess: the value, and the proposer's confidence in it, from 0 to 1."""

    value: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a task.

    Attributes:
        value: the solution, or None.
        path: 'hit' (the same task was solved before), 'adapted' (another task's solution),
            'proposed' (one forward pass), 'searched', 'confident' (open tasks, NOT verified) or
            'gave up'.
        verified: whether a verifier accepted this value for this task in this very call.
        proof: the verifier and its grounds; without a verifier, why the value is served at all.
        cost: of this call.
        spent: of all calls for this task.
        details: what the domain adds for people (further terms, the program's value, ...).
    """

    value: str | None
    path: Path_
    verified: bool
    proof: str
    cost: Cost
    spent: Cost
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_tasks(path: Path) -> list[Task]:
    """Tasks from a file of JSON lines; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is no task; its number is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; give tasks as JSON lines.") from None
    tasks = list(_parse_lines(text.splitlines(), path))
    if not tasks:
        raise DataError(f"{path} has no tasks; write one JSON object a line.")
    return tasks


def _parse_lines(lines: Iterable[str], path: Path) -> Iterator[Task]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if len(line) > _TASK_BYTES:
            raise DataError(f"{where} is longer than a task may be ({_TASK_BYTES:,} characters).")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{where} is no JSON; write one object a line.") from None
        task = Task.from_record(record, where)
        yield task if task.id else dataclasses.replace(task, id=str(number))
