"""Words of a grammar: {"kind": "grammar", "grammar": "S -> 'a' S | 'b'", "contains": ["aa"]}.

Asked is a word of the grammar that has every text in `contains`, none in `excludes`, and from
`min_length` to `max_length` characters. The verifier is an Earley recogniser; the search makes
words by likelihood, with rules that solved more tasks likelier.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from solomonic.core import DataError
from solomonic.memory.solver.domains.shared import ListSearch, field, first_line, only
from solomonic.memory.solver.grammar import Grammar, rule_name
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_LENGTH = 2000


class Wanted(NamedTuple):
    """A grammar and what a word must be like."""

    grammar: Grammar
    contains: list[str]
    excludes: list[str]
    least: int
    most: int


class GrammarDomain:
    """Words that a grammar derives."""

    kind = "grammar"
    verifier = "grammar"
    stop = "\n"

    def read(self, content: Mapping[str, Any]) -> Known:
        names = ["grammar", "contains", "excludes", "min_length", "max_length"]
        only(content, names, self.kind)
        text = field(content, "grammar", self.kind, str)
        contains = _texts(content, "contains")
        excludes = _texts(content, "excludes")
        least, most = _number(content, "min_length", 0), _number(content, "max_length", 100)
        if least > most:
            raise DataError("'min_length' is above 'max_length'.")
        wanted = Wanted(Grammar.read(text), contains, excludes, least, most)
        form = canonical_json(
            {
                "grammar": text,
                "contains": contains,
                "excludes": excludes,
                "min_length": least,
                "max_length": most,
            }
        )
        return Known(self.kind, form, text, wanted)

    def verify(self, task: Known, value: str) -> Verdict:
        wanted: Wanted = task.parsed
        if not wanted.least <= len(value) <= wanted.most:
            return Verdict(False, f"{len(value)} characters")
        for part in wanted.contains:
            if part not in value:
                return Verdict(False, f"without {part!r}")
        for part in wanted.excludes:
            if part in value:
                return Verdict(False, f"with {part!r}")
        right = wanted.grammar.accepts(value)
        return Verdict(right, "derived by Earley" if right else "no word of the grammar")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        yield from values

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> ListSearch:
        wanted: Wanted = task.parsed
        costs = {}
        for name, rules in wanted.grammar.rules.items():
            among = [rule_name(name, index) for index in range(len(rules))]
            costs |= {rule: -math.log2(guide.probability(rule, among)) for rule in among}
        return ListSearch(lambda known: wanted.grammar.words(wanted.most, known), costs, saved)

    def features(self, value: str) -> Iterable[str]:
        return ()

    def prompt(self, task: Known, value: str | None = None) -> str:
        wanted: Wanted = task.parsed
        return f"word with {' and '.join(wanted.contains) or 'anything'}:" + (
            "" if value is None else f" {value}"
        )

    def extract(self, task: Known, text: str) -> str:
        return first_line(text)

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {}


def _texts(content: Mapping[str, Any], name: str) -> list[str]:
    value = content.get(name, [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise DataError(f"'{name}' is a list of texts.")
    return value


def _number(content: Mapping[str, Any], name: str, default: int) -> int:
    value = content.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LENGTH:
        raise DataError(f"'{name}' is a number of characters, at most {_LENGTH:,}.")
    return value
