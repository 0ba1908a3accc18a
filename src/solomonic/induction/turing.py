"""Small Turing machines, all of them: how many halt, and how often each output comes.

The formalism of Delahaye, Zenil and Soler-Toscano: n states, 2 symbols, a blank tape; an entry of
the table writes, moves and goes to a state, or writes and halts: 4n + 2 choices. Output are the
cells visited. Machines that differ only in entries never used are run once (the tree normal form).
"""

import dataclasses
import math

from solomonic.core import require
from solomonic.induction import native as _native

LIMITS = {1: 1, 2: 6, 3: 21, 4: 107, 5: 500}
"""Steps after which a machine is taken not to halt; exact to n = 4, where none takes more."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """D(n): of both blanks together.

    Attributes:
        halting: machines that halt from a tape of zeros; from ones as many do.
        machines: (4n + 2)^(2n), one blank.
        counts: output -> machines, both blanks.
        runs: machines really run.
    """

    halting: int
    machines: int
    counts: dict[str, int]
    runs: int

    def complexity(self, output: str) -> float:
        """-log2 of the output's share: the coding-theorem estimate, in bits; inf if never seen."""
        count = self.counts.get(output, 0)
        return math.log2(2 * self.halting / count) if count else math.inf


def distribution(
    states: int, *, limit: int | None = None, native: bool | None = None
) -> Distribution:
    """Run all machines of `states` states (1 to 5; 5 takes hours).

    Raises:
        ConfigError: `states` is out of range.
    """
    require(states in LIMITS, f"states = {states} must be from 1 to 5.")
    most = LIMITS[states] if limit is None else limit
    require(1 <= most <= 100_000, f"limit = {most} must be from 1 to 100,000.")
    core = _native.choose(native)
    if core is not None:
        halting, once, runs, _ = core.enumerate(states, most)
    else:
        census = _Search(states, most)
        census.run(1, 2 * states, 1)
        halting, once, runs = census.halting, census.outputs, census.runs
    counts: dict[str, int] = {}
    other = str.maketrans("01", "10")
    for text, count in once.items():
        for one in (text, text.translate(other)):
            counts[one] = counts.get(one, 0) + count
    return Distribution(halting, (4 * states + 2) ** (2 * states), counts, runs)


class _Search:
    """The definition, each branch run from the beginning (native/src/induction/turing.cpp)."""

    def __init__(self, states: int, limit: int) -> None:
        self.states, self.limit = states, limit
        self.choices = 4 * states + 2
        self.halting = self.runs = 0
        self.outputs: dict[str, int] = {}
        self.table: dict[tuple[int, int], tuple[int, int, int]] = {}

    def run(self, met: int, left: int, weight: int) -> None:
        tape: dict[int, int] = {}
        state = at = low = high = steps = 0
        while (state, tape.get(at, 0)) in self.table:
            if steps + 1 >= self.limit:
                self.runs += 1
                return
            tape[at], move, state = self.table[state, tape.get(at, 0)]
            at += move
            low, high, steps = min(low, at), max(high, at), steps + 1
        self.runs += 1
        for write in (0, 1):
            cells = [write if i == at else tape.get(i, 0) for i in range(low, high + 1)]
            self._halt("".join(map(str, cells)), steps, weight * self.choices ** (left - 1))
        if left == 1:
            return
        key, first = (state, tape.get(at, 0)), steps == 0
        for following in range(min(met + 1, self.states)):
            fresh = following == met
            many = weight * (self.states - met if fresh else 1) * (2 if first else 1)
            for write in (0, 1):
                for move in (1,) if first else (-1, 1):
                    self.table[key] = (write, move, following)
                    self.run(met + fresh, left - 1, many)
        del self.table[key]

    def _halt(self, text: str, steps: int, machines: int) -> None:
        self.halting += machines
        if steps == 0:
            self.outputs[text] = self.outputs.get(text, 0) + machines
            return
        for one in (text, text[::-1]):  # half of them are mirror images
            self.outputs[one] = self.outputs.get(one, 0) + machines // 2
