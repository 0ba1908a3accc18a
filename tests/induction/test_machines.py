"""Machines: what is published and what is certain, natively and by definition."""

import math

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.induction import levin, machine, turing
from solomonic.induction.bracket import Bracket
from solomonic.induction.solomonoff import Solomonoff

CORES = [False, pytest.param(True, marks=needs_core)]
TARGET = bytes([0, 1] * 4)


@pytest.mark.parametrize("core", CORES)
def test_small_turing_machines_that_halt(core: bool) -> None:
    """Numbers of the literature, and none of them halts later than the busy beavers."""
    assert turing.distribution(1, native=core).halting == 12
    two = turing.distribution(2, native=core)
    assert (two.halting, two.machines) == (3044, 10_000)
    assert sum(two.counts.values()) == 2 * two.halting
    assert turing.distribution(2, limit=5, native=core).halting < 3044
    three = turing.distribution(3, native=core)
    assert (three.halting, three.machines) == (2_147_184, 7_529_536)
    for text, count in three.counts.items():
        assert three.counts[text[::-1]] == count
        assert three.counts[text.translate(str.maketrans("01", "10"))] == count
    assert three.complexity("0") < three.complexity("01") < three.complexity("0110")
    assert math.isinf(three.complexity("0" * 30))


@needs_core
def test_the_machines_of_four_states() -> None:
    four = turing.distribution(4)
    assert (four.halting, four.machines) == (2_985_384_480, 11_019_960_576)
    assert sum(four.counts.values()) == 5_970_768_960
    assert all(format(i, f"0{n}b") in four.counts for n in range(1, 9) for i in range(1 << n))


@needs_core
def test_both_count_the_same_outputs() -> None:
    for states in (1, 2):
        assert turing.distribution(states, native=True) == turing.distribution(states, native=False)


@needs_core
@pytest.mark.parametrize(("alphabet", "cells"), [(2, 10), (9, 10), (3, 1)])
def test_the_native_machine_is_the_definition(alphabet: int, cells: int) -> None:
    one, other = (
        machine.sample(400, 9, alphabet=alphabet, cells=cells, steps=150, seed=5, native=core)
        for core in (True, False)
    )
    assert (one.outputs == other.outputs).all()
    for name in ("printed", "steps", "instructions"):
        assert (getattr(one, name) == getattr(other, name)).all()
    target = bytes([0, 1 % alphabet, 0])
    options = {"alphabet": alphabet, "cells": cells, "steps": 150}
    assert (
        machine.estimate(target, 400, native=True, **options)
        == machine.estimate(target, 400, native=False, **options)
    ).all()


PROGRAMS = {
    "+.": [1],
    "+[.]": [1] * 6,  # the loop is entered at once
    "[+.].": [1, 1],  # '[' on 0 goes on behind its body; ']' has nothing to close
    "+[.+].": [1, 0],  # leaves the loop on 0; what comes next is its continuation
    ">+<[.]+.": [0, 1],
}


@pytest.mark.parametrize("text", PROGRAMS)
def test_programs_by_hand(text: str) -> None:
    program = machine.Program(2, 4)
    waiting = list(text)
    while len(program.output) < len(PROGRAMS[text]) and program.steps < 100:
        if program.waits:
            if not waiting:
                break
            program.draw(waiting.pop(0))
        else:
            program.step()
    assert program.output == PROGRAMS[text]


def test_a_body_that_was_passed_over_is_drawn_later() -> None:
    """+[>[+<]: the inner '[' is met on 0, and on 1 when the loop comes round."""
    program = machine.Program(2, 4)
    for instruction in "+[>[+<]":
        assert program.waits
        program.draw(instruction)
        while not program.waits and program.steps < 100:
            program.step()
    assert program.code[3] == "{"
    assert program.to[3] == len(program.code)  # its body comes next
    assert program.open == [3]


@needs_core
@pytest.mark.parametrize(
    ("alphabet", "cells", "target"), [(2, 10, TARGET), (2, 2, TARGET), (3, 5, bytes([0, 1, 2, 0]))]
)
def test_the_native_bracket_is_the_definition(alphabet: int, cells: int, target: bytes) -> None:
    one, other = (
        Bracket(target, alphabet=alphabet, cells=cells, native=core) for core in (True, False)
    )
    for count in (1, 50, 1500):
        assert one.work(count) == other.work(count)
        assert (one.low == other.low).all()
        assert (one.pending == other.pending).all()
        assert (one.states, one.opened) == (other.states, other.opened)


@needs_core
def test_the_bracket_closes_around_the_truth() -> None:
    """At most 0.08 open after 120,000 states (about a quarter of a second), and the Monte-Carlo
    estimate within it at every length; the bracket only ever narrows."""
    bracket = Bracket(TARGET)
    low, high = bracket.low, bracket.high
    for _ in range(6):
        bracket.work(20_000)
        assert (bracket.low >= low).all()
        assert (bracket.high <= high + 1e-15).all()
        low, high = bracket.low, bracket.high
    assert bracket.pending[-1] <= 0.08
    programs = 400_000
    found = machine.estimate(TARGET, programs, steps=2000)
    error = 4 * np.sqrt(found * (1 - found) / programs)
    assert (low <= found + error).all()
    assert (found - error <= high).all()


@pytest.mark.parametrize("core", CORES)
def test_all_symbols_together_are_no_more_than_what_came_before(core: bool) -> None:
    """M(x) >= sum over b of M(x b), so lower bounds and estimates keep to it."""
    total = 0.0
    for symbol in (0, 1):
        bracket = Bracket(bytes([0, symbol]), cells=4, native=core)
        bracket.work(800)
        total += bracket.low[2]
        assert bracket.high[1] >= bracket.low[2]
    assert total <= bracket.high[1]


def test_nothing_to_predict_is_certain() -> None:
    bracket = Bracket(b"", native=False)
    assert bracket.work(10) == 0
    assert bracket.low.tolist() == [1.0]
    assert bracket.pending.tolist() == [0.0]


@needs_core
def test_the_universal_predictor_sees_the_pattern() -> None:
    predictor = Solomonoff(2, opened=5000)
    for symbol in (0, 1, 0, 1, 0, 1, 0):
        predictor.update(symbol)
    least, most = predictor.bounds()
    found = predictor.predict()
    assert (least <= found).all() and (found <= most).all()
    low, _ = predictor.brackets()
    assert low[1] > 2 * low[0]  # programs found so far that go on 1 outweigh those that go on 0


def test_levin_search_finds_the_shortest_loop() -> None:
    found = levin.search(bytes([1, 1, 1, 1]), phases=20, cells=4)
    assert found is not None
    assert found.program in ("+[.", "-[.", "+[.]", "-[.]")
    assert found.phase >= math.log2(7) * len(found.program)
    assert found.searched <= 2 ** (found.phase + 1)
    assert levin.search(bytes([1, 0, 0, 1, 0, 1]), phases=5) is None


def test_impossible_machines_are_refused() -> None:
    with pytest.raises(ConfigError, match="alphabet"):
        machine.sample(1, 1, alphabet=1)
    with pytest.raises(ConfigError, match="cells = 65"):
        Bracket(TARGET, cells=65)
    with pytest.raises(ConfigError, match="outside the alphabet"):
        Bracket(b"\2")
    with pytest.raises(ConfigError, match="states = 6"):
        turing.distribution(6)
