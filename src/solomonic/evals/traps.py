"""Near-duplicate traps for a solver: pairs of tasks that look alike and differ in their answers.

Every pair comes with an oracle for the second task that shares no code with the solver: it works
on the tree that the text was written from, or on the rule that made the terms.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

Tree = Any
_METRES = {"km": Fraction(1000), "m": Fraction(1), "cm": Fraction(1, 100), "mm": Fraction(1, 1000)}
_SECONDS = {"h": Fraction(3600), "min": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}


@dataclasses.dataclass(frozen=True)
class Trap:
    """Two tasks' records, what was changed, and whether an answer (value, details) to the second
    one is right."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    change: str
    right: Callable[[str, Mapping[str, Any]], bool]


def traps(count: int, seed: int, kinds: tuple[str, ...] = ("arithmetic",)) -> Iterator[Trap]:
    """`count` pairs, drawn in turn from the kinds 'arithmetic', 'units', 'truth', 'sequence' and
    'function'."""
    rng = random.Random(seed)
    makers = {
        "arithmetic": _arithmetic,
        "units": _units,
        "truth": _truth,
        "sequence": _sequence,
        "function": _function,
    }
    for index in range(count):
        yield makers[kinds[index % len(kinds)]](rng)


def _random_tree(rng: random.Random, depth: int) -> Tree:
    if depth == 0 or rng.random() < 0.2:
        return rng.randint(0, 12) if rng.random() < 0.9 else Fraction(rng.randint(1, 99), 10)
    return (
        rng.choice("++--**/"),
        _random_tree(rng, depth - 1),
        _random_tree(rng, depth - 1),
    )


def _value(tree: Tree) -> Fraction | None:
    if not isinstance(tree, tuple):
        return Fraction(tree)
    values = [_value(part) for part in tree[1:]]
    if None in values:
        return None
    a = values[0] or Fraction(0)
    if tree[0] == "neg":
        return -a
    b = values[1] or Fraction(0)
    if tree[0] == "/":
        return a / b if b else None
    return {"+": a + b, "-": a - b, "*": a * b}[tree[0]]


def _text(tree: Tree, rng: random.Random) -> str:
    """Written with all brackets, and spaces as they fall."""
    if isinstance(tree, Fraction):
        return str(float(tree))
    if not isinstance(tree, tuple):
        return str(tree)
    parts = [_text(part, rng) for part in tree[1:]]
    parts = [f"({part})" if isinstance(sub, tuple) else part for part, sub in zip(parts, tree[1:])]  # noqa: B905
    if tree[0] == "neg":
        return f"-{parts[0]}"
    space = rng.choice(["", " "])
    return f"{parts[0]}{space}{tree[0]}{space}{parts[1]}"


def _places(tree: Tree, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tree]]:
    yield path, tree
    if isinstance(tree, tuple):
        for index in range(1, len(tree)):
            yield from _places(tree[index], (*path, index))


def _put(tree: Tree, path: tuple[int, ...], new: Tree) -> Tree:
    if not path:
        return new
    index = path[0]
    return (*tree[:index], _put(tree[index], path[1:], new), *tree[index + 1 :])


def _changed(tree: Tree, rng: random.Random) -> tuple[Tree, str]:
    """One small change."""
    numbers = [(path, part) for path, part in _places(tree) if not isinstance(part, tuple)]
    inner = [(path, part) for path, part in _places(tree) if isinstance(part, tuple)]
    kind = rng.choice(["number", "order", "sign", "operator"])
    if kind == "number" or not inner:
        path, part = rng.choice(numbers)
        return _put(tree, path, part + rng.choice([-1, 1, 10])), "number"
    path, part = rng.choice(inner)
    if part[0] == "neg":
        return _put(tree, path, part[1]), "sign"
    if kind == "order":
        return _put(tree, path, (part[0], part[2], part[1])), "order"
    if kind == "sign":
        return _put(tree, path, ("neg", part)), "sign"
    other = rng.choice([sign for sign in "+-*/" if sign != part[0]])
    return _put(tree, path, (other, part[1], part[2])), "operator"


def _solvable(rng: random.Random) -> tuple[Tree, Tree, str]:
    while True:
        first = _random_tree(rng, rng.randint(1, 3))
        second, change = _changed(first, rng)
        if None not in (_value(first), _value(second)):
            return first, second, change


def _arithmetic(rng: random.Random) -> Trap:
    first, second, change = _solvable(rng)
    wanted = _value(second)
    return Trap(
        {"kind": "arithmetic", "expression": _text(first, rng)},
        {"kind": "arithmetic", "expression": _text(second, rng)},
        change,
        lambda value, _: Fraction(value) == wanted,
    )


def _units(rng: random.Random) -> Trap:
    table = rng.choice([_METRES, _SECONDS])
    names = list(table)
    a, b = rng.randint(1, 50), rng.randint(1, 50)
    units = [rng.choice(names) for _ in range(3)]
    place = rng.randrange(3)
    others = list(units)
    others[place] = rng.choice([name for name in names if name != units[place]])

    def text(chosen: list[str]) -> str:
        return f"{a} {chosen[0]} + {b} {chosen[1]} in {chosen[2]}"

    total = (a * table[others[0]] + b * table[others[1]]) / table[others[2]]

    def right(value: str, _: Mapping[str, Any]) -> bool:
        number, unit = value.split()
        return unit == others[2] and Fraction(number) == total

    return Trap(
        {"kind": "arithmetic", "expression": text(units)},
        {"kind": "arithmetic", "expression": text(others)},
        "asked unit" if place == 2 else "given unit",
        right,
    )


def _truth(rng: random.Random) -> Trap:
    left, right_side, _ = _solvable(rng)
    signs: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "<": lambda a, b: a < b,
        ">=": lambda a, b: a >= b,
        "!=": lambda a, b: a != b,
    }
    sign = rng.choice(list(signs))
    first = f"{_text(left, rng)} {sign} {_text(right_side, rng)}"
    holds = signs[sign](_value(left), _value(right_side))
    if rng.random() < 0.5:
        second, holds, change = f"not {first}", not holds, "negation"
    else:
        other = rng.choice([name for name in signs if name != sign])
        second = first.replace(f" {sign} ", f" {other} ")
        holds, change = signs[other](_value(left), _value(right_side)), "comparison"
    return Trap(
        {"kind": "arithmetic", "expression": first},
        {"kind": "arithmetic", "expression": second},
        change,
        lambda value, _: value == str(holds).lower(),
    )


def _sequence(rng: random.Random) -> Trap:
    a, b, c = rng.randint(0, 3), rng.randint(-3, 5), rng.randint(0, 9)
    terms = [a * n * n + b * n + c for n in range(9)]
    others = list(terms)
    change = rng.choice(["one term", "sign", "longer", "order"])
    if change == "one term":
        others[rng.randrange(9)] += rng.choice([-1, 1])
    elif change == "sign":
        others = [-term for term in terms]
    elif change == "longer":
        others.append(others[-1] + 1)
    else:
        others.reverse()

    def right(value: str, details: Mapping[str, Any]) -> bool:
        return sequence_terms(value, len(others)) == others

    return Trap(
        {"kind": "sequence", "terms": terms},
        {"kind": "sequence", "terms": others},
        change,
        right,
    )


def sequence_terms(program: str, count: int) -> list[int]:
    """A second reading of sequence programs, term by term and by definition: for oracles only."""
    import ast

    def term(node: ast.AST, k: int) -> int:
        if k < 0:
            return 0
        match node:
            case ast.Constant(value=int() as value):
                return value
            case ast.UnaryOp(operand=inner):
                return -term(inner, k)
            case ast.Name():
                return k
            case ast.Call(func=ast.Name(id=name), args=[one]):
                past = [term(one, i) for i in range(k + 1)]
                if name == "sum":
                    return sum(past)
                if name == "prod":
                    result = 1
                    for factor in past:
                        result *= factor
                    return result
                if name == "fib":
                    x, y = 0, 0
                    for value in past:
                        x, y = y, value + x + y
                    return y
                before = term(one, k - 1)
                return past[-1] - before if name == "diff" else before
            case ast.Call(func=ast.Name(id=name), args=[one, two]):
                x, y = term(one, k), term(two, k)
                if name in ("div", "mod"):
                    return x // y if name == "div" else x % y
                return {"add": x + y, "sub": x - y, "mul": x * y}[name]
            case _:
                raise ValueError(ast.dump(node))

    body = ast.parse(program, mode="eval").body
    return [term(body, k) for k in range(count)]


_RULES: list[tuple[str, Callable[..., Any]]] = [
    ("list", lambda v: sorted(v)),
    ("list", lambda v: v[::-1]),
    ("list", lambda v: sum(v)),
    ("list", lambda v: max(v)),
    ("list", lambda v: [w * 2 for w in v]),
    ("list", lambda v: [w for w in v if w % 2 == 0]),
    ("two", lambda x, y: x - y),
    ("two", lambda x, y: x * y + 1),
    ("two", lambda x, y: max(x, y)),
]


def _function(rng: random.Random) -> Trap:
    shape, rule = rng.choice(_RULES)
    examples = []
    for _ in range(3):
        if shape == "list":
            given = [[rng.randint(-9, 9) for _ in range(rng.randint(2, 5))]]
        else:
            given = [rng.randint(-9, 9), rng.randint(-9, 9)]
        examples.append({"in": given, "out": rule(*given)})
    others = [dict(example) for example in examples]
    change = "one result"
    if shape == "two" and rng.random() < 0.5:
        change = "order of arguments"
        others = [{"in": example["in"][::-1], "out": example["out"]} for example in examples]
    else:
        out = others[0]["out"]
        others[0]["out"] = [*out, 7] if isinstance(out, list) else out + 1

    def right(value: str, details: Mapping[str, Any]) -> bool:
        space: dict[str, Any] = {}
        exec(details["python"], space)
        return all(space["f"](*example["in"]) == example["out"] for example in others)

    return Trap(
        {"kind": "function", "examples": examples},
        {"kind": "function", "examples": others},
        change,
        right,
    )
