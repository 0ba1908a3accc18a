"""`solomonic diff` and `solomonic patch`: the difference of two device files, and applying it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.inspect_device import short_name
from solomonic.cli.options import Json

if TYPE_CHECKING:
    from solomonic.compress.delta import Diff

Old = Annotated[
    Path, typer.Argument(metavar="OLD", help="Device file there is.", show_default=False)
]
_SHOWN = 20  # tensors in the table; --json has all


def diff(
    old: Old,
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="Device file to become.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The update to write.")],
    json: Json = False,
) -> None:
    """Write the update that makes one device file of another, byte for byte."""
    from solomonic.compress.delta import diff_files

    found = diff_files(old, new, out)
    if json:
        console.emit({"out": out, **found.to_json()})
    else:
        _show(out, found)


def patch(
    old: Old,
    updates: Annotated[
        list[Path], typer.Argument(metavar="UPDATE...", help="Updates, applied in this order.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The device file to write; may be OLD itself.")
    ],
    keep_undo: Annotated[
        Path | None, typer.Option(help="Also write the update that leads back to OLD.")
    ] = None,
    json: Json = False,
) -> None:
    """Apply updates to a device file; nothing is written unless the result is exact."""
    from solomonic.compress.delta import patch_files

    size = patch_files(old, updates, out, keep_undo)
    record: dict[str, Any] = {"out": out, "bytes": size, "updates": len(updates)}
    if keep_undo is not None:
        record |= {"undo": keep_undo, "undo_bytes": keep_undo.stat().st_size}
    if json:
        console.emit(record)
        return
    console.say(f"{out}: {size:,} bytes, checked ({len(updates)} of {len(updates)} updates)")
    if keep_undo is not None:
        console.say(f"{keep_undo}: {record['undo_bytes']:,} bytes lead back to {old}")


def _show(out: Path, found: Diff) -> None:
    record = found.to_json()
    console.screen().print(
        f"{out}: {record['bytes']:,} bytes, {record['share']:.2%} of the {found.new_bytes:,} of "
        f"the new model"
    )
    if found.whole:
        console.say("the new file was written by another program; the update holds all of it")
    changes = sorted(found.changes, key=lambda change: -change.bytes)
    rows = [
        (short_name(c.name), c.kind, f"{c.changed:,} of {c.of:,}", f"{c.bytes:,.0f}")
        for c in changes[:_SHOWN]
    ]
    if rows:
        console.table("Changed", ("tensor", "what", "numbers", "bytes"), rows)
    if len(changes) > _SHOWN:
        console.say(f"... and {len(changes) - _SHOWN} more; --json names all")
