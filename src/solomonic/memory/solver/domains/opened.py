"""Open questions: {"kind": "open", "question": "..."}; nothing verifies them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from solomonic.memory.solver.domains.shared import field, first_line, only
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.task import Known, Verdict, canonical_json


class Open:
    """Answered by a proposer above a confidence, marked as not verified; never remembered."""

    kind = "open"
    verifier = ""
    stop = "\n"

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["question"], self.kind)
        question = field(content, "question", self.kind, str)
        return Known(self.kind, canonical_json({"question": question}), "", question)

    def verify(self, task: Known, value: str) -> Verdict:
        return Verdict(False, "nothing verifies open tasks")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        yield from ()

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> None:
        return None

    def features(self, value: str) -> Iterable[str]:
        return ()

    def prompt(self, task: Known, value: str | None = None) -> str:
        return task.parsed

    def extract(self, task: Known, text: str) -> str:
        return first_line(text)

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {}
