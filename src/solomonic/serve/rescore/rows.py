"""Histories that a language model has read, one row each, read on in batches.

A row is a value: reading gives new rows and leaves the old ones as they were, so that a search can
go on from any of them. `NativeModel` and `LanguageModel` answer alike.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solomonic.lm.padding import pad
from solomonic.state import concatenate, gather

if TYPE_CHECKING:
    from solomonic.lm.model import ModelState

_TOGETHER = 64  # rows of one call: bounds what is held at once


class Rows:
    """What all threads may read with at once. Rows of one model fit every `Rows` of it.

    Args:
        reader: a `LanguageModel`, a `NativeModel`, or what reads like one of them.
    """

    def __init__(self, reader: Any) -> None:
        self._weak = weakref.ref(reader)  # `rows_of` must not keep it alive
        self._native = hasattr(reader, "streams")
        self._mine = threading.local()
        self._like: Any = None

    def start(self) -> Any:
        """The row before any token."""
        if self._native:
            return self._reader.streams(1).handles[0]
        return self._reader.init_state(1)

    @torch.no_grad()
    def read(
        self, rows: Sequence[Any], tokens: Sequence[Sequence[int]]
    ) -> tuple[list[Tensor], list[Any]]:
        """Let each row read its tokens (at least one).

        Returns:
            log-probabilities (T, V) float32 in nats after each token, a tensor a row; the rows
            after them.
        """
        found: dict[int, tuple[Tensor, Any]] = {}
        # Rows of like lengths together: little padding.
        order = sorted(range(len(rows)), key=lambda row: len(tokens[row]))
        for first in range(0, len(order), _TOGETHER):
            part = order[first : first + _TOGETHER]
            logs, after = self._batch([rows[row] for row in part], [tokens[row] for row in part])
            found.update(zip(part, zip(logs, after, strict=True), strict=True))
        pairs = [found[row] for row in range(len(rows))]
        return [logs for logs, _ in pairs], [after for _, after in pairs]

    def nbytes(self, row: Any) -> int:
        """Bytes that a row holds."""
        return row.bytes() if self._native else row.nbytes

    def export(self, row: Any) -> "ModelState":
        """The row as a `ModelState` of one row, which can be saved."""
        if not self._native:
            return row
        return self._streams([row]).to_state(self.like())

    def restore(self, state: "ModelState") -> Any:
        """The row of an exported state."""
        if not self._native:
            return state
        streams = self._reader.streams(1)
        streams.load_state(state)
        return streams.handles[0]

    def like(self) -> "ModelState":
        """An empty state of one row: the names and sizes of what `export` gives."""
        if not self._native:
            return self._reader.init_state(1)
        if self._like is None:
            from solomonic.lm.model import LanguageModel

            with torch.device("meta"):  # no weights: only the shape of its state is asked for
                state = LanguageModel(self._reader.config).init_state(1)
            self._like = state.map(
                lambda fill, x: torch.full(x.shape, fill, dtype=x.dtype, device="cpu")
            )
        return self._like

    @property
    def _reader(self) -> Any:
        reader = self._weak()
        assert reader is not None, "whoever holds rows holds their model"
        return reader

    def _streams(self, rows: Sequence[Any]) -> Any:
        from solomonic.lm.native import NativeStreams

        return NativeStreams(self._reader, list(rows))

    def _batch(
        self, rows: list[Any], tokens: list[Sequence[int]]
    ) -> tuple[list[Tensor], list[Any]]:
        padded, lengths = pad([list(line) for line in tokens])
        ragged = None if bool((lengths == padded.shape[1]).all()) else lengths
        if self._native:
            streams = self._streams([row.copy() for row in rows])
            logits = self._twin().read(padded, streams, ragged, every=True)
            after = streams.handles
        else:
            device = self._reader.device
            ragged = None if ragged is None else ragged.to(device)
            state = concatenate(rows)
            logits, state = self._reader(padded.to(device), state, ragged)
            numbers = torch.arange(len(rows), device=device)
            after = [gather(state, numbers[i : i + 1]) for i in range(len(rows))]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scores = logits.log_softmax(dim=-1).cpu()
        return [line[:length] for line, length in zip(scores, lengths.tolist(), strict=True)], after

    def _twin(self) -> Any:
        """The native model with this thread's own working memory."""
        if not hasattr(self._mine, "reader"):
            self._mine.reader = self._reader.twin()
        return self._mine.reader


_known: "weakref.WeakKeyDictionary[Any, Rows]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def rows_of(reader: Any) -> Rows:
    """The `Rows` of a model, one for all who ask."""
    with _lock:
        if reader not in _known:
            _known[reader] = Rows(reader)
        return _known[reader]
