"""The blocks of function programs: a small typed language whose meaning is Python itself.

Each block is one line of Python over its arguments {0}, {1}, {2}; the same line is what the search
evaluates and what the solution's source is made of, so the two cannot differ. Types: int, bool,
str, ints (a list of int), strs (a list of str). No block changes its arguments.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from solomonic.core import DataError
from solomonic.memory.solver.programs import Tree

TYPES = ("int", "bool", "str", "ints", "strs")


@dataclasses.dataclass(frozen=True)
class Block:
    """A name, the types of its arguments and of its result, and its line of Python."""

    name: str
    takes: tuple[str, ...]
    gives: str
    line: str


_TABLE = """
add          int int     int    ({0} + {1})
sub          int int     int    ({0} - {1})
mul          int int     int    ({0} * {1})
div          int int     int    ({0} // {1})
mod          int int     int    ({0} % {1})
min2         int int     int    min({0}, {1})
max2         int int     int    max({0}, {1})
absolute     int         int    abs({0})
choose       bool int int  int  ({1} if {0} else {2})
equal        int int     bool   ({0} == {1})
less         int int     bool   ({0} < {1})
even         int         bool   ({0} % 2 == 0)
negate       bool        bool   (not {0})
both         bool bool   bool   ({0} and {1})
length       ints        int    len({0})
total        ints        int    sum({0})
largest      ints        int    max({0})
smallest     ints        int    min({0})
item         ints int    int    {0}[{1}]
count        ints int    int    {0}.count({1})
has          ints int    bool   ({1} in {0})
sort         ints        ints   sorted({0})
reverse      ints        ints   {0}[::-1]
unique       ints        ints   list(dict.fromkeys({0}))
take         ints int    ints   {0}[:{1}]
drop         ints int    ints   {0}[{1}:]
every        ints int    ints   {0}[::{1}]
join_lists   ints ints   ints   ({0} + {1})
only_one     int         ints   [{0}]
upto         int         ints   list(range({0}))
map_add      ints int    ints   [v + {1} for v in {0}]
map_mul      ints int    ints   [v * {1} for v in {0}]
map_mod      ints int    ints   [v % {1} for v in {0}]
map_square   ints        ints   [v * v for v in {0}]
keep_above   ints int    ints   [v for v in {0} if v > {1}]
keep_below   ints int    ints   [v for v in {0} if v < {1}]
keep_even    ints        ints   [v for v in {0} if v % 2 == 0]
keep_odd     ints        ints   [v for v in {0} if v % 2]
zip_add      ints ints   ints   [v + w for v, w in zip({0}, {1})]
zip_mul      ints ints   ints   [v * w for v, w in zip({0}, {1})]
size         str         int    len({0})
upper        str         str    {0}.upper()
lower        str         str    {0}.lower()
title        str         str    {0}.title()
strip        str         str    {0}.strip()
backwards    str         str    {0}[::-1]
glue         str str     str    ({0} + {1})
repeat       str int     str    ({0} * {1})
head         str int     str    {0}[:{1}]
tail         str int     str    {0}[{1}:]
letter       str int     str    {0}[{1}]
replace      str str str   str  {0}.replace({1}, {2})
digits       int         str    str({0})
number       str         int    int({0})
inside       str str     bool   ({1} in {0})
begins       str str     bool   {0}.startswith({1})
occurs       str str     int    {0}.count({1})
split        str str     strs   {0}.split({1})
words        str         strs   {0}.split()
join         strs str    str    {1}.join({0})
pick         strs int    str    {0}[{1}]
sort_words   strs        strs   sorted({0})
flip_words   strs        strs   {0}[::-1]
how_many     strs        int    len({0})
lengths      strs        ints   [len(v) for v in {0}]
firsts       strs        strs   [v[:1] for v in {0}]
map_upper    strs        strs   [v.upper() for v in {0}]
map_title    strs        strs   [v.title() for v in {0}]
map_number   strs        ints   [int(v) for v in {0}]
"""


def _read_table() -> dict[str, Block]:
    found = {}
    for row in _TABLE.strip().splitlines():
        words = row.split()
        name = words[0]
        arity = 1
        while words[1 + arity] in TYPES:
            arity += 1
        types = words[1 : 1 + arity]
        line = row.split(None, 1 + arity)[1 + arity]
        found[name] = Block(name, tuple(types[:-1]), types[-1], line)
    return found


BLOCKS = _read_table()


def source(tree: Tree, inputs: int) -> str:
    """The Python expression of a program over x0, x1, ...

    Raises:
        DataError: an unknown block, a wrong number of arguments, or an input there is not.
    """
    if not isinstance(tree, tuple):
        return repr(tree)
    name, *parts = tree
    if name in input_names(inputs) and not parts:
        return name
    block = BLOCKS.get(name)
    if block is None or len(block.takes) != len(parts):
        raise DataError(f"there is no block '{name}' with {len(parts)} arguments.")
    return block.line.format(*(source(part, inputs) for part in parts))


def function(tree: Tree, inputs: int, name: str = "f") -> str:
    """The source of a Python function that does what the program says."""
    expression = source(tree, inputs)
    while expression.startswith("(") and _closes_at_end(expression):
        expression = expression[1:-1]
    return f"def {name}({', '.join(input_names(inputs))}):\n    return {expression}\n"


def _closes_at_end(text: str) -> bool:
    import ast

    try:
        whole, inner = ast.parse(text, mode="eval"), ast.parse(text[1:-1], mode="eval")
    except SyntaxError:
        return False
    return ast.dump(whole) == ast.dump(inner)


def input_names(count: int) -> list[str]:
    """x0, x1, ..."""
    return [f"x{index}" for index in range(count)]


def type_of(values: Iterable[Any]) -> str | None:
    """The type that all the values have, or None. An empty list alone is 'ints'."""
    kinds = set()
    for value in values:
        if isinstance(value, list):
            inner = {type(part) for part in value}
            if inner - {int} and inner - {str}:
                return None
            kinds.add("any" if not inner else "ints" if inner == {int} else "strs")
        else:
            kinds.add({int: "int", bool: "bool", str: "str"}.get(type(value)))
    if "any" in kinds and len(kinds) > 1:
        kinds.discard("any")
    if len(kinds) != 1:
        return None
    return "ints" if kinds == {"any"} else kinds.pop()


def tree_type(tree: Tree, inputs: list[str]) -> str:
    """The type of a program's result; every argument is checked.

    Raises:
        DataError: it is ill-typed.
    """
    if isinstance(tree, bool | int | str):
        return {bool: "bool", int: "int", str: "str"}[type(tree)]
    name, *parts = tree
    if name in (names := input_names(len(inputs))) and not parts:
        return inputs[names.index(name)]
    block = BLOCKS.get(name)
    if block is None or tuple(tree_type(part, inputs) for part in parts) != block.takes:
        raise DataError(f"'{name}' does not fit there.")
    return block.gives
