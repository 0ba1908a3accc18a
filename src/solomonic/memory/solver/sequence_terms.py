"""What sequence programs mean, in exact integers: the slow definition, and the verifier's own.

A program is a sequence a(0), a(1), ...; every block is causal (term k needs terms up to k only):

    n                     0, 1, 2, ...
    add sub mul div mod   term by term; div and mod as Python's // and %, undefined by zero
    sum(a), prod(a)       running sum and product
    diff(a)               a(k) - a(k-1), with a(-1) = 0
    shift(a)              a(k-1)
    fib(a)                f(k) = a(k) + f(k-1) + f(k-2)
"""

from collections.abc import Callable, Sequence

from solomonic.core import DataError
from solomonic.memory.solver.programs import Tree

LEAVES = ("n", "0", "1", "2")
UNARY = ("sum", "diff", "prod", "shift", "fib")
BINARY = ("add", "sub", "mul", "div", "mod")
BLOCKS = (*LEAVES, *UNARY, *BINARY)
_BITS = 4096
_PLAIN: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
}


class Undefined(DataError):
    """A program has no value here: division by zero, or numbers beyond all bounds."""


def run(tree: Tree, terms: int) -> list[int]:
    """The first terms of a program.

    Raises:
        Undefined: one of them has no value.
        DataError: an unknown block, or a wrong number of arguments.
    """
    if isinstance(tree, bool | str):
        raise DataError("sequences are made of whole numbers.")
    if isinstance(tree, int):
        return [tree] * terms
    name, *parts = tree
    arguments = [run(part, terms) for part in parts]
    if name == "n" and not arguments:
        return list(range(terms))
    if name in _PLAIN and len(arguments) == 2:
        try:
            values = [_PLAIN[name](a, b) for a, b in zip(*arguments, strict=True)]
        except ZeroDivisionError:
            raise Undefined("division by zero.") from None
    elif name in UNARY and len(arguments) == 1:
        values = _running(name, arguments[0])
    else:
        raise DataError(f"there is no block '{name}' with {len(arguments)} arguments.")
    if any(value.bit_length() > _BITS for value in values):
        raise Undefined(f"a term has more than {_BITS} bits.")
    return values


def _running(name: str, values: Sequence[int]) -> list[int]:
    found: list[int] = []
    for index, value in enumerate(values):
        last = found[-1] if found else (1 if name == "prod" else 0)
        match name:
            case "sum":
                found.append(last + value)
            case "prod":
                found.append(last * value)
                if found[-1].bit_length() > _BITS:
                    raise Undefined(f"a term has more than {_BITS} bits.")
            case "fib":
                found.append(value + last + (found[-2] if index > 1 else 0))
            case "diff":
                found.append(value - (values[index - 1] if index else 0))
            case _:
                found.append(values[index - 1] if index else 0)
    return found
