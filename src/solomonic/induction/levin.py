"""Levin search: the shortest and fastest program that prints a target, in time bounded by itself.

Phase k gives a program whose drawing took p bits a share 2^(k-p) of steps. A program of p bits that
prints the target in t steps is found in phase p + log2 t at the latest, and all phases up to k
together make at most 2^(k+1) steps: no program is faster found by more than a constant.
"""

import dataclasses
import math

from solomonic.core import require
from solomonic.induction.machine import INSTRUCTIONS, Program

_DRAW = math.log2(len(INSTRUCTIONS))


@dataclasses.dataclass(frozen=True)
class Found:
    """A program that begins with the target: its text, steps, phase, the search's steps."""

    program: str
    steps: int
    phase: int
    searched: int


def search(target: bytes, *, phases: int = 24, alphabet: int = 2, cells: int = 10) -> Found | None:
    """The first program found that prints `target`, or None after `phases` phases."""
    require(all(symbol < alphabet for symbol in target), "the target is outside the alphabet.")
    searched = 0
    for phase in range(1, phases + 1):
        # (program, its drawing in bits); the last is tried first.
        pending = [(Program(alphabet, cells), 0.0)]
        while pending:
            program, paid = pending.pop()
            budget = 2.0 ** (phase - paid)
            begin = program.steps
            fits = _go_on(program, target, budget)
            searched += program.steps - begin
            if fits and len(program.output) >= len(target):
                return Found("".join(program.code), program.steps, phase, searched)
            if not fits or not program.waits or program.steps + 1 > 2.0 ** (phase - paid - _DRAW):
                continue
            for instruction in reversed(INSTRUCTIONS):
                longer = program.copy()
                longer.draw(instruction)
                searched += 1
                pending.append((longer, paid + _DRAW))
    return None


def _go_on(program: Program, target: bytes, budget: float) -> bool:
    """Run while text is there and time is left; whether the output still fits."""
    while True:
        got = len(program.output)
        if program.output != list(target[:got]):
            return False
        if got >= len(target) or program.waits or program.steps >= budget:
            return True
        program.step()
