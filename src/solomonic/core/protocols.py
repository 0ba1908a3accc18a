"""The three protocols that remove imports which would point upward or sideways.

`Task` lets training know a batch and its loss and nothing of text or speech; `Scorer` lets speech
fuse any language model; `Predictor` lets a trained model, context-tree weighting and a Solomonoff
mixture answer the same question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


@runtime_checkable
class Task(Protocol):
    """What the training loop may know: a model, a resumable stream of batches, and a loss."""

    model: nn.Module

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield (batch, position after it) for ever, starting at `position` (None: the start).

        A position is JSON: a run resumed from it sees exactly the batches it would have seen.
        """
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Mean loss in nats (a scalar with gradient) and figures for the log."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data; the key 'loss' is what the best checkpoint is chosen by."""
        ...

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """Names of parameters by group: 'ssm', 'attention', 'no_decay'."""
        ...

    def save(self, directory: str) -> None:
        """Write the model (not the optimizer) into an existing directory."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A language model as a fusion partner: token log-probabilities from an explicit state."""

    vocab_size: int

    def start(self, batch: int) -> Any:
        """The state before any token, for `batch` rows."""
        ...

    def score(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """Log-probabilities (batch, vocab_size) after `tokens` (batch,), and the next state."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A sequential predictor over a finite alphabet: the one question that context trees, mixers,
    bounded Solomonoff mixtures and trained models all answer (tests/contracts/test_predictor.py
    holds the laws).
    """

    alphabet: int

    def predict(self) -> np.ndarray:
        """Probabilities of the next symbol, shape (alphabet,), float64: each above 0, summing to 1.

        Changes nothing: asked twice, it answers the same.
        """
        ...

    def update(self, symbol: int) -> float:
        """Read the symbol that came; returns its cost in bits, -log2 predict()[symbol].

        Raises:
            VocabularyError: the symbol lies outside the alphabet; nothing was read.
        """
        ...

    def fork(self) -> Self:
        """A copy that goes its own way."""
        ...

    def state(self) -> bytes:
        """All that was learned and read; what does not change (weights) is not in it."""
        ...

    def load(self, data: bytes) -> Self:
        """A predictor of this one's kind and settings in the state `data`, to the last bit.

        It is a method and not a constructor because settings, and the weights of a trained model,
        are not part of a state.

        Raises:
            CheckpointError: the state is cut short, damaged, or of other settings.
        """
        ...


@runtime_checkable
class BitPredictor(Predictor, Protocol):
    """A predictor of bytes that works bit by bit, the highest first, and can be asked so."""

    def bit(self) -> float:
        """Probability that the next bit is a one, between 0 and 1, neither included."""
        ...

    def learn(self, bit: int) -> None:
        """Read one bit; eight of them are an `update`."""
        ...
