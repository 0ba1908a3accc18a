"""`solomonic merge A B -o C`: states of documents read apart, as one state that knows them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json


def merge(
    states: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="State files of `solomonic read`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="C", help="State file to write.")],
    method: Annotated[
        str,
        typer.Option(help="'mean' over all orders, over the 'rotations' of this one, or 'order'."),
    ] = "mean",
    json: Json = False,
) -> None:
    """Merge what was read of several documents into one state, as large as each of them.

    The fading memories become the mean over all orders in which the documents may be read, the
    eidetic slots keep the most surprising tokens of all, and the window is the last document's.
    """
    from solomonic.lm.merging import merge_states
    from solomonic.lm.state_files import inspect_state, write_state

    merged = merge_states(states, method=method)
    write_state(out, merged)
    if json:
        console.emit(inspect_state(out))
        return
    count = sum(document.read for document in merged.notes.documents)
    console.say(
        f"{merged.notes.merged}, {count:,} tokens read; {out}: "
        f"{console.show_bytes(out.stat().st_size)}"
    )
