"""A rigorous bracket on the universal measure M(x), better the longer one works.

    bracket = Bracket(bytes([0, 1] * 4))
    bracket.work(100_000)
    low, high = bracket.low[-1], bracket.high[-1]

Every program has printed x (its weight is in `low`), or has printed something else or runs for ever
without printing more (its weight counts for nothing), or is open: `pending`. Programs with the same
future are one state: the ring with the head at 0, the text that can run again and how much of x is
printed. A run between two draws is a finite automaton, so a search for cycles decides whether it
ends: there is no limit of steps. Opening a state draws its next instruction in all seven ways; the
heaviest are opened first.
"""

import dataclasses
import math
import struct

import numpy as np

from solomonic.core import require
from solomonic.induction import native as _native
from solomonic.induction.machine import INSTRUCTIONS

_QUEUES, _LONGEST = 1024, 4096
_PAIRS = ("+-", "-+", "<>", "><")


class Bracket:
    """What is known of M(target[:t]) for t = 0 .. length on a machine of `cells` cells.

    Raises:
        ConfigError: the ring does not fit 64 bits, or the target is outside the alphabet.
    """

    def __init__(
        self, target: bytes, *, alphabet: int = 2, cells: int = 10, native: bool | None = None
    ) -> None:
        require(2 <= alphabet <= 256, f"alphabet = {alphabet} must be from 2 to 256.")
        width = (alphabet - 1).bit_length()
        require(
            1 <= cells <= 64 // width,
            f"cells = {cells} of {width} bits do not fit 64 bits; take at most {64 // width}.",
        )
        require(len(target) <= 30_000, "the target has more than 30,000 symbols.")
        require(
            all(symbol < alphabet for symbol in target),
            f"the target has a symbol outside the alphabet of {alphabet}.",
        )
        core = _native.choose(native)
        self._core = (core.Bracket if core else _Definition)(alphabet, cells, target)

    def work(self, count: int) -> int:
        """Open `count` states; fewer only if nothing is open any more. Returns how many."""
        return self._core.work(count)

    @property
    def low(self) -> np.ndarray:
        """Weight of the programs known to print each beginning, shape (length + 1,)."""
        return np.array(self._core.low())

    @property
    def pending(self) -> np.ndarray:
        """Weight of the programs that are open and may yet print it: all that can be missing."""
        return np.array(self._core.pending())

    @property
    def high(self) -> np.ndarray:
        """No more than this prints it."""
        return self.low + self.pending

    @property
    def states(self) -> int:
        """Different futures met so far."""
        return self._core.states()

    @property
    def opened(self) -> int:
        """Work done: states opened, one opened again counted again."""
        return self._core.opened()


@dataclasses.dataclass
class _State:
    tape: int = 0  # the head's cell is the lowest
    matched: int = 0
    code: list[str] = dataclasses.field(default_factory=list)
    to: list[int] = dataclasses.field(default_factory=list)
    open: list[int] = dataclasses.field(default_factory=list)

    def copy(self) -> "_State":
        return _State(self.tape, self.matched, self.code[:], self.to[:], self.open[:])


class _Definition:
    """native/src/induction/bracket.cpp in Python: the same states in the same order."""

    def __init__(self, alphabet: int, cells: int, target: bytes) -> None:
        self.alphabet, self.cells, self.target = alphabet, cells, target
        self.width = (alphabet - 1).bit_length()
        self.mask = (1 << self.width) - 1
        self._low = [1.0] + [0.0] * len(target)
        self.numbers: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.weights: list[float] = []
        self.matched: list[int] = []
        self.edges: list[list[tuple[int, int, int, float]]] = []
        self.queued: list[int] = []
        self.queues: list[list[int]] = [[] for _ in range(_QUEUES)]
        self.first, self._opened = 0, 0
        if target:
            self._give(self._number(_State()), 1.0)

    def low(self) -> list[float]:
        return self._low[:]

    def pending(self) -> list[float]:
        by_matched = [0.0] * len(self._low)
        for matched, weight in zip(self.matched, self.weights, strict=True):
            by_matched[matched] += weight
        out, total = [], 0.0
        for weight in by_matched:
            out.append(total)
            total += weight
        return out

    def states(self) -> int:
        return len(self.weights)

    def opened(self) -> int:
        return self._opened

    def work(self, count: int) -> int:
        done = 0
        while done < count:
            while self.first < _QUEUES and not self.queues[self.first]:
                self.first += 1
            if self.first == _QUEUES:
                break
            at = self.queues[self.first].pop()
            if self.queued[at] != self.first:
                continue  # moved to a heavier queue since
            self.queued[at] = -1
            if not self.edges[at]:
                self._open(at)
            weight, self.weights[at] = self.weights[at], 0.0
            for child, begin, end, share in self.edges[at]:
                for t in range(begin + 1, end + 1):
                    self._low[t] += weight * share
                if child >= 0:
                    self._give(child, weight * share)
            done += 1
        self._opened += done
        return done

    def _open(self, at: int) -> None:
        state, share, edges = self._decoded(self.keys[at]), 1.0 / 7, []
        for instruction in INSTRUCTIONS:
            if self.alphabet == 2 and instruction == "-":
                continue  # the same as '+'
            after = state.copy()
            is_open = self._extend(after, instruction)
            child = self._number(self._trimmed(after)) if is_open else -1
            double = self.alphabet == 2 and instruction == "+"
            edges.append((child, state.matched, after.matched, 2 * share if double else share))
        self.edges[at] = edges

    def _extend(self, state: _State, instruction: str) -> bool:
        """Draw `instruction` where the state waits, and run on; whether it waits again."""
        here = len(state.code)
        if instruction == "[" and not state.tape & self.mask:
            instruction = "{"
        if instruction == "]" and not state.open:
            return True  # nothing to close: no text
        state.code.append(instruction)
        state.to.append(-1)
        if instruction in "[{":
            if instruction == "[":
                state.open.append(here)
            return True
        if instruction == "]":
            state.to[here] = state.open.pop()
        is_open = self._run(state, here)
        if not is_open or here == 0 or instruction in "].":
            return is_open
        # '+-' and the like do nothing. They are one piece of text unless something else leads to
        # its middle; then the second may run without the first.
        pair = state.code[here - 1] + instruction
        if here not in state.to and (pair in _PAIRS or (pair == "++" and self.alphabet == 2)):
            del state.code[here - 1 :], state.to[here - 1 :]
        return True

    def _run(self, state: _State, pc: int) -> bool:
        """Run until an instruction has to be drawn (True), or x is printed, missed or given up.

        Brent's search for cycles: a run that prints nothing comes to the same place and tape again.
        """
        seen, since, power = (pc, state.tape), 0, 1
        while pc < len(state.code):
            cell, here = state.tape & self.mask, pc
            pc += 1
            match state.code[here]:
                case "+":
                    state.tape += 1 - cell - 1 if cell + 1 == self.alphabet else 1
                case "-":
                    state.tape += self.alphabet - 1 if cell == 0 else -1
                case ">":
                    state.tape = self._right(state.tape)
                case "<":
                    state.tape = self._left(state.tape)
                case ".":
                    if cell != self.target[state.matched]:
                        return False
                    state.matched += 1
                    if state.matched == len(self.target):
                        return False
                    seen, since, power = (pc, state.tape), 0, 1
                    continue
                case "[":
                    if cell == 0:
                        pc = self._enter(state, here)
                case "{":
                    if cell != 0:
                        if state.to[here] < 0:
                            state.open.append(here)
                        pc = self._enter(state, here)
                case _:
                    pc = state.to[here]
            if (pc, state.tape) == seen:
                return False
            since += 1
            if since == power:
                seen, since, power = (pc, state.tape), 0, 2 * power
        return True

    @staticmethod
    def _enter(state: _State, here: int) -> int:
        if state.to[here] < 0:
            state.to[here] = len(state.code)
        return state.to[here]

    def _trimmed(self, state: _State) -> _State:
        """Without text that can never run again: what nothing open and nothing live leads to."""
        length = len(state.code)
        live, work = [False] * length, list(state.open)
        while work:
            at = work.pop()
            while at < length and not live[at]:
                live[at] = True
                if state.code[at] == "]":
                    at = state.to[at]
                    continue
                if state.code[at] in "[{" and state.to[at] >= 0:
                    work.append(state.to[at])
                at += 1
        moved = [0]
        for one in live:
            moved.append(moved[-1] + one)
        kept = [i for i in range(length) if live[i]]
        return _State(
            state.tape,
            state.matched,
            [state.code[i] for i in kept],
            [moved[state.to[i]] if state.to[i] >= 0 else -1 for i in kept],
            [moved[at] for at in state.open],
        )

    def _right(self, tape: int) -> int:
        return tape >> self.width | (tape & self.mask) << (self.width * (self.cells - 1))

    def _left(self, tape: int) -> int:
        top = self.width * (self.cells - 1)
        return (tape & ((1 << top) - 1)) << self.width | tape >> top

    def _mirror(self, tape: int) -> int:
        out = 0
        for i in range(self.cells):
            cell = tape >> (self.width * i) & self.mask
            out |= cell << (self.width * ((self.cells - i) % self.cells))
        return out

    def _number(self, state: _State) -> int:
        """Of a state and its mirror image the smaller key stands for both."""
        code = "".join(state.code)
        other = code.translate(str.maketrans("<>", "><"))
        sizes = struct.pack("<hhh", state.matched, len(state.code), len(state.open))
        jumps = np.array(state.to + state.open, dtype="<i2").tobytes()
        key = min(
            struct.pack("<Q", tape) + sizes + text.encode() + jumps
            for tape, text in ((state.tape, code), (self._mirror(state.tape), other))
        )
        if key not in self.numbers:
            self.numbers[key] = len(self.weights)
            self.keys.append(key)
            self.weights.append(0.0)
            self.matched.append(state.matched)
            self.edges.append([])
            self.queued.append(-1)
        return self.numbers[key]

    @staticmethod
    def _decoded(key: bytes) -> _State:
        tape, matched, length, count = struct.unpack_from("<Qhhh", key)
        jumps = np.frombuffer(key, "<i2", length + count, 14 + length).tolist()
        code = list(key[14 : 14 + length].decode())
        return _State(tape, matched, code, jumps[:length], jumps[length:])

    def _give(self, at: int, weight: float) -> None:
        self.weights[at] += weight
        if len(self.keys[at]) >= _LONGEST:
            return  # stays open for ever
        queue = min(_QUEUES - 1, max(0, 1 - math.frexp(self.weights[at])[1]))
        if 0 <= self.queued[at] <= queue:
            return
        self.queued[at] = queue
        self.queues[queue].append(at)
        self.first = min(self.first, queue)
