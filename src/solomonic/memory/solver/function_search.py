"""Bottom-up search for function programs: by cost, every behaviour on the examples once.

A program is known by its results on all examples; of those that agree, the cheapest stays. Python
evaluates the blocks' own lines on all examples at once; results beyond the bounds are dropped.
"""

import json
import marshal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from solomonic.core import CheckpointError
from solomonic.memory.solver.function_blocks import BLOCKS, Block, input_names
from solomonic.memory.solver.programs import Tree, show

MAX_INT = 10**12
MAX_LENGTH = 200
CAPACITY = 400_000
"""Behaviours kept; about a kilobyte each."""
_VERSION = 1
_ERRORS = (ValueError, IndexError, ZeroDivisionError, TypeError, OverflowError, MemoryError)
_LOOK = 256  # candidates between looks at the clock


def _compiled(block: Block) -> Callable[..., list[Any]]:
    """The block's line over all examples: one call a candidate."""
    names = [f"a{index}" for index in range(len(block.takes))]
    line = block.line.format(*names)
    columns = [name.upper() for name in names]
    over = f"for {names[0]} in {columns[0]}"
    if len(names) > 1:
        over = f"for {', '.join(names)} in zip({', '.join(columns)})"
    text = f"lambda {', '.join(columns)}: [{line} {over}]"
    return eval(text)  # a line of our own table, in the language of the solution


_RUN: dict[str, Callable[..., list[Any]]] = {}


def run_block(name: str, columns: Sequence[list[Any]]) -> list[Any] | None:
    """One block on all examples; None where it has no value, or one beyond the bounds."""
    if name not in _RUN:
        _RUN[name] = _compiled(BLOCKS[name])
    if name == "repeat" and any(len(s) * max(n, 0) > MAX_LENGTH for s, n in zip(*columns)):  # noqa: B905
        return None
    if name == "upto" and max(columns[0], default=0) > MAX_LENGTH:
        return None
    try:
        values = _RUN[name](*columns)
    except _ERRORS:
        return None
    return values if all(map(_bounded, values)) else None


def _bounded(value: Any) -> bool:
    kind = type(value)
    if kind is bool:
        return True
    if kind is int:
        return -MAX_INT <= value <= MAX_INT
    if len(value) > MAX_LENGTH:
        return False
    if kind is list and value:
        if type(value[0]) is int:
            return min(value) >= -MAX_INT and max(value) <= MAX_INT
        return sum(map(len, value)) <= 10 * MAX_LENGTH
    return True


class FunctionSearch:
    """Programs from `inputs` (a column of values per argument) to `outputs`.

    Attributes:
        costs: of blocks, literals and inputs, in bits.
    """

    def __init__(
        self,
        inputs: Sequence[list[Any]],
        types: Sequence[str],
        outputs: list[Any],
        gives: str,
        leaves: Sequence[Any],
        costs: dict[str, int],
    ) -> None:
        """`leaves`: the literals that programs may hold; `costs` has them by their text."""
        self.inputs, self.types, self.outputs, self.gives = inputs, list(types), outputs, gives
        self.leaves = list(leaves)
        self.costs = costs
        self.candidates = 0
        self.finished = False
        self.target = (gives, marshal.dumps(outputs, 2))
        self.level, self.step = 1, 0
        self.values: list[list[Any]] = []  # of every behaviour, in the order found
        self.made: list[tuple[Any, ...]] = []  # its block (or leaf) and the rows of its arguments
        self.seen: set[tuple[str, bytes]] = set()
        self.rows: dict[tuple[str, int], list[int]] = {}  # by type and cost
        self._steps: Iterator[tuple[str, tuple[Any, ...]]] | None = None

    def advance(self, most: int, seconds: float) -> Iterator[str]:
        """Evaluate until a program gives the outputs, or candidates or time are over."""
        end, first = time.perf_counter() + seconds, self.candidates
        while not self.finished:
            if self._steps is None:
                self._steps = self._enumerate()
                for _ in range(self.step):
                    next(self._steps, None)
            for name, arguments in self._steps:
                self.step += 1
                row = self._try(name, arguments)
                if row is not None:
                    yield show(self.tree(row))
                spent = self.candidates - first
                if spent >= most or (spent % _LOOK == 0 and time.perf_counter() > end):
                    return
            self.level, self.step, self._steps = self.level + 1, 0, None
            self.finished = len(self.values) >= CAPACITY or self.level > self._last_level()
            if time.perf_counter() > end:
                return

    def _last_level(self) -> int:
        """Above this nothing can be made any more: no level below is reached by any block."""
        highest = max((cost for _, cost in self.rows), default=0)
        dearest = max(self.costs.values())
        return max(dearest, 3 * highest + dearest)

    def _enumerate(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """(block or '', arguments) of one level, always in the same order."""
        for index, leaf in enumerate([*input_names(len(self.inputs)), *map(repr, self.leaves)]):
            if self.costs[leaf] == self.level:
                yield "", (index,)
        for name, block in BLOCKS.items():
            left = self.level - self.costs[name]
            if left >= len(block.takes):
                yield from ((name, rows) for rows in self._arguments(block.takes, left))

    def _arguments(self, types: tuple[str, ...], cost: int) -> Iterator[tuple[int, ...]]:
        """Rows for arguments of these types whose costs sum up to `cost`."""
        if len(types) == 1:
            yield from ((row,) for row in self.rows.get((types[0], cost), ()))
            return
        for first in range(1, cost - len(types) + 2):
            heads = self.rows.get((types[0], first))
            if not heads:
                continue
            rest = list(self._arguments(types[1:], cost - first))
            for head in heads:
                for tail in rest:
                    yield (head, *tail)

    def _try(self, name: str, arguments: tuple[Any, ...]) -> int | None:
        """Evaluate one candidate; its row, where it gives the outputs."""
        self.candidates += 1
        values, kind = self._evaluate(name, arguments)
        if values is None:
            return None
        key = kind, marshal.dumps(values, 2)  # version 2 has no references: equal means equal
        if key in self.seen or len(self.values) >= CAPACITY:
            return None
        self.seen.add(key)
        self._keep(name, arguments, values, kind, self.level)
        return len(self.values) - 1 if key == self.target else None

    def _evaluate(self, name: str, arguments: tuple[Any, ...]) -> tuple[list[Any] | None, str]:
        if name:
            columns = [self.values[row] for row in arguments]
            return run_block(name, columns), BLOCKS[name].gives
        index = arguments[0]
        if index < len(self.inputs):
            return list(self.inputs[index]), self.types[index]
        leaf = self.leaves[index - len(self.inputs)]
        kind = "int" if type(leaf) is int else "bool" if type(leaf) is bool else "str"
        return [leaf] * len(self.outputs), kind

    def _keep(
        self, name: str, arguments: tuple[Any, ...], values: list[Any], kind: str, cost: int
    ) -> None:
        self.rows.setdefault((kind, cost), []).append(len(self.values))
        self.values.append(values)
        self.made.append((name, cost, *arguments))

    def tree(self, row: int) -> Tree:
        """The program of a row."""
        name, _, *arguments = self.made[row]
        if name:
            return (name, *(self.tree(argument) for argument in arguments))
        index = arguments[0]
        if index < len(self.inputs):
            return (input_names(len(self.inputs))[index],)
        return self.leaves[index - len(self.inputs)]

    def save(self) -> bytes:
        """Where the search stands; values are computed again from how they were made."""
        return json.dumps(
            {
                "version": _VERSION,
                "costs": self.costs,
                "leaves": self.leaves,
                "candidates": self.candidates,
                "level": self.level,
                "step": self.step,
                "finished": self.finished,
                "made": self.made,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def load(
        cls,
        data: bytes,
        inputs: Sequence[list[Any]],
        types: Sequence[str],
        outputs: list[Any],
        gives: str,
    ) -> Self:
        """A search that goes on where the saved one stood, on the same examples.

        Raises:
            CheckpointError: the bytes are no such search.
        """
        try:
            record = json.loads(data)
            if record["version"] != _VERSION:
                raise CheckpointError("a saved search is of another version; search anew.")
            costs = record["costs"]
            search = cls(inputs, types, outputs, gives, record["leaves"], costs)
            for name, cost, *arguments in record["made"]:
                values, kind = search._evaluate(name, tuple(arguments))
                if values is None:
                    raise ValueError
                search.seen.add((kind, marshal.dumps(values, 2)))
                search._keep(name, tuple(arguments), values, kind, cost)
            search.candidates = record["candidates"]
            search.level, search.step = record["level"], record["step"]
            search.finished = record["finished"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError("a saved search is damaged; search anew.") from error
        return search
