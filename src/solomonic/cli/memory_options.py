"""What the commands of `solomonic memory` share: the store, its model, and dates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.lm.embed import Embedder
    from solomonic.memory import Memory

Store = Annotated[
    str,
    typer.Argument(metavar="STORE", help="File of a memory, or a PostgreSQL address."),
]
LM = Annotated[
    str | None,
    typer.Option(
        "--lm",
        metavar="DIR|FILE|shipped",
        help="Language model whose hidden states are the vectors: a folder, a device file, or "
        "'shipped', the one that comes with the package.",
    ),
]


def opened(
    store: str, *, read_only: bool = False, must_exist: bool = False, dim: int | None = None
) -> Memory:
    """The memory; only `add` makes one where there is none."""
    from solomonic.memory import Memory

    if must_exist and "://" not in store and not Path(store).is_file():
        raise ConfigError(f"there is no memory {store}; `solomonic memory add` makes one.")
    return Memory.open(store, read_only=read_only, dim=dim)


def read_embedder(lm: str) -> Embedder:
    """The model that `--lm` names."""
    from solomonic.lm.embed import load_embedder

    return load_embedder(lm)


def moment(date: str | None, option: str) -> float | None:
    """'2026-11-21' or '2026-11-21T22:30' -> unix seconds; without a zone it is UTC."""
    if date is None:
        return None
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        raise ConfigError(
            f"{option} {date!r} is no date; write it as 2026-11-21 or 2026-11-21T22:30."
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
