"""The searches: programs mean the same to the search as to the verifier, and saves go on."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from solomonic.core import CheckpointError, DataError
from solomonic.evals.traps import sequence_terms
from solomonic.memory.solver.domains.functions import Functions, read_examples, run_tree, solves
from solomonic.memory.solver.function_blocks import BLOCKS, TYPES, function, tree_type
from solomonic.memory.solver.function_search import FunctionSearch
from solomonic.memory.solver.grammar import Grammar
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.programs import parse, show, size
from solomonic.memory.solver.sequence_bank import TERMS, SequenceBank, apply
from solomonic.memory.solver.sequence_terms import BINARY, UNARY, Undefined, run
from solomonic.memory.solver.sequence_terms import BLOCKS as SEQUENCE_BLOCKS

EVEN = Guide().costs(SEQUENCE_BLOCKS)


def grown(candidates: int, capacity: int = 100_000) -> SequenceBank:
    bank = SequenceBank(EVEN, capacity)
    while bank.candidates < candidates:
        bank.advance()
    return bank


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_numpy_blocks_equal_their_definition(name: str) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-9, 10, (2, 200, TERMS)) * rng.choice([1, 1, 10**6], (2, 200, 1))
    out, good = apply(name, rows[0], rows[1])
    assert good.any()
    for index in range(200):
        leaves = {"a": rows[0, index], "b": rows[1, index]}
        tree = (name, "a") if name in UNARY else (name, "a", "b")
        wanted = defined(tree, leaves)
        inside = wanted is not None and max(map(abs, wanted)) <= 1 << 45
        assert bool(good[index]) == inside
        if inside:
            assert out[index].tolist() == wanted


def defined(tree: tuple[str, ...], leaves: dict[str, np.ndarray]) -> list[int] | None:
    """The block on given rows, by the definition: rows become programs of the differences."""
    programs = []
    for name in tree[1:]:
        program: object = 0
        before = 0
        for place, term in enumerate(leaves[name].tolist()):
            step: object = 1  # 1 at `place` and after, 0 before
            pulse: object = ("diff", 1)  # 1, 0, 0, ...
            for _ in range(place):
                pulse = ("shift", pulse)
            step = ("sum", pulse)
            program = ("add", program, ("mul", term - before, step))
            before = term
        programs.append(program)
    try:
        return run((tree[0], *programs), TERMS)
    except Undefined:
        return None


def test_the_bank_holds_each_sequence_once_and_its_program_gives_it() -> None:
    bank = grown(20_000)
    assert len({row.tobytes() for row in bank.values}) == bank.rows
    for row in random.Random(2).sample(range(bank.rows), 200):
        tree = bank.tree(row)
        assert run(tree, TERMS) == bank.values[row].tolist()
        # A third reading, that shares nothing with the others.
        assert sequence_terms(show(tree), 6) == bank.values[row, :6].tolist()


def test_the_bank_knows_textbook_sequences() -> None:
    bank = grown(30_000)
    for terms in (
        [0, 1, 3, 6, 10, 15],
        [1, 1, 2, 3, 5, 8, 13],
        [1, 1, 2, 6, 24, 120],
        [0, 1, 8, 27],
    ):
        assert len(bank.find(np.array(terms, object))), terms
    assert not len(bank.find(np.array([2, 3, 5, 7, 11, 13, 17, 19, 23], object)))


def test_a_saved_bank_goes_on_as_if_it_had_not_stopped() -> None:
    whole = grown(20_000)
    part = SequenceBank.load(grown(6_000).save(), 100_000)
    while part.candidates < whole.candidates:
        part.advance()
    assert part.candidates == whole.candidates
    assert (part.values == whole.values).all()


def test_damaged_banks_are_refused() -> None:
    data = grown(500).save()
    for broken in (
        b"",
        data[: len(data) // 2],
        data[:-4],
        b"{}\n",
        data.replace(b'"terms": 12', b'"terms": 11'),
    ):
        with pytest.raises(CheckpointError):
            SequenceBank.load(broken)


EXAMPLES = read_examples(
    [
        (["ada lovelace", 2, [3, -1, 2], ["7", "12"]], "x"),
        (["Grace Hopper ", 1, [5, 5], ["3"]], "y"),
    ]
)


def random_tree(rng: random.Random, kind: str, depth: int) -> object:
    leaves: list[object] = [(f"x{i}",) for i, own in enumerate(EXAMPLES.types) if own == kind]
    if kind == "int":
        leaves.append(rng.randint(-2, 3))
    if kind == "bool":
        leaves.append(rng.random() < 0.5)
    if kind == "str":
        leaves.append(rng.choice([" ", "a"]))
    makers = [block for block in BLOCKS.values() if block.gives == kind]
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(leaves)
    block = rng.choice(makers)
    return (block.name, *(random_tree(rng, own, depth - 1) for own in block.takes))


def test_every_function_program_does_what_its_python_does() -> None:
    rng, used, ran = random.Random(7), Counter(), 0
    for index in range(3000):
        kind = TYPES[index % len(TYPES)]
        tree = random_tree(rng, kind, 3)
        found = run_tree(tree, EXAMPLES)
        if found is None:
            continue
        ran += 1
        used.update(part for part in show(tree).replace("(", " ").split())
        assert parse(show(tree)) == tree
        assert tree_type(tree, EXAMPLES.types) == kind
        space: dict[str, object] = {}
        exec(function(tree, 4), space)
        for example, value in enumerate(found):
            arguments = [column[example] for column in EXAMPLES.inputs]
            before = repr(arguments)
            assert repr(space["f"](*arguments)) == repr(value)  # type: ignore[operator]
            assert repr(arguments) == before  # nothing is changed in place
    assert ran > 1000
    assert all(name in used for name in BLOCKS), [n for n in BLOCKS if n not in used]


def found_by(search: FunctionSearch, most: int = 200_000) -> str | None:
    while search.candidates < most and not search.finished:
        value = next(iter(search.advance(most, 10.0)), None)
        if value is not None:
            return value
    return None


TASKS = {
    "total(map_square(x0))": [([[1, 2, 3]], 14), ([[2]], 4), ([[5, 1]], 26)],
    "initials": [(["ada lovelace"], "AL"), (["grace hopper"], "GH")],
    "top": [([[3, 1, 2], 2], [3, 2]), ([[5, 9, 1, 7], 3], [9, 7, 5])],
    "even": [([3], False), ([4], True), ([0], True)],
}


@pytest.mark.parametrize("name", TASKS)
def test_functions_are_found_and_a_stopped_search_goes_on(name: str) -> None:
    domain = Functions()
    record = [{"in": given, "out": out} for given, out in TASKS[name]]
    task = domain.read({"examples": record})
    whole = domain.search(task, Guide(), None)
    value = found_by(whole)
    assert value is not None and domain.verify(task, value).accepted
    # The same in pieces, through bytes: the same program after as many candidates.
    part, found = domain.search(task, Guide(), None), None
    for _ in range(100):
        found = next(iter(part.advance(whole.candidates // 7 + 1, 60.0)), None)
        if found is not None:
            break
        part = domain.search(task, Guide(), part.save())
    assert found == value
    assert part.candidates == whole.candidates


def test_a_saved_search_that_is_damaged_is_refused() -> None:
    domain = Functions()
    task = domain.read({"examples": [{"in": [1], "out": 7}, {"in": [2], "out": 40}]})
    search = domain.search(task, Guide(), None)
    list(islice(search.advance(500, 1.0), 1))
    data = search.save()
    for broken in (b"", data[:-20], b"{}", data.replace(b'"made":[["",', b'"made":[["nothing",')):
        with pytest.raises(CheckpointError):
            domain.search(task, Guide(), broken)


def test_types_count_in_examples() -> None:
    examples = read_examples([([1], True), ([2], False)])
    assert solves(("equal", ("x0",), 1), examples)
    assert not solves(("sub", 2, ("x0",)), examples)  # gives 1 and 0
    with pytest.raises(DataError, match="one type"):
        read_examples([([1], 1), (["a"], 1)])


def test_what_solved_tasks_are_made_of_becomes_cheaper() -> None:
    guide = Guide()
    names = list(BLOCKS)
    before = guide.costs(names)
    guide.bump(["join"] * 5 + ["words"] * 5)
    after = guide.costs(names)
    assert after["join"] < before["join"] and after["words"] < before["words"]
    assert sum(guide.probability(name, names) for name in names) == pytest.approx(1)


GRAMMARS = {
    "brackets": 'S -> "(" S ")" S | ""',
    "sums": 'E -> E "+" T | T\nT -> T "*" F | F\nF -> "(" E ")" | "a"',
    "empty parts": "S -> A B\nA -> 'a' A | ''\nB -> 'b' | A",
    "english": 'S -> NP " " V | V\nNP -> "the " N\nN -> "cat" | "dog"\nV -> "runs"',
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_makes_and_recognises_the_same_words(name: str) -> None:
    """All words up to a length, made by rewriting; every other text over the letters is none."""
    grammar = Grammar.read(GRAMMARS[name])
    made = set(grammar.words(5 if name != "english" else 12))
    letters = sorted(
        {s.name for rules in grammar.rules.values() for r in rules for s in r if s.terminal}
    )
    texts = {""}
    for _ in range(5 if name != "english" else 4):
        texts |= {text + letter for text in texts for letter in letters}
    most = 5 if name != "english" else 12
    accepted = {text for text in texts if len(text) <= most and grammar.accepts(text)}
    assert accepted == {word for word in made if word in texts}
    assert made <= texts and len(made) >= 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no rules"),
        ("S = a", "no rule"),
        ("S -> A", "'A' .* has no rule"),
        ("S -> S 'a'", "never end"),
        ("S -> 'a", "no symbol"),
    ],
)
def test_bad_grammars_are_refused(text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        Grammar.read(text)


def test_programs_are_read_and_never_run() -> None:
    assert parse("add(n, mul(-2, n))") == ("add", ("n",), ("mul", -2, ("n",)))
    assert size(parse("add(n, mul(-2, n))")) == 5
    for text in ("", "1 + 1", "f.g(1)", "f(x=1)", "[1]", "lambda: 1", "f(*a)", "(" * 500, "1.5"):
        with pytest.raises(DataError, match="no program"):
            parse(text)
