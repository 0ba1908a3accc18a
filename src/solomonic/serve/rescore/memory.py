"""What one user said: the language model's state after it, and the words themselves.

Two memories of different kinds. The state is B'MOJO's own: constant in size, fading, with the
surprising tokens kept in its slots. `WordCache` holds the words verbatim with how often and how
lately they were said, and can be read by people. Both travel as one safetensors file in bytes,
which `solomonic.state.load` reads too; another model's is refused.

A `Memory` belongs to one user. Nothing of it is kept anywhere else: what a search finds out with it
lives in that search's `PrefixTree` only.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from torch import Tensor

from solomonic.core import CheckpointError, DataError
from solomonic.serve.rescore.cache import LIMIT, Said, WordCache
from solomonic.serve.rescore.rows import rows_of
from solomonic.serve.rescore.words import WordTokens
from solomonic.state import files
from solomonic.text.spoken import normalise

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel

_VERSION = 1
_LONGEST = 10_000  # characters of one utterance
_CHUNK = 256  # tokens read at once


class Uttered(Protocol):
    """What is asked of an utterance of a store (`serve.store.Utterance`)."""

    @property
    def text(self) -> str: ...

    @property
    def time(self) -> float: ...


class Recorded(Protocol):
    """What is asked of a user's record (`serve.store.UserMemory`)."""

    @property
    def phrases(self) -> Sequence[str]: ...

    @property
    def utterances(self) -> Sequence[Uttered]: ...

    @property
    def state(self) -> bytes | None: ...

    @property
    def fingerprint(self) -> str: ...


class Memory:
    """Make one with `new`, `from_bytes` or `from_record`; not for several threads at once.

    Attributes:
        row: the model's state after what was read (a row of `rows.Rows`).
        words: what was said, as words.
    """

    def __init__(self, lm: "LoadedModel", row: Any, words: WordCache) -> None:
        self.lm, self.row, self.words = lm, row, words
        self._rows = rows_of(lm.reader)

    @classmethod
    def new(cls, lm: "LoadedModel", *, limit: int = LIMIT) -> Self:
        """Nothing said yet.

        Args:
            limit: words that are kept verbatim.
        """
        return cls(lm, rows_of(lm.reader).start(), WordCache(limit))

    @classmethod
    def from_bytes(cls, lm: "LoadedModel", data: bytes) -> Self:
        """What `to_bytes` gave.

        Raises:
            CheckpointError: it is damaged, newer, or another model's.
        """
        rows = rows_of(lm.reader)
        state, notes = files.loads(data, rows.like(), lm.fingerprint)
        try:
            record = json.loads(notes)
            version = record["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"a user's memory is damaged ({error}); it must be made anew from the utterances."
            ) from error
        if not isinstance(version, int) or version > _VERSION:
            raise CheckpointError(
                f"a user's memory has version {version}, this program reads up to {_VERSION}; "
                "update solomonic."
            )
        if any(not bool(part.isfinite().all()) for _, part in state.leaves()):
            raise CheckpointError(
                "a user's memory holds NaN or infinity; it must be made anew from the utterances."
            )
        return cls(lm, rows.restore(state), WordCache.from_json(record))

    @classmethod
    def from_record(cls, lm: "LoadedModel", record: Recorded) -> Self:
        """A user's memory as a store has it.

        Where there is no state, or one of another model (which has been replaced since), the
        utterances of the record are read again.

        Raises:
            CheckpointError: the stored state is damaged.
        """
        if record.state is not None and record.fingerprint == lm.fingerprint:
            memory = cls.from_bytes(lm, record.state)
        else:
            memory = cls.new(lm)
            for said in record.utterances:
                memory.read(said.text, said.time)
        memory.set_phrases(record.phrases)
        return memory

    def read(self, text: str, time: float = 0.0) -> Self:
        """Take in one more sentence, in the order they were said; gives itself.

        Args:
            time: when it was said, unix s.

        Raises:
            DataError: it is longer than 10,000 characters.
        """
        if len(text) > _LONGEST:
            raise DataError(
                f"an utterance has {len(text):,} characters, more than {_LONGEST:,}; commit it in "
                "sentences."
            )
        words = tuple(normalise(text).split())
        if not words:
            return self
        tokens = WordTokens(self.lm.tokenizer)
        parts = [tokens.word(word, place == 0) for place, word in enumerate(words)]
        line = [tokens.end, *(token for part in parts for token in part)]
        log_probs: list[float] = []
        row = self.row
        for first in range(0, len(line), _CHUNK):
            piece = line[first : first + _CHUNK]
            logs, (row,) = self._rows.read([row], [piece])
            log_probs += _picked(logs[0], line[first + 1 : first + 1 + len(piece)])
        surprise, at = [], 0
        for part in parts:
            surprise.append(round(-sum(log_probs[at : at + len(part)]), 3))
            at += len(part)
        self.row = row
        self.words.add(Said(words, tuple(surprise), time))
        return self

    def set_phrases(self, phrases: Iterable[str]) -> None:
        """The user's personal words, in place of those given before."""
        self.words.set_phrases(normalise(phrase).split() for phrase in phrases)

    def names(self, most: int = 100) -> list[str]:
        """Surprising words that were said, the latest first: personal words for the recogniser."""
        return self.words.names(most)

    def to_bytes(self) -> bytes:
        """All of it, for `Store.commit(state=...)`."""
        notes = json.dumps({"version": _VERSION, **self.words.to_json()}, ensure_ascii=False)
        return files.dumps(self._rows.export(self.row), self.lm.fingerprint, notes)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory, roughly."""
        return self._rows.nbytes(self.row) + self.words.nbytes


def _picked(logs: Tensor, tokens: Sequence[int]) -> list[float]:
    """The log-probability (T, V) of each token that came next; there may be one less."""
    return [float(logs[place, token]) for place, token in enumerate(tokens)]
