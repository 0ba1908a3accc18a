"""Programs as text and as trees: `add(n, mul(2, n))` <-> ("add", ("n",), ("mul", 2, ("n",))).

A tree is a literal (int, str, bool) or a tuple: the name of a block and its arguments. The text is
the syntax of Python calls, read by `ast.parse` and never executed.
"""

import ast
from collections.abc import Collection, Iterator
from typing import Any

from solomonic.core import DataError

Tree = Any
_CHARACTERS = 20_000


def parse(text: str, names: Collection[str] | None = None) -> Tree:
    """The tree of a program's text; `names` are the blocks that exist.

    Raises:
        DataError: it is no program.
    """
    if len(text) > _CHARACTERS:
        raise DataError(f"a program is longer than {_CHARACTERS:,} characters.")
    try:
        return _tree(ast.parse(text.strip(), mode="eval").body, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DataError(f"'{text[:60]}' is no program.") from None


def _tree(node: ast.expr, names: Collection[str] | None) -> Tree:
    match node:
        case ast.Constant(value=bool() | int() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
        case ast.Name(id=name) if names is None or name in names:
            return (name,)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            names is None or name in names
        ):
            return (name, *(_tree(argument, names) for argument in arguments))
        case _:
            raise ValueError


def show(tree: Tree) -> str:
    """The text of a tree."""
    if not isinstance(tree, tuple):
        return repr(tree)
    if len(tree) == 1:
        return tree[0]
    return f"{tree[0]}({', '.join(show(part) for part in tree[1:])})"


def blocks(tree: Tree) -> Iterator[str]:
    """The names of all blocks; a literal is its own text."""
    if not isinstance(tree, tuple):
        yield repr(tree)
        return
    yield tree[0]
    for part in tree[1:]:
        yield from blocks(part)


def size(tree: Tree) -> int:
    """How many blocks and literals there are."""
    return 1 + sum(size(part) for part in tree[1:]) if isinstance(tree, tuple) else 1


def with_literals(tree: Tree, values: dict[type, list[Any]]) -> Iterator[Tree]:
    """`tree` with one literal replaced by others of its type."""
    if not isinstance(tree, tuple):
        for value in values.get(type(tree), []):
            if value != tree:
                yield value
        return
    for index in range(1, len(tree)):
        for part in with_literals(tree[index], values):
            yield (*tree[:index], part, *tree[index + 1 :])
