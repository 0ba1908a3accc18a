"""Carrier sentences: which words open which class of personal words.

    call @contact
    turn (on|off) [the] @appliance :1.5
    play @song by @artist

Words, alternatives in round brackets, optional parts in square ones, and @classes. A number after
a colon at the end multiplies what the entries of the classes are worth in this carrier.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from solomonic.core import DataError
from solomonic.speech.biasing.phrases import LONGEST_LINE, WEIGHTED

MOST_SENTENCES = 1000  # that all carriers together may stand for
MOST_DEPTH = 20  # of brackets
LARGEST_FACTOR = 20.0
FACTOR_QUANTUM = 2.0**-6
_TOKEN = re.compile(r"\s*([()\[\]|]|@?[^\s()\[\]|@]+|@)")

Sentence = tuple[str, ...]  # words and "@class"


@dataclasses.dataclass(frozen=True, eq=False)
class Carriers:
    """A prefix tree over words and classes; node 0 is where every carrier begins.

    words[n] and classes[n] say to which node a word or a class (without "@") leads from node n;
    factors[n, class] is what multiplies the worth of the class's entries there.
    """

    words: list[dict[str, int]]
    classes: list[dict[str, int]]
    factors: dict[tuple[int, str], float]

    @property
    def names(self) -> set[str]:
        """The classes that occur."""
        return {name for _, name in self.factors}


def read_carriers(lines: Iterable[str]) -> Carriers:
    """The tree of all carriers. Where two share a beginning and a class, the larger factor counts.

    Words after the last class of a carrier open nothing and are left out.

    Raises:
        DataError: a bracket without its pair, no class, a wrong factor, or more than 1,000
            sentences; the carrier is quoted.
    """
    carriers = Carriers([{}], [{}], {})
    total = 0
    for line in lines:
        text, factor = _split(line)
        sentences = list(_Parser(text).sentences())
        total += len(sentences)
        if total > MOST_SENTENCES:
            raise _wrong(line, f"makes more than {MOST_SENTENCES:,} sentences; split the brackets")
        if not any(part.startswith("@") for sentence in sentences for part in sentence):
            raise _wrong(line, "names no class; write one such as @contact, or a plain phrase")
        for sentence in sentences:
            _insert(carriers, sentence, factor)
    return carriers


def _insert(carriers: Carriers, sentence: Sentence, factor: float) -> None:
    while sentence and not sentence[-1].startswith("@"):
        sentence = sentence[:-1]
    node = 0
    for part in sentence:
        name = part.removeprefix("@")
        edges = (carriers.classes if part.startswith("@") else carriers.words)[node]
        if part.startswith("@"):
            key = (node, name)
            carriers.factors[key] = max(factor, carriers.factors.get(key, 0.0))
        if name not in edges:
            edges[name] = len(carriers.words)
            carriers.words.append({})
            carriers.classes.append({})
        node = edges[name]


def _split(line: str) -> tuple[str, float]:
    """The carrier and its factor, a multiple of `FACTOR_QUANTUM`."""
    if len(line) > LONGEST_LINE:
        raise _wrong(line, f"has {len(line):,} characters; at most {LONGEST_LINE:,} are read")
    found = WEIGHTED.fullmatch(line.strip())
    if found is None:
        return line, 1.0
    factor = round(float(found[2]) / FACTOR_QUANTUM) * FACTOR_QUANTUM
    if not 0 < factor <= LARGEST_FACTOR or not math.isfinite(factor):
        raise _wrong(line, f"has a factor that is not above 0 and at most {LARGEST_FACTOR:g}")
    return found[1], factor


def _wrong(line: str, reason: str) -> DataError:
    shown = line if len(line) <= 60 else f"{line[:57]}..."
    return DataError(
        f"the carrier '{shown}' {reason}; an example is 'turn (on|off) [the] @appliance'."
    )


class _Parser:
    """Recursive descent over one carrier; `sentences` yields what it stands for, each once."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, _TOKEN.findall(text), 0

    def sentences(self) -> Iterator[Sentence]:
        found = self.alternatives(0)
        if self.peek() is not None:
            raise _wrong(self.text, f"has a '{self.peek()}' without its pair")
        yield from (sentence for sentence in found if sentence)

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def alternatives(self, depth: int) -> list[Sentence]:
        if depth > MOST_DEPTH:
            raise _wrong(self.text, f"has more than {MOST_DEPTH} brackets in each other")
        found = dict.fromkeys(self.sequence(depth))
        while self.peek() == "|":
            self.at += 1
            found |= dict.fromkeys(self.sequence(depth))
        return list(found)

    def sequence(self, depth: int) -> Sequence[Sentence]:
        made: list[Sentence] = [()]
        while (token := self.peek()) is not None and token not in (")", "]", "|"):
            self.at += 1
            if token in ("(", "["):
                parts = self.alternatives(depth + 1)
                if self.peek() != {"(": ")", "[": "]"}[token]:
                    raise _wrong(self.text, f"has a '{token}' without its pair")
                self.at += 1
                parts = [*parts, ()] if token == "[" else parts
            elif token == "@":
                raise _wrong(self.text, "has an '@' without a name")
            else:
                parts = [(token if token.startswith("@") else token.lower(),)]
            made = [(*left, *right) for left in made for right in parts]
            if len(made) > MOST_SENTENCES:
                raise _wrong(self.text, f"makes more than {MOST_SENTENCES:,} sentences")
        return made
