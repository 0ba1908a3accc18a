"""Texts in progress as rows that are read together: gather, step, scatter, for either engine.

A row's state has a constant size (but for T layers), so rows join and leave between any two steps.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from solomonic.lm.padding import pad
from solomonic.state import ops

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.lm.native import NativeModel


class Rows(Protocol):
    """What the worker asks of a model; a state is one row's."""

    def start(self) -> Any:
        """The state of a text before its first token."""
        ...

    def copy(self, state: Any) -> Any:
        """A state that goes its own way."""
        ...

    def read(self, states: list[Any], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, list[Any]]:
        """Logits (n, V) float32 after each row's last token, and the states after them."""
        ...


class NativeRows:
    """Rows of the native core: one call reads all, whatever number of tokens each has. What a row
    reads does not depend on the others, to the last bit."""

    def __init__(self, model: "NativeModel") -> None:
        self._model = model.twin()

    def start(self) -> Any:
        return self._model.streams(1)

    def copy(self, state: Any) -> Any:
        return state.gather([0])

    def read(self, states: list[Any], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, list[Any]]:
        joined = self._model.streams(0)
        joined.handles = [handle for state in states for handle in state.handles]
        padded, lengths = pad(tokens)
        return self._model.read(padded, joined, lengths), states


class TorchRows:
    """Rows of the torch model: those with as many tokens are read together."""

    def __init__(self, model: "LanguageModel") -> None:
        self._model = model

    def start(self) -> Any:
        return self._model.init_state(1)

    def copy(self, state: Any) -> Any:
        return state  # states are values

    @torch.no_grad()
    def read(self, states: list[Any], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, list[Any]]:
        logits = torch.empty(len(states), self._model.config.vocab_size)
        after = list(states)
        for length in sorted({len(row) for row in tokens}):
            members = [index for index, row in enumerate(tokens) if len(row) == length]
            joined = ops.concatenate([states[index] for index in members])
            read = torch.tensor([tokens[index] for index in members], device=self._model.device)
            found, joined = self._model.next_logits(read, joined)
            logits[members] = found.float().cpu()
            for place, index in enumerate(members):
                here = torch.tensor([place], device=self._model.device)
                after[index] = ops.gather(joined, here)
        return logits, after


def rows_of(reader: "NativeModel | LanguageModel") -> Rows:
    """Rows of a loaded model."""
    from solomonic.lm.model import LanguageModel

    return TorchRows(reader) if isinstance(reader, LanguageModel) else NativeRows(reader)
