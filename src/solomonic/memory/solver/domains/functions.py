"""Functions by example: {"kind": "function", "examples": [{"in": [[3, 1, 2]], "out": [1, 2, 3]}]}.

The value is a program of `function_blocks`, verified by its Python on every example; `details` has
the source of a Python function. Types: int, bool, str, lists of int, lists of str.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from solomonic.core import DataError
from solomonic.memory.solver.domains.shared import field, first_line, only
from solomonic.memory.solver.function_blocks import (
    BLOCKS,
    function,
    input_names,
    tree_type,
    type_of,
)
from solomonic.memory.solver.function_search import FunctionSearch, run_block
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.programs import Tree, blocks, parse, show, with_literals
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_INTS = (0, 1, 2, 3, -1, 10)
_TEXTS = (" ", "", ",", "-")
_NEAR_LITERALS = [*range(-10, 21), 100, 1000]
_EXAMPLES = 200
_SIGNS = 4  # punctuation of the outputs that is tried as a constant


class Examples(NamedTuple):
    """Columns of inputs with their types, and the outputs with theirs."""

    inputs: list[list[Any]]
    types: list[str]
    outputs: list[Any]
    gives: str


def read_examples(pairs: Sequence[tuple[Sequence[Any], Any]]) -> Examples:
    """Columns of (arguments, result) pairs.

    Raises:
        DataError: the arguments differ in number, or a column has no type of the language.
    """
    if not 1 <= len(pairs) <= _EXAMPLES:
        raise DataError(f"a function needs 1 to {_EXAMPLES} examples.")
    arity = len(pairs[0][0])
    if not 1 <= arity <= 4 or any(len(given) != arity for given, _ in pairs):
        raise DataError("all examples need the same 1 to 4 arguments.")
    columns = [[given[index] for given, _ in pairs] for index in range(arity)]
    outputs = [out for _, out in pairs]
    types = [type_of(column) for column in (*columns, outputs)]
    if None in types:
        raise DataError(
            "arguments and results are whole numbers, true/false, texts, or lists of numbers or "
            "of texts; one type for each argument."
        )
    known = [kind for kind in types if kind is not None]
    return Examples(columns, known[:-1], outputs, known[-1])


def run_tree(tree: Tree, examples: Examples) -> list[Any] | None:
    """The program's results on all examples, or None where one has none."""
    if not isinstance(tree, tuple):
        return [tree] * len(examples.outputs)
    name, *parts = tree
    names = input_names(len(examples.inputs))
    if name in names:
        return examples.inputs[names.index(name)]
    columns = [run_tree(part, examples) for part in parts]
    if None in columns or name not in BLOCKS:
        return None
    return run_block(name, [column for column in columns if column is not None])


def solves(tree: Tree, examples: Examples) -> bool:
    """Whether a program is well typed and gives every output, type and all."""
    try:
        if tree_type(tree, examples.types) != examples.gives:
            return False
    except DataError:
        return False
    found = run_tree(tree, examples)
    return found is not None and _exact(found) == _exact(examples.outputs)


def _exact(values: list[Any]) -> str:
    """Text in which True is not 1."""
    return repr(values)


def near_programs(examples: Examples, values: Sequence[str]) -> Iterator[Tree | None]:
    """Stored programs of these types as they are, then with one literal changed. None: evaluated,
    and wrong."""
    trees = []
    for value in values:
        try:
            tree = parse(value)
            if tree_type(tree, examples.types) == examples.gives:
                trees.append(tree)
        except DataError:
            continue
    # Most are wrong on the first example already.
    first = Examples([c[:1] for c in examples.inputs], examples.types, *_first(examples))
    literals = _literals(examples)
    near: dict[type, list[Any]] = {
        int: list(dict.fromkeys([*_NEAR_LITERALS, *_of(int, literals)])),
        str: _of(str, literals),
        bool: [True, False],
    }
    changed = (new for tree in trees for new in with_literals(tree, near))
    for tree in itertools.chain(trees, changed):
        right = run_tree(tree, first) == first.outputs and solves(tree, examples)
        yield tree if right else None


def _first(examples: Examples) -> tuple[list[Any], str]:
    return examples.outputs[:1], examples.gives


def _of(kind: type, literals: Sequence[Any]) -> list[Any]:
    return [value for value in literals if type(value) is kind]


def _literals(examples: Examples) -> list[Any]:
    """Constants worth trying: the usual ones, and what every output shares: a beginning, an end,
    punctuation, its length."""
    found: list[Any] = [*_INTS, *_TEXTS]
    outputs = examples.outputs
    if examples.gives == "str":
        found += [_shared(outputs), _shared([out[::-1] for out in outputs])[::-1]]
        signs = dict.fromkeys(re.findall(r"[^\w\s]+\s*|_", outputs[0]))
        found += [sign for sign in signs if all(sign in out for out in outputs)][:_SIGNS]
    if examples.gives == "int" and len(set(outputs)) == 1:
        found.append(outputs[0])
    if examples.gives != "int" and len({type(out) for out in outputs} - {list, str}) == 0:
        lengths = {len(out) for out in outputs}
        found += list(lengths) if len(lengths) == 1 else []
    # By type and value: True is no 1.
    return [value for _, value in dict.fromkeys((type(value), value) for value in found)]


def _shared(texts: list[str]) -> str:
    """The beginning that all texts have in common."""
    first, last = min(texts), max(texts)
    same = 0
    while same < len(first) and first[same] == last[same]:
        same += 1
    return first[:same]


def start_search(examples: Examples, guide: Guide, saved: bytes | None) -> FunctionSearch:
    """A search for the examples, new or gone on with."""
    if saved is not None:
        return FunctionSearch.load(
            saved, examples.inputs, examples.types, examples.outputs, examples.gives
        )
    leaves = _literals(examples)
    costs: dict[str, int] = {}
    names = input_names(len(examples.inputs))
    for kind in {block.gives for block in BLOCKS.values()}:
        among = [block.name for block in BLOCKS.values() if block.gives == kind]
        among += [f"input:{kind}", f"literal:{kind}"]
        costs |= guide.costs(among)
    for name, kind in zip(names, examples.types, strict=True):
        costs[name] = costs[f"input:{kind}"]
    for kind in ("int", "str"):
        literals = [repr(leaf) for leaf in leaves if type(leaf).__name__ == kind]
        costs |= {
            leaf: costs[f"literal:{kind}"] + c // 2 for leaf, c in guide.costs(literals).items()
        }
    return FunctionSearch(
        examples.inputs, examples.types, examples.outputs, examples.gives, leaves, costs
    )


def program_features(tree: Tree, types: Sequence[str] | None = None) -> list[str]:
    """What the guide counts: blocks, literals, and that an input or a literal stood somewhere."""
    found = []
    for name in blocks(tree):
        found.append(name)
    kinds = {int: "int", str: "str", bool: "bool"}
    found += _leaf_kinds(tree, None, kinds)
    return found


def _leaf_kinds(tree: Tree, wanted: str | None, kinds: dict[type, str]) -> list[str]:
    if not isinstance(tree, tuple):
        return [f"literal:{kinds[type(tree)]}"]
    if len(tree) == 1:
        return [f"input:{wanted}"] if wanted else []
    found = []
    for part, kind in zip(tree[1:], BLOCKS[tree[0]].takes, strict=True):
        found += _leaf_kinds(part, kind, kinds)
    return found


class Functions:
    """Programs of the language from examples."""

    kind = "function"
    verifier = "examples"
    stop = "\n"

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["examples"], self.kind)
        pairs = []
        for example in field(content, "examples", self.kind, list):
            if not isinstance(example, Mapping) or set(example) != {"in", "out"}:
                raise DataError('an example is {"in": [arguments], "out": result}.')
            if not isinstance(example["in"], list):
                raise DataError("'in' is the list of arguments.")
            pairs.append((example["in"], example["out"]))
        examples = read_examples(pairs)
        form = canonical_json({"examples": list(content["examples"])})
        family = ",".join(examples.types) + ">" + examples.gives
        return Known(self.kind, form, family, examples)

    def verify(self, task: Known, value: str) -> Verdict:
        examples: Examples = task.parsed
        try:
            right = solves(parse(value), examples)
        except DataError as error:
            return Verdict(False, str(error))
        count = len(examples.outputs)
        return Verdict(right, f"{count} of {count} examples" if right else "an example fails")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        for tree in near_programs(task.parsed, values):
            yield None if tree is None else show(tree)

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> FunctionSearch:
        return start_search(task.parsed, guide, saved)

    def features(self, value: str) -> Iterable[str]:
        return program_features(parse(value))

    def prompt(self, task: Known, value: str | None = None) -> str:
        shown = "; ".join(
            f"{', '.join(map(repr, given))} -> {out!r}"
            for given, out in zip(
                zip(*task.parsed.inputs, strict=True), task.parsed.outputs, strict=True
            )
        )
        return f"function {shown} is{'' if value is None else ' ' + value}"

    def extract(self, task: Known, text: str) -> str:
        return first_line(text)

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {"python": function(parse(value), len(task.parsed.inputs))}
