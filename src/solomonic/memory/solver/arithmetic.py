"""Arithmetic with exact rationals, units and comparisons, by a parser of its own (never `eval`).

    sentence   := disjunction [("in" | "to") sum] ["?"]        3 km + 20 m in m
    disjunction, conjunction, negation: or, and, not
    comparison := sum [("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") sum]
    sum, product, power: + - * / // mod ^ (and × ÷ − ·), unary minus below ^, factorial, percent
    atom       := number unit* | "(" ... ")" | name "(" ... ")"

A number followed by a unit is one factor: 6 km / 2 h is a speed. Values are `Fraction`s in base
units: no rounding anywhere. Bounds on length, depth and bits keep every evaluation short.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from fractions import Fraction

from solomonic.core import DataError
from solomonic.memory.claims.units import (
    NO_DIMENSION,
    UNITS,
    Dimension,
    Unit,
    combine,
    parse_unit,
    raised,
)

MAX_CHARACTERS = 4000
MAX_DEPTH = 60
MAX_BITS = 20_000
"""Of a numerator or a denominator, at any step."""


class ArithmeticProblem(DataError):
    """The text is no expression, has no value, or is too large to be evaluated."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A number in base units of its dimension, and the unit it is to be shown in ("" = none)."""

    value: Fraction
    dimension: Dimension = NO_DIMENSION
    unit: str = ""

    def same(self, other: "Quantity") -> bool:
        """Equal as values: 3 km and 3000 m are."""
        return self.value == other.value and self.dimension == other.dimension

    def __str__(self) -> str:
        if self.unit:
            unit = parse_unit(self.unit)
            return f"{(self.value - unit.offset) / unit.factor} {self.unit}"
        if not self.dimension:
            return str(self.value)
        over = "*".join(f"{b}^{p}" if p != 1 else b for b, p in self.dimension)
        return f"{self.value} {over}"


Value = Quantity | bool
_TOKEN = re.compile(
    r"\s*(?:(?P<grouped>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?)"
    r"|(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-zµ°]+)|(?P<sign>//|==|!=|<=|>=|≠|≤|≥|[-+*/^()=<>,!%?×÷−·]))"
)
_PLAIN = re.compile(r"\s*(?P<grouped>(?!))?(?P<number>\d+(?:\.\d+)?)(?P<name>(?!))?(?P<sign>(?!))?")
_SAME = {"×": "*", "·": "*", "÷": "/", "−": "-", "≠": "!=", "≤": "<=", "≥": ">=", "==": "="}
_WORDS = {"plus": "+", "minus": "-", "times": "*", "equals": "=", "modulo": "mod"}
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS = ("abs", "min", "max", "gcd", "lcm", "floor", "ceil", "sqrt")


def tokens_of(text: str) -> list[str]:
    """The tokens, spelled one way: what two writings of one expression share.

    Raises:
        ArithmeticProblem: it is too long, or has a character that belongs to no token.
    """
    if len(text) > MAX_CHARACTERS:
        raise ArithmeticProblem(f"the expression is longer than {MAX_CHARACTERS} characters.")
    found: list[str] = []
    calls: list[bool] = []  # of the open brackets, which belong to a function
    place, text = 0, text.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match and match["grouped"] and any(calls):
            match = _PLAIN.match(text, place)  # max(3,400) has two arguments
        if match is None or match.end() == place:
            raise ArithmeticProblem(f"'{text[place:][:12]}' cannot stand in an expression.")
        word = match["number"] or match["name"] or match["sign"] or match["grouped"]
        if word[0].isdigit() or (word[0] == "." and len(word) > 1):
            found.append(_number(word))
        else:
            found.append(_WORDS.get(word, _SAME.get(word, word)))
        if word == "(":
            calls.append(len(found) > 1 and found[-2] in _FUNCTIONS)
        elif word == ")" and calls:
            calls.pop()
        place = match.end()
    while found and found[-1] == "?":
        found.pop()
    return found


def canonical(text: str) -> str:
    """One spelling for all that differ in spaces and signs' shapes only: '1+1', ' 1 + 1 ?'."""
    return " ".join(tokens_of(text))


def skeleton(text: str) -> str:
    """The expression with its numbers hidden: what near-duplicates have in common."""
    return " ".join("#" if token[0].isdigit() else token for token in tokens_of(text))


def evaluate(text: str) -> Value:
    """The exact value of an expression: a quantity, or whether a statement holds.

    Raises:
        ArithmeticProblem: it is malformed, mixes units, divides by zero, or is too large.
    """
    return _Parser(tokens_of(text)).sentence()


def parse_value(text: str) -> Value:
    """An answer: a number with its unit, or true / false. Expressions are no answers.

    Raises:
        ArithmeticProblem: it is no plain value.
    """
    tokens = tokens_of(text)
    if tokens in (["true"], ["false"]):
        return tokens == ["true"]
    match = re.fullmatch(r"(-)? ?(\S+)(?: / (\d+))?(?: ([^\d].*))?", " ".join(tokens))
    try:
        if match is None:
            raise ValueError
        number = Fraction(match[2]) / Fraction(match[3] or 1) * (-1 if match[1] else 1)
        unit_text = (match[4] or "").replace(" ", "")
        unit = parse_unit(unit_text)
    except (ValueError, ZeroDivisionError, DataError):
        raise ArithmeticProblem(f"'{text[:40]}' is no number, with or without a unit.") from None
    return Quantity(number * unit.factor + unit.offset, unit.dimension, unit_text)


def _number(text: str) -> str:
    """'1,000.50' -> '1000.50', '1E+3' -> '1e3'."""
    whole, _, power = text.lower().partition("e")
    if power and abs(int(power)) > MAX_BITS // 4:
        raise ArithmeticProblem(f"'{text}' is too large to be evaluated.")
    whole = whole.replace(",", "").replace("_", "").rstrip(".")
    return ("0" + whole if whole.startswith(".") else whole) + (f"e{int(power)}" if power else "")


class _Parser:
    """Recursive descent that evaluates as it reads."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0

    def sentence(self) -> Value:
        value = self.disjunction()
        if self.take("in", "to"):
            begin = self.place
            unit = self.unit_text()
            if isinstance(value, bool):
                raise ArithmeticProblem("a statement that holds or not has no unit.")
            target = self.parsed_unit(unit, begin)
            if target.dimension != value.dimension:
                raise ArithmeticProblem(f"the value cannot be told in '{unit}'.")
            value = Quantity(value.value, value.dimension, unit)
        if self.place < len(self.tokens):
            raise ArithmeticProblem(f"'{self.tokens[self.place]}' was not expected there.")
        return value

    def unit_text(self) -> str:
        rest = self.tokens[self.place :]
        self.place = len(self.tokens)
        return "".join(rest)

    def parsed_unit(self, text: str, begin: int) -> Unit:
        if not self.tokens[begin:]:
            raise ArithmeticProblem("after 'in' a unit is missing.")
        try:
            return parse_unit(text)
        except DataError as error:
            raise ArithmeticProblem(str(error)) from None

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if token and token in wanted:
            self.place += 1
            return token
        return ""

    def disjunction(self) -> Value:
        value = self.conjunction()
        while self.take("or"):
            right = self.conjunction()
            value = _truth(value) | _truth(right)
        return value

    def conjunction(self) -> Value:
        value = self.negation()
        while self.take("and"):
            right = self.negation()
            value = _truth(value) & _truth(right)
        return value

    def negation(self) -> Value:
        if self.take("not"):
            with _Deeper(self):
                return not _truth(self.negation())
        return self.comparison()

    def comparison(self) -> Value:
        left = self.sum()
        sign = self.take(*_COMPARE)
        if not sign:
            return left
        a, b = _quantity(left), _quantity(self.sum())
        if a.dimension != b.dimension:
            raise ArithmeticProblem("values of different dimensions cannot be compared.")
        return _COMPARE[sign](a.value, b.value)

    def sum(self) -> Value:
        value = self.product()
        while sign := self.take("+", "-"):
            a, b = _quantity(value), _quantity(self.product())
            if a.dimension != b.dimension:
                raise ArithmeticProblem("values of different dimensions cannot be added.")
            total = a.value + b.value if sign == "+" else a.value - b.value
            value = _bounded(total, a.dimension)
        return value

    def product(self) -> Value:
        value = self.signed()
        while sign := self.take("*", "/", "//", "mod"):
            a, b = _quantity(value), _quantity(self.signed())
            if sign != "*" and b.value == 0:
                raise ArithmeticProblem("division by zero has no value.")
            if sign in ("*", "/"):
                result = a.value * b.value if sign == "*" else a.value / b.value
                value = _bounded(
                    result, combine(a.dimension, b.dimension, 1 if sign == "*" else -1)
                )
            else:
                if a.dimension or b.dimension:
                    raise ArithmeticProblem(f"{sign} is for numbers without units.")
                value = _bounded(
                    Fraction(a.value // b.value) if sign == "//" else a.value % b.value
                )
        return value

    def signed(self) -> Value:
        with _Deeper(self):
            if self.take("-"):
                inner = _quantity(self.signed())
                return Quantity(-inner.value, inner.dimension)
            self.take("+")
            return self.power()

    def power(self) -> Value:
        base = self.postfix()
        if not self.take("^"):
            return base
        a, b = _quantity(base), _quantity(self.signed())
        return _power(a, b)

    def postfix(self) -> Value:
        value = self.atom()
        while sign := self.take("!", "%"):
            a = _quantity(value)
            value = _factorial(a) if sign == "!" else Quantity(a.value / 100, a.dimension)
        return value

    def atom(self) -> Value:
        token = self.peek()
        self.place += 1
        if token == "(":
            with _Deeper(self):
                value = self.disjunction()
            self.expect(")")
            return value
        if token in ("true", "false"):
            return token == "true"
        if token in _FUNCTIONS:
            return self.call(token)
        if token[:1].isdigit():
            return self.measured(Fraction(token))
        raise ArithmeticProblem(
            f"'{token}' is no number and no function known here." if token else "it ends too early."
        )

    def measured(self, number: Fraction) -> Value:
        """A number and the units that follow it at once: 3 km, 5 m^2, 60 km/h as (60 km)/h."""
        value = _bounded(number)
        while self.at_unit(self.place):
            name = self.peek()
            self.place += 1
            unit = UNITS[name]
            if unit.offset:
                return Quantity(number * unit.factor + unit.offset, unit.dimension)
            power = 1
            if self.peek() == "^" and self.tokens[self.place + 1 : self.place + 2] in (
                ["2"],
                ["3"],
            ):
                power = int(self.tokens[self.place + 1])
                self.place += 2
            dimension = combine(value.dimension, raised(unit.dimension, power))
            value = _bounded(value.value * unit.factor**power, dimension)
            if self.peek() == "/" and self.at_unit(self.place + 1):
                below = UNITS[self.tokens[self.place + 1]]
                self.place += 2
                value = _bounded(
                    value.value / below.factor, combine(value.dimension, below.dimension, -1)
                )
        return value

    def at_unit(self, place: int) -> bool:
        """Whether a unit stands there: 'min' is one, 'min(' is not; '%' is a sign of its own."""
        word, after = (*self.tokens[place : place + 2], "", "")[:2]
        if word in UNITS and word != "%" and word not in ("in", "to"):
            return after != "(" or word not in _FUNCTIONS
        return False

    def call(self, name: str) -> Value:
        self.expect("(")
        arguments = []
        with _Deeper(self):
            arguments.append(_quantity(self.disjunction()))
            while self.take(","):
                arguments.append(_quantity(self.disjunction()))
        self.expect(")")
        return _apply(name, arguments)

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise ArithmeticProblem(f"'{token}' is missing after '{self.tokens[self.place - 1]}'.")


class _Deeper:
    """Counts nesting, so that a hostile text ends in an error and not in a full stack."""

    def __init__(self, parser: _Parser) -> None:
        self.parser = parser

    def __enter__(self) -> None:
        self.parser.depth += 1
        if self.parser.depth > MAX_DEPTH:
            raise ArithmeticProblem(f"more than {MAX_DEPTH} brackets or signs are nested.")

    def __exit__(self, *_: object) -> None:
        self.parser.depth -= 1


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ArithmeticProblem("'and', 'or' and 'not' join statements, not numbers.")
    return value


def _quantity(value: Value) -> Quantity:
    if isinstance(value, bool):
        raise ArithmeticProblem("a statement that holds or not is no number.")
    return value


def _bounded(value: Fraction, dimension: Dimension = NO_DIMENSION) -> Quantity:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ArithmeticProblem(f"a value has more than {MAX_BITS} bits.")
    return Quantity(value, dimension)


def _power(base: Quantity, exponent: Quantity) -> Quantity:
    if exponent.dimension or exponent.value.denominator != 1:
        raise ArithmeticProblem("powers are whole numbers here: others are not exact.")
    power = int(exponent.value)
    size = max(base.value.numerator.bit_length(), base.value.denominator.bit_length())
    if size * abs(power) > MAX_BITS and base.value not in (-1, 0, 1):
        raise ArithmeticProblem(f"a power has more than {MAX_BITS} bits.")
    if base.value == 0 and power < 0:
        raise ArithmeticProblem("division by zero has no value.")
    if base.value in (-1, 0, 1):
        return Quantity(
            base.value ** (power % 2 or 2 * (power != 0)), raised(base.dimension, power)
        )
    return _bounded(base.value**power, raised(base.dimension, power))


def _factorial(value: Quantity) -> Quantity:
    if value.dimension or value.value.denominator != 1 or not 0 <= value.value <= 1500:
        raise ArithmeticProblem("factorials are of whole numbers from 0 to 1500.")
    return _bounded(Fraction(math.factorial(int(value.value))))


def _apply(name: str, arguments: list[Quantity]) -> Quantity:
    first = arguments[0]
    if any(argument.dimension != first.dimension for argument in arguments):
        raise ArithmeticProblem(f"{name} needs values of one dimension.")
    values = [argument.value for argument in arguments]
    if name in ("min", "max"):
        return Quantity(min(values) if name == "min" else max(values), first.dimension)
    if name in ("gcd", "lcm"):
        if first.dimension or any(value.denominator != 1 for value in values):
            raise ArithmeticProblem(f"{name} is of whole numbers.")
        whole = [int(value) for value in values]
        return _bounded(Fraction(math.gcd(*whole) if name == "gcd" else math.lcm(*whole)))
    if len(values) != 1:
        raise ArithmeticProblem(f"{name} takes one value.")
    if name == "abs":
        return Quantity(abs(values[0]), first.dimension)
    if first.dimension:
        raise ArithmeticProblem(f"{name} is of numbers without units.")
    if name == "sqrt":
        return _root(values[0])
    return Quantity(Fraction(math.floor(values[0]) if name == "floor" else math.ceil(values[0])))


def _root(value: Fraction) -> Quantity:
    if value < 0:
        raise ArithmeticProblem("a negative number has no real root.")
    top, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if top * top != value.numerator or below * below != value.denominator:
        raise ArithmeticProblem(f"the root of {value} is not rational, so not exact.")
    return Quantity(Fraction(top, below))
