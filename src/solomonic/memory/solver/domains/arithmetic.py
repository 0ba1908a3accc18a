"""Arithmetic: {"kind": "arithmetic", "expression": "3 km + 20 m in m"}.

The verifier evaluates the expression exactly and compares values; a unit that was asked for must be
the answer's. The search is that evaluation, one candidate: near-duplicates are what this domain is
hard for, and stored answers of near tasks are refused by the verifier.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from solomonic.memory.solver.arithmetic import (
    ArithmeticProblem,
    Quantity,
    canonical,
    evaluate,
    parse_value,
    skeleton,
)
from solomonic.memory.solver.domains.shared import ListSearch, field, first_line, only
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_NEAR = 8  # stored values tried; each is refused unless it is right


class Arithmetic:
    """Exact values of expressions."""

    kind = "arithmetic"
    verifier = "exact arithmetic"
    stop = "\n"

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["expression"], self.kind)
        text = field(content, "expression", self.kind, str)
        value = evaluate(text)
        form = canonical_json({"expression": canonical(text)})
        return Known(self.kind, form, skeleton(text), (canonical(text), value))

    def verify(self, task: Known, value: str) -> Verdict:
        text, right = task.parsed
        # Evaluated anew: what was kept with the task is not trusted to be this task's.
        right = evaluate(text)
        try:
            given = parse_value(value)
        except ArithmeticProblem as error:
            return Verdict(False, str(error))
        if isinstance(right, bool) or isinstance(given, bool):
            same = isinstance(right, bool) and isinstance(given, bool) and right == given
            return Verdict(same, f"{text} is {str(right).lower()}")
        if right.unit and given.unit != right.unit:
            return Verdict(False, f"the answer must be in {right.unit}")
        return Verdict(right.same(given), f"{text} is {right}")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        yield from values[:_NEAR]

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> ListSearch:
        return ListSearch(lambda text: iter([_show(evaluate(text))]), task.parsed[0], saved)

    def features(self, value: str) -> Iterable[str]:
        return ()

    def prompt(self, task: Known, value: str | None = None) -> str:
        return f"{task.parsed[0]} ={'' if value is None else ' ' + value}"

    def extract(self, task: Known, text: str) -> str:
        return first_line(text).rstrip(".")

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {}


def _show(value: Quantity | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
