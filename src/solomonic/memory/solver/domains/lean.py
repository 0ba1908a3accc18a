"""Theorems: {"kind": "lean", "statement": "theorem t (a b : Nat) : a + b = b + a"}.

The value is a proof, as `by omega`; the verifier is Lean 4 itself, in the sandbox, and nothing else
is believed: `sorry`, new axioms and options are refused before, and Lean is asked which axioms the
proof stands on. Where Lean is not installed, such tasks are refused.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from solomonic.core import ConfigError, DataError
from solomonic.memory.solver.domains.shared import ListSearch, field, only
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.sandbox import SandboxConfig, run_program
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_TACTICS = ("rfl", "decide", "omega", "simp", "trivial", "assumption", "simp_all", "constructor")
_FORBIDDEN = re.compile(
    r"\b(sorry|admit|axiom|unsafe|opaque|macro|syntax|elab|notation|set_option|import|open|"
    r"namespace|instance|attribute|run_cmd|native_decide|implemented_by|theorem|def|end)\b|#|:="
)
_AXIOMS = {"propext", "Classical.choice", "Quot.sound"}
_SAYS = re.compile(r"depends on axioms: \[([^\]]*)\]|does not depend on any axioms")
_MEMORY = 8 << 30


class Lean:
    """Proofs that Lean checks. `program`: where it is; looked up where it is first needed."""

    kind = "lean"
    verifier = "Lean"
    stop = "\n\n"

    def __init__(self, sandbox: SandboxConfig | None = None, program: str | None = None) -> None:
        bounds = sandbox or SandboxConfig()
        self.sandbox = bounds.replace(
            seconds=max(60.0, bounds.seconds),
            cpu_seconds=max(60, bounds.cpu_seconds),
            memory=max(_MEMORY, bounds.memory),
            files=max(256, bounds.files),
        )
        self.program = program

    def find(self) -> str:
        """The program.

        Raises:
            ConfigError: Lean is not installed.
        """
        found = self.program or shutil.which("lean")
        if found is None:
            raise ConfigError(
                "tasks of kind 'lean' need Lean 4, and there is no program 'lean' on the path; "
                "install it (https://lean-lang.org) or leave these tasks out."
            )
        # elan's `lean` only starts the real one, which the sandbox would not allow.
        real = Path(found).resolve()
        if real.name == "elan":
            chosen = sorted(Path.home().glob(".elan/toolchains/*/bin/lean"))
            if not chosen:
                raise ConfigError("elan has no toolchain of Lean; run `elan default stable`.")
            real = chosen[-1]
        return os.fspath(real)

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["statement", "preamble"], self.kind)
        self.find()
        statement = field(content, "statement", self.kind, str).strip()
        preamble = content.get("preamble", "")
        match = re.match(r"theorem\s+([A-Za-z_][\w']*)", statement)
        if match is None or ":=" in statement or not isinstance(preamble, str):
            raise DataError("'statement' is a theorem without its proof: theorem t : 1 + 1 = 2.")
        form = canonical_json({"statement": statement, "preamble": preamble})
        return Known(self.kind, form, "", (preamble, statement, match[1]))

    def verify(self, task: Known, value: str) -> Verdict:
        preamble, statement, name = task.parsed
        found = _FORBIDDEN.search(value)
        if found:
            return Verdict(False, f"a proof may not say '{found[0]}'")
        text = f"{preamble}\n{statement} := {value}\n#print axioms {name}\n"
        ran = run_program([self.find(), "task.lean"], {"task.lean": text}, self.sandbox)
        if ran.status != 0 or ran.timed_out:
            said = ran.output.strip().splitlines()
            return Verdict(False, (said[0] if said else ran.explain())[:200])
        axioms = _SAYS.search(ran.output)
        if axioms is None:
            return Verdict(False, "Lean did not say which axioms it used")
        used = {part.strip() for part in (axioms[1] or "").split(",") if part.strip()}
        if not used <= _AXIOMS:
            return Verdict(False, f"it stands on {', '.join(sorted(used - _AXIOMS))}")
        return Verdict(True, f"checked; axioms: {', '.join(sorted(used)) or 'none'}")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        yield from values[:8]

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> ListSearch:
        ranked = sorted(_TACTICS, key=lambda tactic: -guide.counts.get(tactic, 0))
        return ListSearch(_proofs, ranked, saved)

    def features(self, value: str) -> Iterable[str]:
        return [tactic for tactic in _TACTICS if re.search(rf"\b{tactic}\b", value)]

    def prompt(self, task: Known, value: str | None = None) -> str:
        return f"{task.parsed[1]} :={'' if value is None else ' ' + value}"

    def extract(self, task: Known, text: str) -> str:
        return text.strip().split("\n\n", 1)[0]

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {}


def _proofs(tactics: Sequence[str]) -> Iterator[str]:
    """Short proofs, the likeliest tactic first."""
    for begin in ("by ", "by intros; ", "by constructor <;> "):
        yield from (begin + tactic for tactic in tactics)
