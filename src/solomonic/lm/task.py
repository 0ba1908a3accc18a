"""A language model as a training `Task`: batches of windows, loss, held-out figures."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import Config, ConfigError, require
from solomonic.lm.data import TokenData
from solomonic.lm.loss import next_token_loss
from solomonic.lm.pretrained import write_pretrained
from solomonic.lm.score import token_log_probs
from solomonic.lm.windows import Windows
from solomonic.state import gather
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(Config):
    """Shape of a batch, and how held-out text is read.

    Raises:
        ConfigError: a value out of range.
    """

    batch_size: int
    """Rows of a batch (`TrainConfig.batch_size` holds the default)."""
    length: int = 256
    """Tokens predicted per row."""
    seed: int = 0
    """Order of the windows."""
    eval_tokens: int | None = 131_072
    """Held-out tokens read per evaluation, from the start; None: all."""
    eval_lanes: int = 8
    """Stretches of the held-out text read side by side, each with its own state."""
    eval_carry: bool | None = None
    """Carry the state along each lane; False: begin anew every `length` tokens. None: carry unless
    a full-attention layer is in the pattern, whose state would grow with the text."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "eval_lanes"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(
            self.eval_tokens is None or self.eval_tokens >= 1,
            f"eval_tokens = {self.eval_tokens} must be at least 1 (None: everything).",
        )


class LanguageModelTask:
    """Next-token prediction on token streams; a `solomonic.core.Task`.

    Raises:
        ConfigError: the tokenizer has more tokens than the model.
        DataError: the training text is shorter than one window.
    """

    def __init__(
        self, model: "LanguageModel", tokenizer: Tokenizer, data: TokenData, config: TaskConfig
    ) -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the model only "
                f"{model.config.vocab_size}; set vocab_size = {tokenizer.vocab_size}."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self._windows = Windows(
            data.train,
            length=config.length,
            batch_size=config.batch_size,
            seed=config.seed,
            fingerprint=data.fingerprint,
        )
        limit = None if config.eval_tokens is None else config.eval_tokens + 1
        self._held_out = data.valid[:limit]
        self._byte_lengths = tokenizer.byte_lengths()

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Tensor, dict]]:
        """Windows (batch_size, length + 1) int64 in a seeded order, for ever."""
        return self._windows.batches(position)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Mean negative log-likelihood of a window's tokens after the first, in nats."""
        tokens = batch.to(self._device, non_blocking=True)
        loss = next_token_loss(self.model, tokens)
        return loss, {"tokens": float(tokens[:, 1:].numel())}

    def evaluate(self) -> dict[str, float]:
        """Figures on the held-out text; empty if there is none.

        Every token after the first is predicted exactly once. Returns 'loss' (nats per token),
        'perplexity', 'bits_per_byte', 'eval_tokens', 'eval_bytes' (those the predicted tokens stand
        for) and 'context' (the most tokens any prediction had behind it).
        """
        if len(self._held_out) < 2:
            return {}
        carry = self.config.eval_carry
        if carry is None:
            carry = "T" not in self.model.config.layers
        read = self._read_lanes if carry else self._read_windows
        nats, context = read(self._held_out)
        targets = self._held_out[1:]
        size = int(self._byte_lengths[targets].sum())
        loss = nats / len(targets)
        return {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "bits_per_byte": nats / math.log(2) / size if size else math.inf,
            "eval_tokens": float(len(targets)),
            "eval_bytes": float(size),
            "context": float(context),
        }

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """As the model says: 'ssm', 'attention', 'no_decay'."""
        return self.model.parameter_groups()

    def save(self, directory: str) -> None:
        """Write the model and its tokenizer as `load_pretrained` and Transformers read them."""
        write_pretrained(Path(directory), self.model, self.tokenizer)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _read_lanes(self, tokens: np.ndarray) -> tuple[float, int]:
        """Total nats, with the state carried along lanes of equal length.

        The last lane also reads the few tokens that the division leaves over.
        """
        targets = len(tokens) - 1
        # A lane begins without its past, so lanes far shorter than a window would cost accuracy.
        lanes = max(1, min(self.config.eval_lanes, targets // (8 * self.config.length)))
        size = targets // lanes
        nats, state = 0.0, None
        for at in range(0, size, self.config.length):
            end = min(at + self.config.length, size)
            rows = np.stack([tokens[n * size + at : n * size + end + 1] for n in range(lanes)])
            scores, state = token_log_probs(self.model, self._tensor(rows), state)
            nats -= float(scores.double().sum())
        left = tokens[lanes * size :]
        if len(left) > 1 and state is not None:
            last = gather(state, torch.tensor([lanes - 1], device=self._device))
            scores, _ = token_log_probs(self.model, self._tensor(left[None]), last)
            nats -= float(scores.double().sum())
        return nats, size + len(left) - 1

    def _read_windows(self, tokens: np.ndarray) -> tuple[float, int]:
        """Total nats, every window of `length` targets from an empty state."""
        length, lanes = self.config.length, self.config.eval_lanes
        whole = (len(tokens) - 1) // length
        nats = 0.0
        for first in range(0, whole, lanes):
            numbers = range(first, min(first + lanes, whole))
            rows = np.stack([tokens[n * length : (n + 1) * length + 1] for n in numbers])
            scores, _ = token_log_probs(self.model, self._tensor(rows))
            nats -= float(scores.double().sum())
        left = tokens[whole * length :]
        if len(left) > 1:
            scores, _ = token_log_probs(self.model, self._tensor(left[None]))
            nats -= float(scores.double().sum())
        return nats, min(length, len(tokens) - 1)

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self._device)
