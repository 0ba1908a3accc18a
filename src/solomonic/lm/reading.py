"""Reading a long document into a state file, in parts: what has been read is never lost.

    reading = Reading(model, tokens, "moby.state", notes, tokenizer=tokenizer)
    for progress in reading:
        print(progress.read, "of", progress.tokens)

The state is saved now and then, at the end, and when the reading is broken off, by Ctrl-C or an
error. The same call then goes on where the file stands. A reading that was broken off ends in the
same file, bit for bit, as one that was not: saving is done between chunks only.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from solomonic.core import ConfigError, DataError
from solomonic.lm.decays import Decays, Products
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.state_files import Document, ReadState, StateNotes, load_state, save_state
from solomonic.text import Tokenizer

CHUNK = 1024
"""Tokens a call; the grid on which a reading can be taken up again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a reading has come: tokens read of this document, of how many, whether they were
    there before (`resumed`), and the seconds of this run."""

    read: int
    tokens: int
    resumed: int
    seconds: float


class Reading:
    """Iterate over it to read; it saves by itself.

    Args:
        model: with the deltas it is to be used with.
        tokens: of the document, with the end-of-text token in front where it begins a text.
        path: of the state file. One that holds an unfinished reading of this document is gone on
            with; any other is refused unless `replace`.
        notes: whose one document has the name and, where known, the SHA-256 of its text; the rest
            is filled in.
        start: what was read before (documents stand one after the other then), or None.
        every: seconds between saves.

    Raises:
        CheckpointError: the file there is damaged or of another model.
        ConfigError: the file there holds something else.
        DataError: there are no tokens.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[int],
        path: str | Path,
        notes: StateNotes,
        *,
        tokenizer: Tokenizer | None = None,
        start: ReadState | None = None,
        every: float = 30.0,
        replace: bool = False,
    ) -> None:
        if len(tokens) < 2:
            raise DataError("the document is empty; give one with at least one character.")
        self.model, self.path, self.tokenizer = model, Path(path), tokenizer
        self.tokens, self.every, self.clock = list(tokens), every, time.monotonic
        self._before: tuple[Document, ...] = () if start is None else start.notes.documents
        self._notes = notes
        (given,) = notes.documents
        digest = _digest(tokens, given.digest)
        document = dataclasses.replace(given, tokens=len(tokens), read=0, digest=digest)
        state: ModelState | None = None if start is None else start.into(model)
        decays: Products = {} if start is None else dict(start.decays)
        self._reached = (state, decays, document)
        self.resumed = 0
        if self.path.exists() and not replace:
            self._resume()

    @property
    def _document(self) -> Document:
        return self._reached[2]

    @property
    def finished(self) -> bool:
        """Whether nothing is left but the token that begins the next prompt."""
        return self._document.complete

    def __iter__(self) -> Iterator[Progress]:
        started = saved = self.clock()
        stale = self._document.read > self.resumed
        try:
            with Decays(self.model, self._reached[1]) as decays:
                while not self.finished:
                    self._chunk(decays)
                    stale = True
                    if self.clock() - saved >= self.every:
                        self.save()
                        saved, stale = self.clock(), False
                    yield Progress(
                        read=self._document.read,
                        tokens=len(self.tokens),
                        resumed=self.resumed,
                        seconds=self.clock() - started,
                    )
        finally:
            if stale:
                self.save()

    @torch.no_grad()
    def _chunk(self, decays: Decays) -> None:
        first = self._document.read
        part = self.tokens[first : min(first + CHUNK, len(self.tokens) - 1)]
        before = dict(decays.products)
        try:
            row = torch.tensor([part], device=self.model.device)
            _, state = self.model.hidden(row, self._reached[0])
        except BaseException:
            decays.products = before  # the state that stays has not read these tokens
            raise
        document = dataclasses.replace(self._document, read=first + len(part))
        # One assignment, so that an interrupt never finds the state and its count apart.
        self._reached = (state, dict(decays.products), document)

    def save(self) -> None:
        """Write what has been read so far.

        Raises:
            StorageError: the disk is full or the place cannot be written.
        """
        state, decays, document = self._reached
        if state is None:
            return
        notes = dataclasses.replace(
            self._notes,
            documents=(*self._before, document),
            unread=(self.tokens[document.read],),
        )
        save_state(self.path, self.model, state, notes, decays, self.tokenizer)

    def _resume(self) -> None:
        found = load_state(self.path, self.model, self.tokenizer)
        last = found.notes.documents[-1] if found.notes.documents else None
        mine = self._document
        same = last is not None and (last.digest, last.tokens) == (mine.digest, mine.tokens)
        if last is None or not same or found.notes.documents[:-1] != self._before:
            raise ConfigError(
                f"{self.path} already holds what was read of "
                f"{last.name if last else 'another text'}; give another --save, or --overwrite."
            )
        self._reached = (found.into(self.model), found.decays, last)
        self.resumed = last.read


def _digest(tokens: Sequence[int], text: str) -> str:
    """Of the document's text where the caller knows it, else of its tokens."""
    return text or hashlib.sha256(repr(list(tokens)).encode()).hexdigest()
