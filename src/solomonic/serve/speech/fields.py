"""Fields of JSON messages from strangers: taken when they are right, else one clear error."""

from collections.abc import Mapping, Sequence
from typing import Any

from solomonic.serve.speech.socket import BadMessage
from solomonic.speech.biasing.phrases import LONGEST_LINE, MOST_PHRASES


class Fields:
    """Takes fields out of a message by name and kind.

    Args:
        plain: the JSON object.
        known: names that may be there; others are errors, so that a typing mistake is not silent.
    """

    def __init__(self, plain: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in plain:
            if name not in known:
                raise BadMessage(
                    "unsupported_parameter",
                    f"the field '{name[:64]}' is unknown; known: {', '.join(known)}.",
                    name[:64],
                )
        self._plain = plain

    def text(self, name: str, default: str, most: int = 200) -> str:
        """A string of at most `most` characters."""
        value = self._plain.get(name, default)
        self._check(name, isinstance(value, str) and len(value) <= most, "a string")
        return value

    def one_of(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self._plain.get(name, default)
        self._check(name, value in choices, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._plain.get(name, default)
        self._check(name, isinstance(value, bool), "true or false")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number between two others."""
        value = self._plain.get(name, default)
        right = isinstance(value, int | float) and not isinstance(value, bool)
        self._check(name, right and low <= value <= high, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number between two others; 16000.0 is one."""
        value = self.number(name, default, low, high)
        self._check(name, value == int(value), "a whole number")
        return int(value)

    def phrases(self, name: str) -> list[str]:
        """A list of personal words."""
        value = self._plain.get(name, [])
        right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        self._check(name, right, "a list of strings")
        self._check(
            name,
            len(value) <= MOST_PHRASES and all(len(one) <= LONGEST_LINE for one in value),
            f"at most {MOST_PHRASES} strings of at most {LONGEST_LINE} characters",
        )
        return value

    @staticmethod
    def _check(name: str, right: bool, what: str) -> None:
        if not right:
            raise BadMessage("invalid_value", f"the field '{name}' must be {what}.", name)
