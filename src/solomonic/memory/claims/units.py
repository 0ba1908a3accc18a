"""Units of measurement as exact factors: what 3 km and 3,000 m have in common.

A unit is a rational factor, a dimension (powers of base units) and, for temperatures, an offset.
Factors are those of the SI brochure and of the international yard and pound agreement; a currency
is a dimension of its own, because rates change. Years and months have no fixed length and are not
here: dates are compared as dates.
"""

import dataclasses
import re
from fractions import Fraction

from solomonic.core import DataError

Dimension = tuple[tuple[str, int], ...]
"""Powers of base units, sorted by name, none zero: (("m", 1), ("s", -1)) is a speed."""

NO_DIMENSION: Dimension = ()


@dataclasses.dataclass(frozen=True)
class Unit:
    """`value` of this unit is `value * factor + offset` base units of `dimension`."""

    name: str
    factor: Fraction
    dimension: Dimension
    offset: Fraction = Fraction(0)

    def times(self, other: "Unit", name: str) -> "Unit":
        """The product, named anew.

        Raises:
            DataError: one of them is a temperature scale with its own zero.
        """
        return self._joined(other, 1, name)

    def over(self, other: "Unit", name: str) -> "Unit":
        """The quotient, named anew; raises as `times`."""
        return self._joined(other, -1, name)

    def _joined(self, other: "Unit", sign: int, name: str) -> "Unit":
        for part in (self, other):
            if part.offset:
                raise DataError(
                    f"'{part.name}' has a zero of its own and cannot be multiplied; use K."
                )
        factor = self.factor * other.factor if sign > 0 else self.factor / other.factor
        return Unit(name, factor, combine(self.dimension, other.dimension, sign))


def combine(left: Dimension, right: Dimension, sign: int = 1) -> Dimension:
    """The dimension of a product (`sign` 1) or a quotient (-1)."""
    powers = dict(left)
    for base, power in right:
        powers[base] = powers.get(base, 0) + sign * power
    return tuple(sorted((base, power) for base, power in powers.items() if power))


def raised(dimension: Dimension, power: int) -> Dimension:
    """The dimension of a power."""
    return tuple((base, p * power) for base, p in dimension if p * power)


# name: (factor in base units, base, power). Aliases follow after a bar.
_TABLE = """
m|metre|meter|metres|meters 1 m; km|kilometre|kilometer|kilometres|kilometers 1000 m
dm 1/10 m; cm|centimetre|centimeter|centimetres|centimeters 1/100 m
mm|millimetre|millimeter|millimetres|millimeters 1/1000 m; um|µm 1/1000000 m; nm 1/1000000000 m
inch|inches 254/10000 m; ft|foot|feet 3048/10000 m; yd|yard|yards 9144/10000 m
mi|mile|miles 1609344/1000 m; nmi 1852 m
g|gram|grams 1/1000 kg; kg|kilogram|kilograms 1 kg; mg|milligram|milligrams 1/1000000 kg
t|tonne|tonnes 1000 kg; lb|pound|pounds 45359237/100000000 kg
oz|ounce|ounces 45359237/1600000000 kg
s|sec|second|seconds 1 s; ms|millisecond|milliseconds 1/1000 s; us|µs 1/1000000 s; ns 1/1000000000 s
min|minute|minutes 60 s; h|hour|hours 3600 s; d|day|days 86400 s; week|weeks 604800 s
A|ampere 1 A; mol 1 mol; cd 1 cd; K|kelvin 1 K
bit|bits 1 bit; B|byte|bytes 8 bit; kB 8000 bit; MB 8000000 bit
GB 8000000000 bit; TB 8000000000000 bit
KiB 8192 bit; MiB 8388608 bit; GiB 8589934592 bit; TiB 8796093022208 bit
L|l|litre|liter|litres|liters 1/1000 m^3; ml|mL 1/1000000 m^3; ha|hectare|hectares 10000 m^2
person|people|persons|inhabitants 1 person
USD|dollar|dollars 1 USD; EUR|euro|euros 1 EUR; GBP 1 GBP; JPY 1 JPY
CNY 1 CNY; INR 1 INR; CHF 1 CHF
percent 1/100 1; permille 1/1000 1; dozen 12 1
"""


def _read_table() -> dict[str, Unit]:
    units = {}
    for line in re.split(r"[;\n]", _TABLE.strip()):
        names, factor, base = line.split()
        base, _, power = base.partition("^")
        dimension = NO_DIMENSION if base == "1" else ((base, int(power or 1)),)
        first = names.split("|")[0]
        for name in names.split("|"):
            units[name] = Unit(first, Fraction(factor), dimension)
    zero = Fraction(27315, 100)
    kelvin = (("K", 1),)
    celsius = Unit("degC", Fraction(1), kelvin, zero)
    fahrenheit = Unit("degF", Fraction(5, 9), kelvin, zero - 32 * Fraction(5, 9))
    derived = {
        "N": (1, "kg 1 m 1 s -2"),
        "J": (1, "kg 1 m 2 s -2"),
        "W": (1, "kg 1 m 2 s -3"),
        "kW": (1000, "kg 1 m 2 s -3"),
        "MW": (10**6, "kg 1 m 2 s -3"),
        "GW": (10**9, "kg 1 m 2 s -3"),
        "kWh": (3_600_000, "kg 1 m 2 s -2"),
        "Pa": (1, "kg 1 m -1 s -2"),
        "bar": (100_000, "kg 1 m -1 s -2"),
        "V": (1, "A -1 kg 1 m 2 s -3"),
        "Hz": (1, "s -1"),
        "kHz": (1000, "s -1"),
        "MHz": (10**6, "s -1"),
        "GHz": (10**9, "s -1"),
        "kmh": (Fraction(5, 18), "m 1 s -1"),
        "mph": (Fraction(1609344, 3_600_000), "m 1 s -1"),
    }
    for name, (factor, text) in derived.items():
        words = text.split()
        powers = tuple(sorted(zip(words[::2], map(int, words[1::2]), strict=True)))
        units[name] = Unit(name, Fraction(factor), powers)
    units |= {"degC": celsius, "°C": celsius, "celsius": celsius}
    return units | {"degF": fahrenheit, "°F": fahrenheit, "fahrenheit": fahrenheit, "%": _PERCENT}


_PERCENT = Unit("%", Fraction(1, 100), NO_DIMENSION)
UNITS = _read_table()
_PART = re.compile(r"([A-Za-zµ°%]+)(?:\^?(-?\d))?")


def find_unit(name: str) -> Unit | None:
    """The unit of one name, or None. Case counts: 'MB' is no 'mb'."""
    return UNITS.get(name)


def parse_unit(text: str) -> Unit:
    """'km/h', 'kg*m^2/s^2', '' (none).

    Raises:
        DataError: a part is no unit that is known here.
    """
    text = text.strip()
    found = Unit(text, Fraction(1), NO_DIMENSION)
    if not text:
        return found
    if text in UNITS:
        return UNITS[text]
    for index, chunk in enumerate(re.split(r"([*/·])", text)):
        if index % 2:
            continue
        sign = "*" if index == 0 else re.split(r"([*/·])", text)[index - 1]
        match = _PART.fullmatch(chunk.strip())
        unit = UNITS.get(match[1]) if match else None
        if match is None or unit is None:
            raise DataError(f"'{text}' is no unit that is known here; use names such as km or m/s.")
        for _ in range(abs(int(match[2] or 1))):
            inverse = (sign == "/") != (int(match[2] or 1) < 0)
            found = found.over(unit, text) if inverse else found.times(unit, text)
    return found
