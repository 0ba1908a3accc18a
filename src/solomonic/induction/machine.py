"""BrainPhoque: a machine whose programs are drawn while they run.

Seven instructions, + - > < [ ] . on a ring of cells over 0 .. alphabet - 1, all zero at first. An
instruction is drawn when it is first reached, so every program is valid and endless, and the weight
of an output is the sum of 7^-(instructions drawn when it appears): a prior that delimits itself.
The semantics are those of the public code of "Learning Universal Predictors" (Grau-Moya et al.,
2024), without its instruction that draws a random symbol.

A '[' met on a zero is kept as '{': what follows it is its continuation, and its body is drawn, at
the end of the program, when it is first entered. A ']' with nothing to close is skipped for ever.
"""

import dataclasses

import numpy as np

from solomonic.core import require
from solomonic.induction import native as _native
from solomonic.induction.numbers import SplitMix

INSTRUCTIONS = "+-><[]."


@dataclasses.dataclass
class Run:
    """What became of a program: what it printed, in how many steps, and itself."""

    output: list[int]
    steps: int
    program: str


class Program:
    """A program under way: `run` goes on until an instruction is missing; `draw` gives it one."""

    def __init__(self, alphabet: int, cells: int) -> None:
        self.alphabet, self.tape, self.at = alphabet, [0] * cells, 0
        self.code: list[str] = []
        self.to: list[int] = []  # where the part that is elsewhere begins; -1: not yet
        self.open: list[int] = []
        self.pc = self.steps = 0
        self.output: list[int] = []

    @property
    def waits(self) -> bool:
        """Whether the next instruction has to be drawn."""
        return self.pc == len(self.code)

    def draw(self, instruction: str) -> None:
        """Put the missing instruction there and run it."""
        if instruction == "[" and self.tape[self.at] == 0:
            instruction = "{"
        self.code.append(instruction)
        self.to.append(-1)
        self.step(fresh=True)

    def step(self, fresh: bool = False) -> None:
        """Run the instruction at `pc`."""
        here, cell = self.pc, self.tape[self.at]
        self.pc += 1
        self.steps += 1
        match self.code[here]:
            case "+":
                self.tape[self.at] = (cell + 1) % self.alphabet
            case "-":
                self.tape[self.at] = (cell - 1) % self.alphabet
            case ">":
                self.at = (self.at + 1) % len(self.tape)
            case "<":
                self.at = (self.at - 1) % len(self.tape)
            case ".":
                self.output.append(cell)
            case "[":
                if fresh:
                    self.open.append(here)
                elif cell == 0:
                    self._enter(here)
            case "{":
                if not fresh and cell != 0:
                    if self.to[here] < 0:
                        self.open.append(here)
                    self._enter(here)
            case _:
                if fresh and self.open:
                    self.to[here] = self.open.pop()
                if self.to[here] >= 0:
                    self.pc = self.to[here]

    def _enter(self, here: int) -> None:
        if self.to[here] < 0:
            self.to[here] = len(self.code)
        self.pc = self.to[here]

    def copy(self) -> "Program":
        """The same, to go on in another way."""
        other = object.__new__(Program)
        other.__dict__.update(self.__dict__)
        for name in ("tape", "code", "to", "open", "output"):
            setattr(other, name, list(getattr(self, name)))
        return other


def run_program(random: SplitMix, alphabet: int, cells: int, steps: int, length: int) -> Run:
    """Draw and run one program until it has printed `length` symbols or made `steps` steps."""
    program = Program(alphabet, cells)
    while program.steps < steps and len(program.output) < length:
        if program.waits:
            program.draw(INSTRUCTIONS[random.below(7)])
        else:
            program.step()
    return Run(program.output, program.steps, "".join(program.code))


@dataclasses.dataclass(frozen=True)
class Sample:
    """Outputs of programs: (N, length) uint8, zeros behind what was printed; (N,) int64 each."""

    outputs: np.ndarray
    printed: np.ndarray
    steps: np.ndarray
    instructions: np.ndarray


def sample(
    programs: int,
    length: int,
    *,
    alphabet: int = 2,
    cells: int = 200,
    steps: int = 1000,
    seed: int = 0,
    native: bool | None = None,
) -> Sample:
    """Outputs of `programs` programs drawn from the prior; equal seeds give equal outputs.

    Raises:
        ConfigError: a size is out of range.
    """
    _check(alphabet, cells)
    require(min(programs, length, steps) >= 0, "sizes must not be negative.")
    core = _native.choose(native)
    if core is not None:
        outputs, facts = core.sample(alphabet, cells, steps, length, programs, seed % 2**64)
        return Sample(outputs, facts[:, 0], facts[:, 1], facts[:, 2])
    random = SplitMix(seed)
    outputs = np.zeros((programs, length), dtype=np.uint8)
    facts = np.zeros((programs, 3), dtype=np.int64)
    for i in range(programs):
        ran = run_program(random, alphabet, cells, steps, length)
        outputs[i, : len(ran.output)] = ran.output
        facts[i] = len(ran.output), ran.steps, len(ran.program)
    return Sample(outputs, facts[:, 0], facts[:, 1], facts[:, 2])


def estimate(
    target: bytes,
    programs: int,
    *,
    alphabet: int = 2,
    cells: int = 10,
    steps: int = 1000,
    seed: int = 0,
    native: bool | None = None,
) -> np.ndarray:
    """Monte-Carlo estimate of M(target[:t]) for t = 0 .. length, shape (length + 1,).

    With a limit of steps it errs below. The standard error of an entry m is sqrt(m (1-m) / N).
    """
    _check(alphabet, cells)
    core = _native.choose(native)
    if core is not None:
        counts = core.count_matches(alphabet, cells, steps, target, programs, seed % 2**64)
        return np.array(counts) / programs
    random = SplitMix(seed)
    counts = np.zeros(len(target) + 1)
    for _ in range(programs):
        program = Program(alphabet, cells)
        good = 0
        while program.steps < steps and good < len(target):
            if program.waits:
                program.draw(INSTRUCTIONS[random.below(7)])
            else:
                program.step()
            if len(program.output) > good:
                if program.output[good] != target[good]:
                    break
                good += 1
        counts[: good + 1] += 1
    return counts / programs


def _check(alphabet: int, cells: int) -> None:
    require(2 <= alphabet <= 256, f"alphabet = {alphabet} must be from 2 to 256.")
    require(1 <= cells <= 1 << 20, f"cells = {cells} must be from 1 to 1,048,576.")
