"""What a claim is: a statement about a subject, with its source and the time it is about."""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any, Literal

from solomonic.core import DataError
from solomonic.memory.claims.values import fold, read_date, read_value

Decision = Literal["SUPPORTED", "CONTRADICTED", "UNKNOWN"]
_CHARACTERS = 4000
_FIELDS = (
    "subject",
    "predicate",
    "object",
    "unit",
    "source",
    "valid_from",
    "valid_to",
    "asserted_at",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement.

    Attributes:
        subject, predicate: names; compared without case and extra spaces.
        object: its value, as written (`values.read_value`).
        unit: of the object, unless it is written in it; 'year' and 'date' mark dates.
        source: where it was read.
        valid_from, valid_to: ISO dates between which it is said to hold: from the first, to before
            the second; "" = open.
        asserted_at: unix seconds; 0 = when it is added.
        id: given by the store; 0 before.

    Raises:
        DataError: a name is empty or too long, the object does not fit its unit, or the times are
            no dates or end before they begin.
    """

    subject: str
    predicate: str
    object: str
    unit: str = ""
    source: str = ""
    valid_from: str = ""
    valid_to: str = ""
    asserted_at: float = 0.0
    id: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        for name in ("subject", "predicate", "object", "unit", "source"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > _CHARACTERS:
                raise DataError(f"the {name} of a claim is a text of at most {_CHARACTERS:,}.")
        if not fold(self.subject) or not fold(self.predicate):
            raise DataError("a claim needs a subject and a predicate.")
        if not math.isfinite(self.asserted_at):
            raise DataError("asserted_at is a number of unix seconds.")
        read_value(self.object, self.unit)
        begin, end = self.validity
        if begin >= end:
            raise DataError(f"a claim about '{self.subject}' would end before it begins to hold.")

    @property
    def validity(self) -> tuple[int, int]:
        """The days on which it holds, as ordinals: from the first, to before the second."""
        begin = _ordinal(self.valid_from, "valid_from", datetime.date.min)
        return begin, _ordinal(self.valid_to, "valid_to", datetime.date.max)

    @classmethod
    def from_record(cls, record: Any, where: str = "claim") -> "Claim":
        """A claim from JSON; numbers and truth values are taken as their text.

        Raises:
            DataError: a field is missing, unknown, or malformed.
        """
        if not isinstance(record, Mapping):
            raise DataError(f"{where} is no object with subject, predicate and object.")
        unknown = [key for key in record if key not in _FIELDS]
        if unknown:
            raise DataError(
                f"{where} has an unknown field '{unknown[0]}'; known: {', '.join(_FIELDS)}."
            )
        fields = {key: value for key, value in record.items() if value is not None}
        for name in ("subject", "predicate", "object"):
            if name not in fields:
                raise DataError(f"{where} has no {name}.")
        for key, value in fields.items():
            if key != "asserted_at" and not isinstance(value, str):
                fields[key] = str(value).lower() if isinstance(value, bool) else str(value)
            elif key == "asserted_at" and not isinstance(value, int | float):
                raise DataError(f"{where}: asserted_at is a number of unix seconds.")
        try:
            return cls(**fields)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def to_record(self) -> dict[str, Any]:
        """As JSON holds it, with its id; empty fields left out."""
        record = dataclasses.asdict(self)
        return {key: value for key, value in record.items() if value not in ("", 0.0)}

    def __str__(self) -> str:
        text = f"{self.subject} {self.predicate} {self.object}"
        text += f" {self.unit}" if self.unit and self.unit not in ("date", "year") else ""
        if self.valid_from or self.valid_to:
            text += f" [{self.valid_from or '...'}, {self.valid_to or '...'})"
        return text


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a store has to say about a claim.

    Attributes:
        verdict: SUPPORTED: a claim of the store says so for all the time asked about.
            CONTRADICTED: the predicate has one value at a time, and one of the store's claims gives
            another within that time. UNKNOWN: neither. Where claims do both, the store contradicts
            itself; the verdict is CONTRADICTED, and both lists are filled.
        supporting, contradicting: ids of the claims.
    """

    verdict: Decision
    supporting: tuple[int, ...] = ()
    contradicting: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Claims that cannot all hold, though any of them can be left out to mend it.

    `why` names the functional predicate, or the rule, that they break.
    """

    ids: tuple[int, ...]
    why: str


def _ordinal(text: str, name: str, default: datetime.date) -> int:
    if not text:
        return default.toordinal()
    day = read_date(text) if isinstance(text, str) else None
    if day is None:
        raise DataError(f"{name} '{text}' is no date; write 1999, 1999-05 or 1999-05-03.")
    return day.first.toordinal()
