"""The kinds of tasks that are built in."""

from solomonic.memory.solver.domain import Domain
from solomonic.memory.solver.sandbox import SandboxConfig


def all_domains(sandbox: SandboxConfig | None = None) -> list[Domain]:
    """One of each; `sandbox` bounds the runs of Python and Lean."""
    from solomonic.memory.solver.domains.arithmetic import Arithmetic
    from solomonic.memory.solver.domains.functions import Functions
    from solomonic.memory.solver.domains.grammar import GrammarDomain
    from solomonic.memory.solver.domains.lean import Lean
    from solomonic.memory.solver.domains.opened import Open
    from solomonic.memory.solver.domains.python import PythonTests
    from solomonic.memory.solver.domains.sequences import Sequences

    bounds = sandbox or SandboxConfig()
    return [
        Arithmetic(),
        Sequences(),
        Functions(),
        PythonTests(bounds),
        GrammarDomain(),
        Lean(bounds),
        Open(),
    ]
