"""The manners all commands share: JSON alone on standard output, everything for eyes on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.core import ConfigError, StorageError

if TYPE_CHECKING:
    from rich.console import Console


def screen() -> Console:
    """Where results for people go (standard output)."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def notes() -> Console:
    """Where progress and remarks go (standard error), so that output can be piped."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """A remark on standard error, never wrapped: what stands in it can be copied."""
    print(line, file=sys.stderr, flush=True)


def emit(record: Any) -> None:
    """Print `record` as JSON on standard output; what is not finite becomes null."""
    print(json.dumps(plain(record), indent=2))


def emit_line(record: Any) -> None:
    """Print `record` as one line of JSON, at once."""
    print(json.dumps(plain(record)), flush=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Rich table: the first column to the left, the others to the right. Names that do not
    fit go on in a second line: cut short, those of a model's layers look all the same."""
    from rich.table import Table

    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        grid.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(show(cell) for cell in row))
    console = screen()
    # A file or a pipe has no edge at which names must be folded, unless somebody says so.
    if not console.is_terminal and "COLUMNS" not in os.environ:
        wide = console.options.update(max_width=10_000)
        console.width = max(console.width, console.measure(grid, options=wide).maximum)
    console.print(grid)


def show(value: Any) -> str:
    """A figure as people read it: 1,234 and 0.1235; text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_bytes(count: int) -> str:
    """3,211,264 -> '3.06 MiB'."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"


def choose_device(name: str) -> str:
    """'auto' -> 'cuda' where there is a GPU, else 'cpu'; other names are checked.

    Raises:
        ConfigError: torch does not know the device or does not see it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device '{name}' cannot be used here; leave --device out, or give 'cpu'."
        ) from error
    return name


def make_folder(path: Path) -> Path:
    """Create a folder for results, with its parents.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot create the folder {path}: {error.strerror}; give another one."
        ) from error
    return path


def parse_numbers(text: str, option: str) -> list[int]:
    """'1,2,3' (commas or spaces) -> [1, 2, 3].

    Raises:
        ConfigError: something between the commas is no whole number; `option` is named.
    """
    try:
        numbers = [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigError(
            f"{option} {text!r} is no list of whole numbers; write them as in 1,2,3."
        ) from error
    if not numbers:
        raise ConfigError(f"{option} is empty; give whole numbers as in 1,2,3.")
    return numbers


def given(**settings: Any) -> dict[str, Any]:
    """The settings whose option was given: those that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """['eidetic_slots=16', 'position=rope'] -> {'eidetic_slots': 16, 'position': 'rope'}.

    A value is read as JSON where it is JSON, else as text.

    Raises:
        ConfigError: an entry has no '='.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {pair!r} is no setting; write it as in eidetic_slots=16.")
        try:
            settings[name.strip()] = json.loads(value)
        except ValueError:
            settings[name.strip()] = value
    return settings


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: paths as text, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def is_terminal() -> bool:
    """Whether standard output goes to a person."""
    return sys.stdout.isatty()
