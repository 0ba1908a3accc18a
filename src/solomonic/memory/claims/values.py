"""Objects of claims as values: 3 km is 3,000 m, May 1999 holds the 3rd of May 1999.

An object is read as a quantity (a number with a unit), a date of some precision, a truth value, or
else a text, compared without case, accents kept, spaces evened out.
"""

import calendar
import dataclasses
import datetime
import re
import unicodedata
from fractions import Fraction
from typing import Literal

from solomonic.core import DataError
from solomonic.memory.claims.units import NO_DIMENSION, Dimension, Unit, parse_unit

Relation = Literal["same", "entails", "entailed", "differs", "unknown"]
"""`a` to `b`: equal; a says more than b; b says more than a; they exclude each other; neither."""

_NUMBER = re.compile(
    r"([-+−]?(?:\d{1,3}(?:[ ,]\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)(?:/(\d+))?\s*(.*)", re.DOTALL
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_WRITTEN = re.compile(r"(?:(\d{1,2})\s+)?([A-Za-z]+)(?:\s+(\d{1,2}),)?,?\s+(\d{4})")


@dataclasses.dataclass(frozen=True)
class Amount:
    """A number in base units."""

    value: Fraction
    dimension: Dimension


@dataclasses.dataclass(frozen=True)
class Day:
    """The days that a date leaves open, first and last included."""

    first: datetime.date
    last: datetime.date


@dataclasses.dataclass(frozen=True)
class Text:
    """Words, in the form in which they are compared."""

    text: str


Value = Amount | Day | Text | bool


def fold(text: str) -> str:
    """The form in which names and texts are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_value(text: str, unit: str = "") -> Value:
    """The value of an object; a unit may stand beside it or in it.

    'true' and 'false' are truth values, '1999-05' and '3 May 1999' dates. Four digits are a year
    only with the unit 'year' (or 'date'), as in ("1999", "year"): without, they are a number.

    Raises:
        DataError: it is empty, the unit is unknown, or it is no number although it has a unit.
    """
    text = text.strip()
    if not text:
        raise DataError("the object of a claim is empty.")
    if unit in ("date", "year") or (not unit and "-" in text.lstrip("-")):
        day = read_date(text)
        if day is not None:
            return day
    if not unit:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        day = None if text.isdigit() else read_date(text)
        if day is not None:
            return day
    amount = _amount(text, unit)
    if amount is not None:
        return amount
    if unit:
        raise DataError(f"'{text[:40]}' is no number or date, but has the unit '{unit}'.")
    return Text(fold(text))


def read_date(text: str) -> Day | None:
    """'1999', '1999-05', '1999-05-03', '3 May 1999', 'May 3, 1999', 'May 1999'; None otherwise."""
    match = _DATE.fullmatch(text.strip())
    if match:
        year, month, day = (int(part) if part else None for part in match.groups())
    else:
        match = _WRITTEN.fullmatch(text.strip())
        if not match or match[2].lower() not in _MONTHS:
            return None
        year, month = int(match[4]), _MONTHS[match[2].lower()]
        day = int(match[1] or match[3]) if match[1] or match[3] else None
    try:
        if year is None or not 1 <= year <= 9999:
            return None
        if day is not None and month is not None:
            one = datetime.date(year, month, day)
            return Day(one, one)
        if month is not None:
            last = calendar.monthrange(year, month)[1]
            return Day(datetime.date(year, month, 1), datetime.date(year, month, last))
    except (ValueError, calendar.IllegalMonthError):
        return None
    return Day(datetime.date(year, 1, 1), datetime.date(year, 12, 31))


def _amount(text: str, unit: str) -> Amount | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    number = Fraction(match[1].replace(",", "").replace(" ", "").replace("−", "-"))
    if match[2]:
        if int(match[2]) == 0:
            return None
        number /= int(match[2])
    inside = match[3].strip()
    first, _, rest = inside.partition(" ")
    if first.lower() in _SCALES:
        number *= _SCALES[first.lower()]
        inside = rest.strip()
    if inside and unit and inside != unit:
        raise DataError(f"'{text[:40]}' has a unit of its own beside '{unit}'; give one.")
    try:
        found = _unit(inside or unit)
    except DataError:
        if unit:
            raise
        return None
    return Amount(number * found.factor + found.offset, found.dimension)


def _unit(name: str) -> Unit:
    return parse_unit(name) if name else Unit("", Fraction(1), NO_DIMENSION)


def compare(a: Value, b: Value, tolerance: float = 0.0) -> Relation:
    """How two values of one predicate stand to each other.

    Args:
        tolerance: numbers within this share of the larger one are the same.
    """
    if isinstance(a, Amount) and isinstance(b, Amount):
        return _compare_amounts(a, b, tolerance)
    if isinstance(a, Day) and isinstance(b, Day):
        if a == b:
            return "same"
        if b.first <= a.first and a.last <= b.last:
            return "entails"
        if a.first <= b.first and b.last <= a.last:
            return "entailed"
        return "differs" if a.last < b.first or b.last < a.first else "unknown"
    if type(a) is type(b):
        return "same" if a == b else "differs"
    return "unknown"  # a text beside a number: what it means cannot be told


def _compare_amounts(a: Amount, b: Amount, tolerance: float) -> Relation:
    if a.dimension != b.dimension:
        # A bare number may be meant in any unit; metres are no kilograms.
        return "differs" if a.dimension and b.dimension else "unknown"
    if a.value == b.value:
        return "same"
    near = abs(a.value - b.value) <= Fraction(tolerance) * max(abs(a.value), abs(b.value))
    return "same" if near else "differs"
