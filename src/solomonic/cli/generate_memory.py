"""What `solomonic generate` does with `--memory` and `--cite`: a store read inside the loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.lm.generate import Reader
    from solomonic.memory.reader.citation import Citation
    from solomonic.text import Tokenizer


@contextlib.contextmanager
def remembering(
    reader: Reader,
    tokenizer: Tokenizer,
    store: str | None,
    cite: bool,
    state: Any,
    quote: bool = False,
) -> Iterator[tuple[Reader, Any]]:
    """The reader and its state with a memory around them, if `--memory` names one.

    Raises:
        ConfigError: `--cite` or `--quote` without a memory.
        StorageError: there is no store.
    """
    if store is None:
        if cite:
            raise ConfigError("--cite names places in a store; give one with --memory STORE.")
        if quote:
            raise ConfigError("--quote quotes from a store; give one with --memory STORE.")
        yield reader, state
        return
    from solomonic.cli.quotes import quoting
    from solomonic.lm.remembering import Remembering
    from solomonic.memory import Memory

    with Memory.open(store, read_only=True) as memory:
        wrapped = Remembering(reader, tokenizer, memory=memory)
        outer = quoting(wrapped, memory, tokenizer) if quote else wrapped
        yield outer, None if state is None else wrapped.wrap(state)


def plain(state: Any) -> Any:
    """The model's own part of a state, which `--save` keeps."""
    from solomonic.lm.remembering import RememberingState

    return state.model if isinstance(state, RememberingState) else state


def citations(reader: Reader, state: Any, output: list[int]) -> list[Citation]:
    """Where the output came from; without a memory nowhere."""
    from solomonic.lm.quoting import Quoting
    from solomonic.lm.remembering import Remembering

    reader = reader.reader if isinstance(reader, Quoting) else reader
    if not isinstance(reader, Remembering) or state is None:
        return []
    return reader.citations(state, output)


def show(found: list[Citation]) -> str:
    """One line a citation, for people."""
    if not found:
        return "Nothing of this is from the store or stood in the text before."
    lines = []
    for number, one in enumerate(found, start=1):
        text = " ".join(one.text.split())
        lines.append(
            f"[{number}] {one.source}, character {one.offset}: “{text}” ({one.weight:.0%})"
        )
    return "\n".join(lines)
