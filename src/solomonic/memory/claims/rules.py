"""Horn rules over claims: what follows, and what cannot stand together.

    ?x capital_of ?c & ?c part_of ?u -> ?x located_in ?u
    ?p born ?y & ?p died ?z & ?z before ?y -> false
    ?x parent_of ?x -> false

Patterns are `subject predicate object`, words in single or double quotes where they have spaces;
`?name` is a variable. `before`, `after`, `less`, `more`, `same` and `other` compare two bound
values and are no claims. A rule holds on the days on which all its claims do.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from solomonic.core import DataError
from solomonic.memory.claims.values import Amount, Day, Value, compare, fold, read_value

Pattern = tuple[str, str, str]
_WORD = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|(\S+))")
_DERIVED = 200_000  # facts at most
_SUPPORTS = 64  # sets kept that one fact follows from


@dataclasses.dataclass(frozen=True)
class Rule:
    """`head` None means false: the body must never hold."""

    text: str
    body: tuple[Pattern, ...]
    tests: tuple[Pattern, ...]
    head: Pattern | None

    @classmethod
    def read(cls, text: str) -> "Rule":
        """A rule from its text.

        Raises:
            DataError: it is malformed, or its head or a comparison has a variable that no claim of
                the body binds.
        """
        left, arrow, right = text.partition("->")
        if not arrow:
            raise DataError(f"'{text[:60]}' is no rule; write ?x parent_of ?x -> false.")
        parts = [_pattern(part, text) for part in re.split(r"\s&\s", left.strip())]
        body = tuple(part for part in parts if part[1] not in TESTS)
        tests = tuple(part for part in parts if part[1] in TESTS)
        head = None if right.strip() == "false" else _pattern(right, text)
        bound = {word for part in body for word in part if word.startswith("?")}
        used = [word for part in (*tests, *((head,) if head else ())) for word in part]
        free = [word for word in used if word.startswith("?") and word not in bound]
        if not body or free:
            raise DataError(
                f"rule '{text[:60]}': no claim on its left side binds {free[0] if free else 'it'}."
            )
        return cls(" ".join(text.split()), body, tests, head)


@dataclasses.dataclass(frozen=True)
class Fact:
    """A claim, or what follows from claims: names, the object as written, the days it holds."""

    subject: str
    predicate: str
    object: str
    unit: str
    begin: int
    end: int

    @functools.cached_property
    def value(self) -> Value:
        return read_value(self.object, self.unit)

    @functools.cached_property
    def keys(self) -> tuple[str, str]:
        """Subject and object in the form in which they are compared."""
        return _key(self.subject, ""), repr(self.value)


def _key(text: str, unit: str) -> str:
    return repr(read_value(text, unit))


def _order(wanted: str) -> Callable[[Value, Value], bool]:
    def test(a: Value, b: Value) -> bool:
        if isinstance(a, Day) and isinstance(b, Day):
            return a.last < b.first if wanted == "less" else a.first > b.last
        if isinstance(a, Amount) and isinstance(b, Amount) and a.dimension == b.dimension:
            return a.value < b.value if wanted == "less" else a.value > b.value
        return False

    return test


TESTS: Mapping[str, Callable[[Value, Value], bool]] = {
    "before": _order("less"),
    "less": _order("less"),
    "after": _order("more"),
    "more": _order("more"),
    "same": lambda a, b: compare(a, b) == "same",
    "other": lambda a, b: compare(a, b) == "differs",
}


def _pattern(text: str, rule: str) -> Pattern:
    words = [next(part for part in found if part) for found in _WORD.findall(text) if any(found)]
    if len(words) != 3:
        raise DataError(
            f"rule '{rule[:60]}': '{text.strip()[:40]}' is not subject, predicate, object."
        )
    subject, predicate, obj = words
    if predicate.startswith("?"):
        raise DataError(f"rule '{rule[:60]}': a predicate cannot be a variable.")
    return subject, fold(predicate), obj


def breaks(
    facts: Sequence[Fact], rules: Sequence[Rule], functional: Mapping[str, float]
) -> str | None:
    """Why the facts cannot all hold: the text of a rule, or a functional predicate; else None.

    `functional`: predicates with one value at a time, and the tolerance of each.
    """
    return next((why for _, why in contradictions(dict(enumerate(facts)), rules, functional)), None)


def contradictions(
    facts: Mapping[int, Fact], rules: Sequence[Rule], functional: Mapping[str, float]
) -> Iterator[tuple[frozenset[int], str]]:
    """Sets of ids that cannot all hold, with why; every minimal one is among them.

    Forward chaining to the end. Each fact carries the minimal sets of given facts that it follows
    from; where a contradiction is reached, the unions of such sets are what contradicts.
    """
    state = _Chain(functional)
    for one, fact in facts.items():
        state.support(fact, frozenset([one]))
    while state.fresh:
        new, state.fresh = state.fresh, {}
        yield from state.clashes(new)
        for rule in rules:
            for used, binding, begin, end in list(_matches(rule, state, new)):
                for union in state.unions(used):
                    if rule.head is None:
                        yield union, rule.text
                    else:
                        state.support(_made(rule.head, binding, begin, end), union)


class _Chain:
    """Facts with their supports, found by predicate and by either name."""

    def __init__(self, functional: Mapping[str, float]) -> None:
        self.functional = functional
        self.supports: dict[Fact, list[frozenset[int]]] = {}
        self.index: dict[tuple[str, str, str], list[Fact]] = {}
        self.fresh: dict[Fact, None] = {}

    def support(self, fact: Fact, ids: frozenset[int]) -> None:
        """`fact` follows from `ids`; only minimal sets are kept, the smallest where too many."""
        known = self.supports.get(fact)
        if known is None:
            if len(self.supports) >= _DERIVED:
                raise DataError(
                    f"the rules derive more than {_DERIVED:,} facts; make them narrower."
                )
            known = self.supports[fact] = []
            subject, obj = fact.keys
            for key in (("", ""), ("s", subject), ("o", obj)):
                self.index.setdefault((fact.predicate, *key), []).append(fact)
        if any(other <= ids for other in known):
            return
        kept = sorted([*(other for other in known if not ids <= other), ids], key=len)
        self.supports[fact] = kept[:_SUPPORTS]
        if ids in self.supports[fact]:
            self.fresh[fact] = None

    def unions(self, facts: Sequence[Fact]) -> Iterator[frozenset[int]]:
        """What a conjunction follows from."""
        found = itertools.product(*(self.supports[fact] for fact in facts))
        yield from (frozenset().union(*parts) for parts in itertools.islice(found, _SUPPORTS**2))

    def clashes(self, new: Mapping[Fact, None]) -> Iterator[tuple[frozenset[int], str]]:
        """Values of one functional predicate that exclude each other, one of them new."""
        for one in new:
            if one.predicate not in self.functional:
                continue
            for other in self.index[one.predicate, "s", one.keys[0]]:
                together = one.begin < other.end and other.begin < one.end
                tolerance = self.functional[one.predicate]
                if together and compare(one.value, other.value, tolerance) == "differs":
                    for union in self.unions([one, other]):
                        yield union, f"{one.predicate} has one value at a time"


Binding = dict[str, tuple[str, str]]
"""Variable: the text and the unit that it stands for."""
_Match = tuple[list[Fact], Binding, int, int]


def _matches(rule: Rule, chain: _Chain, new: Mapping[Fact, None]) -> Iterator[_Match]:
    """Ways to match a body with at least one new fact, and the days on which all of it holds."""

    def match(used: list[Fact], binding: Binding, begin: int, end: int) -> Iterator[_Match]:
        if len(used) == len(rule.body):
            if any(fact in new for fact in used) and all(_holds(t, binding) for t in rule.tests):
                yield used, binding, begin, end
            return
        pattern = rule.body[len(used)]
        for fact in list(_candidates(pattern, binding, chain)):
            first, last = max(begin, fact.begin), min(end, fact.end)
            bound = _bind(pattern, fact, binding) if first < last else None
            if bound is not None:
                yield from match([*used, fact], bound, first, last)

    yield from match([], {}, 0, 1 << 40)


def _candidates(pattern: Pattern, binding: Binding, chain: _Chain) -> Sequence[Fact]:
    """Facts that may match: by the subject or the object, where it is known."""
    for place, word in (("s", pattern[0]), ("o", pattern[2])):
        known = binding.get(word) if word.startswith("?") else (word, "")
        if known is not None:
            return chain.index.get((pattern[1], place, _key(*known)), ())
    return chain.index.get((pattern[1], "", ""), ())


def _bind(pattern: Pattern, fact: Fact, binding: Binding) -> Binding | None:
    named = (pattern[0], fact.subject, ""), (pattern[2], fact.object, fact.unit)
    for (word, text, unit), key in zip(named, fact.keys, strict=True):
        known = binding.get(word) if word.startswith("?") else (word, "")
        if known is None:
            binding = {**binding, word: (text, unit)}
        elif _key(*known) != key:
            return None
    return binding


def _holds(test: Pattern, binding: Binding) -> bool:
    left, right = (
        read_value(*(binding[word] if word.startswith("?") else (word, "")))
        for word in (test[0], test[2])
    )
    return TESTS[test[1]](left, right)


def _made(head: Pattern, binding: Binding, begin: int, end: int) -> Fact:
    subject = binding[head[0]][0] if head[0].startswith("?") else head[0]
    obj, unit = binding[head[2]] if head[2].startswith("?") else (head[2], "")
    return Fact(fold(subject), head[1], obj, unit, begin, end)


def minimal_set(
    facts: Mapping[int, Fact], rules: Sequence[Rule], functional: Mapping[str, float]
) -> tuple[tuple[int, ...], str] | None:
    """A minimal inconsistent subset (ids) and why, or None: by deletion, one fact at a time."""
    ids = sorted(facts)
    if breaks([facts[i] for i in ids], rules, functional) is None:
        return None
    for one in list(ids):
        rest = [i for i in ids if i != one]
        if breaks([facts[i] for i in rest], rules, functional) is not None:
            ids = rest
    return tuple(ids), str(breaks([facts[i] for i in ids], rules, functional))


def minimal_sets(
    facts: Mapping[int, Fact], rules: Sequence[Rule], functional: Mapping[str, float]
) -> list[tuple[tuple[int, ...], str]]:
    """All minimal inconsistent subsets (ids) and why, the smallest first.

    What forward chaining finds is cut down by deletion, so that every set is minimal even where
    supports were too many to be kept.
    """
    found: dict[tuple[int, ...], str] = {}
    candidates = sorted(set(contradictions(facts, rules, functional)), key=lambda p: len(p[0]))
    for ids, _ in candidates:
        if any(ids.issuperset(known) for known in found):
            continue
        result = minimal_set({i: facts[i] for i in ids}, rules, functional)
        assert result is not None
        found.setdefault(*result)
    return sorted(found.items(), key=lambda pair: (len(pair[0]), pair[0]))
