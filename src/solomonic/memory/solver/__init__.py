"""Two speeds: verified experience, else a guess, else a search with a budget (docs/solver.md).

    with Solver("experience.db") as solver:
        solver.solve(Task("arithmetic", {"expression": "1/3 + 1/6"})).value  # '1/2'

Loaded by name: nothing here imports numpy before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solomonic.memory.solver.domain import Domain, Proposer, Search
    from solomonic.memory.solver.ledger import Ledger
    from solomonic.memory.solver.sandbox import SandboxConfig
    from solomonic.memory.solver.solver import Solver, SolverConfig
    from solomonic.memory.solver.task import (
        Answer,
        Budget,
        Cost,
        Known,
        Proposal,
        Task,
        Verdict,
        read_tasks,
    )

_WHERE = {
    "Domain": "domain",
    "Proposer": "domain",
    "Search": "domain",
    "Ledger": "ledger",
    "SandboxConfig": "sandbox",
    "Solver": "solver",
    "SolverConfig": "solver",
    "Answer": "task",
    "Budget": "task",
    "Cost": "task",
    "Known": "task",
    "Proposal": "task",
    "Task": "task",
    "Verdict": "task",
    "read_tasks": "task",
}

__all__ = [
    "Solver",
    "SolverConfig",
    "Task",
    "Answer",
    "Budget",
    "Cost",
    "Known",
    "Proposal",
    "Verdict",
    "read_tasks",
    "Domain",
    "Proposer",
    "Search",
    "Ledger",
    "SandboxConfig",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
