"""Context-free grammars: reading them, recognising words (Earley), making words by likelihood.

    S -> NP VP | VP
    NP -> "the" N
    N -> "cat" | "dog" | ""

A rule a line, alternatives after bars (or on lines of their own), terminals in quotes, the start
symbol first. Words are made left to right by the most probable derivation first; the probability of
a derivation is the product of those of its rules.
"""

import dataclasses
import heapq
import math
import re
from collections.abc import Iterator, Mapping

from solomonic.core import DataError

_TOKEN = re.compile(r"\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[A-Za-z_][\w-]*|\|)")
_RULES = 1000
_CHARACTERS = 50_000


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A nonterminal, or the text of a terminal."""

    name: str
    terminal: bool


Rule = tuple[Symbol, ...]
_Item = tuple[str, Rule, int, int]  # left side, rule, place in it, where it began


@dataclasses.dataclass(frozen=True)
class Grammar:
    """Rules of every nonterminal; `start` is the first one's."""

    start: str
    rules: Mapping[str, tuple[Rule, ...]]

    @classmethod
    def read(cls, text: str) -> "Grammar":
        """A grammar from its text.

        Raises:
            DataError: a line is no rule, a symbol has no rule, or nothing can be derived.
        """
        if len(text) > _CHARACTERS:
            raise DataError(f"the grammar is longer than {_CHARACTERS:,} characters.")
        rules: dict[str, list[Rule]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, arrow, right = line.partition("->")
            name = name.strip()
            if not arrow or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
                raise DataError(f'line {number} of the grammar is no rule; write S -> "a" S | "b".')
            rules.setdefault(name, []).extend(_alternatives(right, number))
        if not rules:
            raise DataError("the grammar has no rules.")
        if sum(map(len, rules.values())) > _RULES:
            raise DataError(f"the grammar has more than {_RULES:,} rules.")
        grammar = cls(next(iter(rules)), {name: tuple(found) for name, found in rules.items()})
        grammar._check()
        return grammar

    def _check(self) -> None:
        for name, rules in self.rules.items():
            for rule in rules:
                for symbol in rule:
                    if not symbol.terminal and symbol.name not in self.rules:
                        raise DataError(f"'{symbol.name}' (used by {name}) has no rule.")
        if self.start not in self.shortest():
            raise DataError(f"nothing can be derived from '{self.start}': its rules never end.")

    def shortest(self) -> dict[str, int]:
        """Characters of the shortest word of every nonterminal that has one."""
        found: dict[str, int] = {}
        changed = True
        while changed:
            changed = False
            for name, rules in self.rules.items():
                for rule in rules:
                    lengths = [
                        len(symbol.name) if symbol.terminal else found.get(symbol.name)
                        for symbol in rule
                    ]
                    if None in lengths:
                        continue
                    total = sum(length for length in lengths if length is not None)
                    if total < found.get(name, 1 << 60):
                        found[name] = total
                        changed = True
        return found

    def accepts(self, word: str) -> bool:
        """Whether the word can be derived: Earley's algorithm, over characters."""
        nullable = {name for name, length in self.shortest().items() if length == 0}
        columns: list[dict[_Item, None]] = [{} for _ in range(len(word) + 1)]

        def begin(name: str, at: int) -> None:
            for rule in self.rules[name]:
                columns[at].setdefault((name, rule, 0, at))

        begin(self.start, 0)
        for at, column in enumerate(columns):
            queue = list(column)
            place = 0
            while place < len(queue):
                name, rule, dot, origin = queue[place]
                place += 1
                before = len(column)
                if dot == len(rule):
                    for other, its, seen, start in list(columns[origin]):
                        if seen < len(its) and its[seen] == Symbol(name, False):
                            column.setdefault((other, its, seen + 1, start))
                elif rule[dot].terminal:
                    if word.startswith(rule[dot].name, at):
                        columns[at + len(rule[dot].name)].setdefault((name, rule, dot + 1, origin))
                else:
                    begin(rule[dot].name, at)
                    if rule[dot].name in nullable:
                        column.setdefault((name, rule, dot + 1, origin))
                if len(column) > before:
                    queue.extend(list(column)[before:])
        return any(
            name == self.start and dot == len(rule) and origin == 0
            for name, rule, dot, origin in columns[len(word)]
        )

    def words(self, most: int, costs: Mapping[str, float] | None = None) -> Iterator[str]:
        """Words of at most `most` characters, the likeliest derivation first, each word once.

        Args:
            costs: -log2 of rules' probabilities by `rule_name`; missing ones are uniform.
        """
        shortest = self.shortest()
        start: Rule = (Symbol(self.start, False),)
        heap: list[tuple[float, int, str, Rule]] = [(0.0, 0, "", start)]
        count = 0
        seen: set[str] = set()
        pending: set[tuple[str, Rule]] = {("", start)}
        while heap:
            cost, _, done, rest = heapq.heappop(heap)
            while rest and rest[0].terminal:
                done, rest = done + rest[0].name, rest[1:]
            if not rest:
                if done not in seen and len(done) <= most:
                    seen.add(done)
                    yield done
                continue
            name = rest[0].name
            rules = self.rules[name]
            for index, rule in enumerate(rules):
                after = rule + rest[1:]
                least = sum(
                    len(s.name) if s.terminal else shortest.get(s.name, 1 << 60) for s in after
                )
                if len(done) + least > most or len(after) > 4 * most + 8:
                    continue
                if (done, after) in pending:
                    continue  # the same place by a dearer way
                pending.add((done, after))
                uniform = math.log2(len(rules))
                price = (costs or {}).get(rule_name(name, index), uniform)
                count += 1
                heapq.heappush(heap, (cost + price, count, done, after))


def rule_name(name: str, index: int) -> str:
    """What a guide counts a rule under."""
    return f"{name}/{index}"


def _alternatives(text: str, number: int) -> list[Rule]:
    found: list[Rule] = []
    rule: list[Symbol] = []
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise DataError(f"line {number} of the grammar: '{text[place:][:12]}' is no symbol.")
        token = match[1]
        place = match.end()
        if token == "|":
            found.append(tuple(rule))
            rule = []
        elif token[0] in "\"'":
            inner = re.sub(r"\\(.)", r"\1", token[1:-1])
            if inner:
                rule.append(Symbol(inner, True))
        else:
            rule.append(Symbol(token, False))
    return [*found, tuple(rule)]
