"""Python functions by tests: {"kind": "python", "name": "f", "tests": "assert f(2) == 4"}.

The value is source text. It runs in the sandbox. Tests of the form `assert f(literals) == literal`
are run as calls whose results come back, and are compared here: the expected values never enter
the sandbox, so the code cannot pass by looking at them or by pretending. Other statements run in
there, and the result is believed if the last line was reached: good against mistakes, not against
malice.

Without a proposer, tests of the first form are examples, and the search is that of functions.
"""

import ast
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from solomonic.core import DataError
from solomonic.memory.solver.domains.functions import (
    Examples,
    near_programs,
    program_features,
    read_examples,
    start_search,
)
from solomonic.memory.solver.domains.shared import field, only
from solomonic.memory.solver.function_blocks import BLOCKS, function
from solomonic.memory.solver.function_search import FunctionSearch
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.programs import Tree, parse
from solomonic.memory.solver.sandbox import SandboxConfig, run_python
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_SOURCE = 50_000
_MARK = "# solomonic: "
"""Ends a solution that was found as a program of the function language: the program follows."""
_HARNESS = """
import json, os, sys
given = json.loads(sys.stdin.read())
def plain(value, depth=0):
    kind = type(value)
    if kind in (int, float, complex, bool, str, bytes, type(None)):
        return True
    if depth > 50:
        return False
    if kind in (list, tuple, set, frozenset):
        return all(plain(part, depth + 1) for part in value)
    return kind is dict and all(plain(part, depth + 1) for pair in value.items() for part in pair)
space = {"__name__": "solution"}
exec(compile(given["source"], "solution.py", "exec"), space)
results = []
for text in given["calls"]:
    value = eval(compile(text, "test.py", "eval"), space)
    results.append(repr(value) if plain(value) else None)
if given["rest"]:
    exec(compile(given["rest"], "test.py", "exec"), space)
os.write(int(os.environ["RESULT"]), json.dumps([given["nonce"], results]).encode())
"""


class Tests(NamedTuple):
    """The tests of a task: calls with what they must give, and the other statements."""

    name: str
    prompt: str
    calls: list[str]
    expected: list[Any]
    rest: str
    examples: Examples | None


class PythonTests:
    """Source that passes tests."""

    kind = "python"
    verifier = "Python tests"
    stop = "\n\n\n"

    def __init__(self, sandbox: SandboxConfig | None = None) -> None:
        self.sandbox = sandbox or SandboxConfig()

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["name", "tests", "prompt"], self.kind)
        name = field(content, "name", self.kind, str)
        if not name.isidentifier():
            raise DataError(f"'{name[:40]}' is no name of a Python function.")
        text = field(content, "tests", self.kind, str)
        prompt = content.get("prompt", "")
        if not isinstance(prompt, str):
            raise DataError("'prompt' is text.")
        tests = _read_tests(name, text, prompt)
        form = canonical_json({"name": name, "tests": text, "prompt": prompt})
        types = tests.examples.types if tests.examples else []
        return Known(self.kind, form, ",".join(types), tests)

    def verify(self, task: Known, value: str) -> Verdict:
        tests: Tests = task.parsed
        if len(value) > _SOURCE:
            return Verdict(False, f"longer than {_SOURCE:,} characters")
        nonce = secrets.token_hex(16)
        given = {"source": value, "calls": tests.calls, "rest": tests.rest, "nonce": nonce}
        ran = run_python(_HARNESS, json.dumps(given).encode(), self.sandbox)
        if ran.status != 0 or ran.timed_out:
            return Verdict(False, ran.explain())
        try:
            said, results = json.loads(ran.result)
            if said != nonce or len(results) != len(tests.calls):
                raise ValueError
        except ValueError:
            return Verdict(False, "it ended before the tests did")
        for call, text, wanted in zip(tests.calls, results, tests.expected, strict=True):
            if text is None or not _equal(text, wanted):
                return Verdict(False, f"{call} is not {wanted!r}"[:200])
        count = len(tests.calls) + bool(tests.rest)
        return Verdict(True, f"{count} test{'s' * (count != 1)} passed")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        """Stored sources with the function's name changed, then programs with a literal changed."""
        tests: Tests = task.parsed
        for value in values:
            renamed = _renamed(value, tests.name)
            if renamed is not None:
                yield renamed
        if tests.examples is not None:
            programs = [text for value in values if (text := _program(value)) is not None]
            for tree in near_programs(tests.examples, programs):
                yield None if tree is None else _source(tree, tests)

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> "SourceSearch | None":
        tests: Tests = task.parsed
        if tests.examples is None:
            return None
        return SourceSearch(start_search(tests.examples, guide, saved), tests)

    def features(self, value: str) -> Iterable[str]:
        text = _program(value)
        return program_features(parse(text)) if text is not None else ()

    def prompt(self, task: Known, value: str | None = None) -> str:
        tests: Tests = task.parsed
        lines = [f"# {line}" for line in tests.prompt.splitlines()]
        lines += [f"# {call} == {out!r}" for call, out in zip(tests.calls, tests.expected)]  # noqa: B905
        return "\n".join([*lines, f"def {tests.name}(" if value is None else value])

    def extract(self, task: Known, text: str) -> str:
        """The function: what was written up to the first line that is neither indented nor
        empty."""
        lines = f"def {task.parsed.name}({text}".split("\n")
        kept = lines[:1]
        for line in lines[1:]:
            if line.strip() and not line.startswith((" ", "\t")):
                break
            kept.append(line)
        source = "\n".join(kept).rstrip() + "\n"
        try:
            ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ""
        return source

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        return {}


class SourceSearch:
    """The search of functions, with each program as source."""

    def __init__(self, inner: FunctionSearch, tests: Tests) -> None:
        self.inner = inner
        self.tests = tests

    @property
    def candidates(self) -> int:
        return self.inner.candidates

    @property
    def finished(self) -> bool:
        return self.inner.finished

    def advance(self, most: int, seconds: float) -> Iterator[str]:
        for text in self.inner.advance(most, seconds):
            yield _source(parse(text), self.tests)

    def save(self) -> bytes:
        return self.inner.save()


def _source(tree: Tree, tests: Tests) -> str:
    from solomonic.memory.solver.programs import show

    assert tests.examples is not None
    return function(tree, len(tests.examples.inputs), tests.name) + f"{_MARK}{show(tree)}\n"


def _program(value: str) -> str | None:
    """The program that a source was made from."""
    last = value.rstrip("\n").rsplit("\n", 1)[-1]
    text = last.removeprefix(_MARK)
    if text == last:
        return None
    try:
        parse(text, {*BLOCKS, "x0", "x1", "x2", "x3"})
    except DataError:
        return None
    return text


def _renamed(value: str, name: str) -> str | None:
    """The source with its last function called `name`, wherever it is called by its own."""
    try:
        tree = ast.parse(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if not defined:
        return None
    if defined[-1] == name:
        return value
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == defined[-1]:
            node.name = name
        elif isinstance(node, ast.Name) and node.id == defined[-1]:
            node.id = name
    program = _program(value)
    return ast.unparse(tree) + "\n" + (f"{_MARK}{program}\n" if program else "")


def _read_tests(name: str, text: str, prompt: str) -> Tests:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DataError("'tests' is no Python; write lines as assert f(2) == 4.") from None
    if not tree.body:
        raise DataError("'tests' is empty: nothing would be verified.")
    calls, expected, rest, pairs = [], [], [], []
    for node in tree.body:
        literal = _literal_test(node, name)
        if literal is None:
            rest.append(ast.unparse(node))
            continue
        call, arguments, value = literal
        calls.append(call)
        expected.append(value)
        pairs.append((arguments, value))
    if not calls and not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise DataError("'tests' has no assert: nothing would be verified.")
    examples = None
    if pairs and not rest and all(arguments is not None for arguments, _ in pairs):
        try:
            examples = read_examples(pairs)
        except DataError:
            examples = None  # values outside the language: only a proposer can help
    return Tests(name, prompt, calls, expected, "\n".join(rest), examples)


def _literal_test(node: ast.stmt, name: str) -> tuple[str, list[Any] | None, Any] | None:
    """`assert name(...) == literal`: the call, its arguments where they are literals, the value."""
    match node:
        case ast.Assert(
            test=ast.Compare(
                left=ast.Call(func=ast.Name(id=found), args=args, keywords=keywords) as call,
                ops=[ast.Eq()],
                comparators=[right],
            )
        ) if found == name:
            try:
                value = ast.literal_eval(right)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                return None
            try:
                arguments = None if keywords else [ast.literal_eval(arg) for arg in args]
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                arguments = None
            return ast.unparse(call), arguments, value
        case _:
            return None


def _equal(text: str, wanted: Any) -> bool:
    try:
        return bool(ast.literal_eval(text) == wanted)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False  # inf and nan have no literal
