"""Arithmetic by the own parser: exact values, units, and what it refuses."""

import random
from fractions import Fraction

import pytest

from solomonic.memory.claims.units import UNITS, parse_unit
from solomonic.memory.solver.arithmetic import (
    ArithmeticProblem,
    Quantity,
    canonical,
    evaluate,
    parse_value,
    skeleton,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+1", "2"),
        ("1 + 2 * 3", "7"),
        ("-2^2", "-4"),
        ("2^-1", "1/2"),
        ("2^3^2", "512"),
        ("1 - - 2", "3"),
        ("8 - 3 - 2", "3"),
        ("8 / 4 / 2", "1"),
        ("7 mod 4 + 7 // 4", "4"),
        ("1/3 + 1/6", "1/2"),
        ("0.1 + 0.2", "3/10"),
        ("5! / 3!", "20"),
        ("50% * 8", "4"),
        ("max(3,400) + min(2, 1/2)", "801/2"),
        ("1,000 + 1", "1001"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("sqrt(9/4) + abs(-1) + floor(-1/2) + ceil(1/2)", "5/2"),
        ("2 × 3 ÷ 4 − 1", "1/2"),
        ("what", None),
        ("1 plus 1 ?", "2"),
        ("3 km + 20 m in m", "3020 m"),
        ("60 km/h * 30 min in km", "30 km"),
        ("6 km / 2 h in km/h", "3 km/h"),
        ("3 m^2 + 1 m * 2 m", "5 m^2"),
        ("10 °C in K", "5663/20 K"),
        ("212 °F in °C", "100 °C"),
        ("2 GiB in MiB", "2048 MiB"),
        ("1 mi in m", "201168/125 m"),
        ("1/3 + 1/6 = 1/2", "True"),
        ("not 3 km < 3000 m and 1 != 2", "True"),
        ("1 = 2 or 2 >= 2", "True"),
    ],
)
def test_values(text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ArithmeticProblem):
            evaluate(text)
        return
    found = evaluate(text)
    assert str(found) == value
    again = parse_value(value.lower() if isinstance(found, bool) else value)
    if isinstance(found, Quantity) and isinstance(again, Quantity):
        assert found.same(again)
    else:
        assert found == again


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / (2 - 2)", "division by zero"),
        ("0 ^ -1", "division by zero"),
        ("5 kg + 3 m", "different dimensions"),
        ("3 km in s", "cannot be told in"),
        ("3 km in parsecs", "no unit"),
        ("2 ^ 0.5", "not exact"),
        ("sqrt(2)", "not rational"),
        ("9^9^9^9", "bits"),
        ("1501!", "factorials"),
        ("1e99999", "too large"),
        ("(" * 100 + "1" + ")" * 100, "nested"),
        ("-" * 100 + "1", "nested"),
        ("1 +", "ends too early"),
        ("(1 + 2", "is missing"),
        ("1 2", "not expected"),
        ("__import__('os')", "cannot stand"),
        ("1 and 2", "statements"),
        ("not 1", "statements"),
        ("(1 = 1) + 1", "no number"),
        ("1" * 5000, "longer"),
        ("", "ends too early"),
    ],
)
def test_refusals(text: str, why: str) -> None:
    with pytest.raises(ArithmeticProblem, match=why):
        evaluate(text)


@pytest.mark.parametrize("text", ["1 + 1", "2 ^ 3", "(2)", "two", "", "2 parsecs", "2/0", "--2"])
def test_answers_are_values_and_no_expressions(text: str) -> None:
    with pytest.raises(ArithmeticProblem):
        parse_value(text)


def test_random_sums_and_products_equal_fractions() -> None:
    rng = random.Random(5)

    def make(depth: int) -> tuple[str, Fraction]:
        if depth == 0:
            number = Fraction(rng.randint(0, 40), rng.choice([1, 1, 2, 5]))
            return (str(float(number)) if number.denominator > 1 else str(number)), number
        (a, x), (b, y) = make(depth - 1), make(rng.randint(0, depth - 1))
        sign = rng.choice("+-*/" if y else "+-*")
        value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else x}[sign]
        return f"({a}) {sign} ({b})", value

    for _ in range(300):
        text, value = make(rng.randint(0, 4))
        assert evaluate(text) == Quantity(value)


def test_spellings_share_a_form_and_others_do_not() -> None:
    assert canonical("1+1") == canonical(" 1 + 1 ?") == canonical("1 plus 1")
    assert len({canonical(t) for t in ("1+1", "1+2", "11", "1-1", "-1+1", "1+1 m")}) == 6
    assert skeleton("1+1") == skeleton("23 + 4") != skeleton("1-1")


def test_units_are_read_back() -> None:
    for name in UNITS:
        assert parse_unit(name) == UNITS[name]
    assert parse_unit("kg*m/s^2").factor == 1
    assert parse_unit("km/h").factor == Fraction(5, 18)
