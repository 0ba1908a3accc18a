"""What domains have in common: reading records, and searches over a short list."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from solomonic.core import CheckpointError, DataError


def field(content: Mapping[str, Any], name: str, kind: str, types: type | tuple[type, ...]) -> Any:
    """A field that must be there.

    Raises:
        DataError: it is missing or of another type.
    """
    value = content.get(name)
    if not isinstance(value, types) or (isinstance(value, bool) and types is int):
        raise DataError(f"a task of kind '{kind}' needs '{name}'; see docs/solver.md.")
    return value


def only(content: Mapping[str, Any], names: Iterable[str], kind: str) -> None:
    """Raise `DataError` where a field has a name that means nothing: it may be a misspelling."""
    for name in content:
        if name not in names:
            raise DataError(
                f"a task of kind '{kind}' has no field '{name}'; known: {', '.join(sorted(names))}."
            )


class ListSearch:
    """A search over what `make(setting)` gives, in its order.

    Saved as the setting and the place: a search goes on in the order it began with, whatever has
    been learned since.
    """

    def __init__(
        self, make: Callable[[Any], Iterator[str]], setting: Any, saved: bytes | None
    ) -> None:
        """`setting` is JSON: what decides the order.

        Raises:
            CheckpointError: `saved` is damaged.
        """
        self.candidates = 0
        self.finished = False
        self.setting = setting
        place = 0
        if saved is not None:
            try:
                place, self.setting = json.loads(saved)
                self.candidates = int(place)
            except (ValueError, TypeError) as error:
                raise CheckpointError("a saved search is damaged; forget the task.") from error
        self.values = itertools.islice(make(self.setting), self.candidates, None)

    def advance(self, most: int, seconds: float) -> Iterator[str]:
        end = time.perf_counter() + seconds
        for _ in range(most):
            value = next(self.values, None)
            if value is None:
                self.finished = True
                return
            self.candidates += 1
            yield value
            if time.perf_counter() > end:
                return

    def save(self) -> bytes:
        return json.dumps([self.candidates, self.setting]).encode()


def first_line(text: str) -> str:
    """What a language model wrote up to the end of its line."""
    return text.strip().split("\n", 1)[0].strip()
