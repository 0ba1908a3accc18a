"""Configuration as frozen dataclasses that validate themselves and round-trip through JSON.

A default stands in exactly one place, the dataclass; JSON is only the stored record.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from solomonic.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration. Subclasses are frozen keyword-only dataclasses.

    Subclasses check their own values in `__post_init__` and raise `ConfigError`, and name those of
    their settings that are configurations themselves in `PARTS`.
    """

    PARTS: ClassVar[Mapping[str, type["Config"]]] = {}

    def to_json(self) -> dict[str, Any]:
        """The plain JSON form, nested configurations included."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`'s form.

        Raises:
            ConfigError: a key is unknown (the nearest known one is named) or a value is invalid.
        """
        known = {field.name for field in dataclasses.fields(cls) if field.init}
        for key in record:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = (
                    f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}."
                )
                raise ConfigError(f"{cls.__name__} has no setting '{key}'; {hint}")
        parts = cls.PARTS
        return cls(
            **{key: parts[key].from_json(v) if key in parts else v for key, v in record.items()}
        )

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, validated again."""
        return dataclasses.replace(self, **changes)


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_least(config: Config, least: int, *names: str) -> None:
    """Raise `ConfigError` for the first of the named settings that is below `least`."""
    said = "not be negative" if least == 0 else f"be at least {least}"
    for name in names:
        value = getattr(config, name)
        require(value >= least, f"{name} = {value} must {said}.")


def require_one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `ConfigError` unless the setting `name` has one of the `known` values."""
    known = list(known)
    require(value in known, f"{name} = '{value}' is unknown; use one of {', '.join(known)}.")
