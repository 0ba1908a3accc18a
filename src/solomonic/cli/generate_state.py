"""What `solomonic generate` does with `--load`, `--save` and `--adapt`: states and deltas."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.lm.state_files import ReadState
    from solomonic.text import Tokenizer


@dataclasses.dataclass
class Session:
    """A model as it is asked for: with deltas applied, and going on from what a state file says.

    Attributes:
        model, tokenizer: of the folder or device file.
        read: what `--load` gave, or None.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    place: str
    read: ReadState | None

    def prompt(self, tokens: list[int], given: bool) -> list[int]:
        """Tokens to begin with: those that the state left unread, then the prompt's.

        Args:
            given: whether the user gave a prompt; without one only the unread tokens are left.
        """
        if self.read is None:
            return tokens
        unread = list(self.read.notes.unread)
        return [*unread, *tokens] if given or not unread else unread

    def state(self, reader: Any) -> Any:
        """Where `reader` begins; None is the start of a stream."""
        return None if self.read is None else self.read.into(reader)

    def save(self, path: Path, state: Any, prompt: Sequence[int], written: Sequence[int]) -> None:
        """Write the state after a generation: everything read, with the last token unread.

        Args:
            state: the `Generation`'s.
            prompt: what it began with; written: the tokens it gave.

        Raises:
            ConfigError: nothing was generated.
            StorageError: the place cannot be written.
        """
        from solomonic.lm.decays import decays_after
        from solomonic.lm.state_files import Document, StateNotes, save_state

        if state is None or not written:
            raise ConfigError("--save keeps the state after what was written, and nothing was.")
        seen = [*prompt, *written[:-1]]
        before = None if self.read is None else self.read.into(self.model)
        start = {} if self.read is None else self.read.decays
        known = self.read is None or bool(start)
        decays = decays_after(self.model, seen, before, start) if known else {}
        notes = StateNotes(model=self.place) if self.read is None else self.read.notes
        talk = Document(name="generated", tokens=len(seen) + 1, read=len(seen))
        notes = dataclasses.replace(
            notes, documents=(*notes.documents, talk), unread=(int(written[-1]),)
        )
        save_state(path, self.model, state, notes, decays, self.tokenizer)


def open_session(
    directory: Path | None, load: Path | None, deltas: Sequence[Path] | None, device: str
) -> Session:
    """Load the model, apply the deltas in order, then the state, which belongs to what they give.

    Raises:
        ConfigError: neither a model nor a state that names one.
        CheckpointError: something is damaged, or does not belong together.
    """
    from solomonic.cli.documents import load_model
    from solomonic.lm.adapt.delta import Delta
    from solomonic.lm.state_files import load_state

    if directory is None:
        named = load_state(load).notes.model if load is not None else ""
        if not named:
            raise ConfigError(
                "give the DIR of a model; only a state file of `solomonic read` (--load S) names "
                "its own."
            )
        directory = Path(named)
    model, tokenizer, place = load_model(directory)
    model = model.to(device)
    for path in deltas or ():
        Delta.load(path).apply(model)
    read = None if load is None else load_state(load, model, tokenizer)
    return Session(model, tokenizer, place, read)
