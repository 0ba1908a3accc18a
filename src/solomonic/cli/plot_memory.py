"""`solomonic plot memory`: what is kept over time, from a stream of losses or from a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import DataError

_SQLITE = b"SQLite format 3\0"


def memory(
    source: Annotated[
        str,
        typer.Argument(
            metavar="LOSSES|STORE",
            help="Numbers in a file (.txt, .csv, .npy, .jsonl), or a memory (a file, or a "
            "PostgreSQL address).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .svg or .pdf.")],
    forgetting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="changes[:EVERY], exponential:HALF_LIFE, symbols:ALPHABET[:ORDER] or none; for "
            "losses 'changes' if left out, for a memory its own.",
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="Name of the number in lines of .jsonl.")] = "loss",
    json: Json = False,
) -> None:
    """Weights of what was written, by when it was written, with the changes found.

    Losses are replayed: the picture shows what would have been kept at every moment. Of a memory
    it shows what each item counts for now.
    """
    if _is_store(source):
        record = _store(source, out, forgetting)
    else:
        record = _losses(source, out, forgetting or "changes", key)
    if json:
        console.emit({"written": [out], **record})
    else:
        print(out)


def _is_store(source: str) -> bool:
    if "://" in source:
        return True
    try:
        with Path(source).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}; check the path.") from None


def _losses(source: str, out: Path, forgetting: str, key: str) -> dict:
    from solomonic.evals.forgetting_plots import plot_kept, read_values, watch
    from solomonic.memory.forgetting import forgetting_from

    values = read_values(source, key)
    symbols = forgetting.startswith("symbols")
    kept = watch(values.astype(int) if symbols else values, forgetting_from(forgetting))
    plot_kept(kept, out, f"{Path(source).name}, {forgetting}")
    return {"observations": len(values), "changes": kept.final}


def _store(source: str, out: Path, forgetting: str | None) -> dict:
    import numpy as np

    from solomonic.evals.forgetting_plots import plot_items
    from solomonic.memory import Memory, MemoryConfig

    config = None if forgetting is None else MemoryConfig(forgetting=forgetting)
    with Memory.open(source, config=config, read_only=True) as store:
        steps = np.array([item.step for item in store.items()], dtype=np.int64)
        weights, changes, now = store.weights(), store.changes(), store.stats()["step"]
    plot_items(steps, weights, changes, now, out)
    return {"items": len(steps), "observations": now, "changes": changes}
