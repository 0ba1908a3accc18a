"""A language model as a scorer: log-probabilities of tokens and of text, at constant memory."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solomonic.core import DataError, ShapeError
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel, ModelState
    from solomonic.lm.native import NativeModel

CHUNK = 1024  # columns scored at once; bounds memory and changes no number


class LanguageModelScorer:
    """A `LanguageModel` as `solomonic.core.Scorer`, for fusion with speech or for reranking.

    A state belongs to the caller; `solomonic.state.gather` follows the beams of a search.
    """

    def __init__(self, model: "LanguageModel") -> None:
        self.model = model
        self.vocab_size = model.config.vocab_size

    def start(self, batch: int) -> "ModelState":
        """The state before any token, for `batch` rows."""
        return self.model.init_state(batch)

    @torch.no_grad()
    def score(self, state: "ModelState", tokens: Tensor) -> tuple[Tensor, "ModelState"]:
        """Log-probabilities (batch, vocab_size) in nats after `tokens` (batch,), and the state."""
        logits, state = self.model(tokens[:, None], state)
        return _log_softmax(logits[:, 0]), state


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextScore:
    """What a model thinks of a text.

    Attributes:
        tokens: the text's token ids.
        log_probs: log p(token | all before it) in nats, one a token.
        num_bytes: length of the text in UTF-8.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    num_bytes: int

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole text, in nats."""
        return math.fsum(self.log_probs)

    @property
    def bits_per_byte(self) -> float:
        """Length of the text's code over its length: comparable between tokenizers."""
        return -self.log_prob / math.log(2) / self.num_bytes


@torch.no_grad()
def token_log_probs(
    model: "LanguageModel | NativeModel", tokens: Tensor, state: Any = None, chunk: int = CHUNK
) -> tuple[Tensor, Any]:
    """Log p(tokens[:, t+1] | tokens[:, :t+1]) in nats, shape (B, T-1), and the state.

    The state has read all tokens but the last, which can begin the next call.

    Args:
        tokens: (B, T) int64 with T >= 2.
        state: what the rows have read before; None is the start of a stream.
        chunk: columns at once.

    Raises:
        ShapeError: there is no token to score.
    """
    if tokens.dim() != 2 or tokens.shape[1] < 2:
        raise ShapeError(
            f"tokens of shape {tuple(tokens.shape)} hold nothing to score; give (batch, length) "
            "with at least 2 columns, the first of which is only read."
        )
    reached: Any = model.init_state(len(tokens)) if state is None else state
    scores = []
    for begin in range(0, tokens.shape[1] - 1, chunk):
        targets = tokens[:, begin + 1 : begin + 1 + chunk]
        logits, reached = model(tokens[:, begin : begin + targets.shape[1]], reached)
        scores.append(_log_softmax(logits).gather(-1, targets[..., None])[..., 0])
    return torch.cat(scores, dim=1), reached


def score_text(
    model: "LanguageModel | NativeModel",
    tokenizer: Tokenizer,
    text: str | bytes,
    context: str | bytes = "",
) -> TextScore:
    """The log-probability of `text` as the beginning of a document, or after `context`.

    Context and text are encoded apart, so that the tokens scored are those of `text` alone.

    Raises:
        DataError: the text is empty.
    """
    before = [tokenizer.eos_id, *tokenizer.encode(context)]
    wanted = tokenizer.encode(text)
    if not wanted:
        raise DataError("the text to score is empty; give at least one character.")
    scores, _ = token_log_probs(model, torch.tensor([before + wanted], device=model.device))
    return TextScore(
        tokens=tuple(wanted),
        log_probs=tuple(scores[0, len(before) - 1 :].tolist()),
        num_bytes=sum(len(tokenizer.token_bytes(token)) for token in wanted),
    )


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
