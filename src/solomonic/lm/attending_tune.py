"""A short fine-tuning in which recalled slots are present, so that a model learns to read them.

A row is a piece of text with one fact hidden in it and, beyond every window, a question about it;
all of the row is predicted, so the model goes on modelling text while it learns that what stands in
the slots can be copied. The slots hold keys and values without gradient, as when they are used.
Without memory the same steps make the control.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import Config, DataError, require, require_least
from solomonic.lm.attending import MemoryAttention
from solomonic.lm.model import LanguageModel
from solomonic.text import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(Config):
    """Of the fine-tuning.

    Raises:
        ConfigError: a value out of range.
    """

    steps: int = 100
    rows: int = 8
    length: int = 512
    lr: float = 5e-4
    warmup: int = 10
    facts: float = 0.75
    """Share of the rows that hold a fact and its question; the others are plain text."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, 1, "steps", "rows", "length")
        require(0 <= self.facts <= 1, f"facts = {self.facts} must lie in [0, 1].")


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Tokens of a fact, of the question about it and of the answer."""

    fact: Sequence[int]
    question: Sequence[int]
    answer: Sequence[int]


def lesson(tokenizer: Tokenizer, fact: str, question: str, answer: str) -> Lesson:
    """Text to tokens; `question` as it is put, the answer follows it after a space."""
    return Lesson(
        tokenizer.encode(f"\n {fact}\n"), tokenizer.encode(question), tokenizer.encode(f" {answer}")
    )


def rows(
    tokens: np.ndarray, lessons: Sequence[Lesson], config: TuneConfig, period: int
) -> Iterator[np.ndarray]:
    """Rows (length + 1,) int64 for ever.

    The last token of a question stands at a boundary, so that what the question finds is there
    when the answer is foretold; the fact stands at least a third of the row before.

    Raises:
        DataError: too little text, or no lesson where some are wanted.
    """
    if len(tokens) < config.length + 1 or (config.facts and not lessons):
        raise DataError("fine-tuning needs a text longer than a row, and facts with questions.")
    chance = np.random.default_rng(config.seed)
    while True:
        start = int(chance.integers(0, len(tokens) - config.length))
        row = tokens[start : start + config.length + 1].astype(np.int64)
        if chance.random() < config.facts:
            one = lessons[int(chance.integers(0, len(lessons)))]
            last = (config.length - 1 - len(one.answer)) // period * period
            asked = last + 1 - len(one.question)
            most = asked - len(one.fact) - config.length // 3
            if most > 1:
                place = int(chance.integers(1, most))
                row[place : place + len(one.fact)] = one.fact
                row[asked : last + 1] = one.question
                row[last + 1 : last + 1 + len(one.answer)] = one.answer
        yield row


def fine_tune(
    model: LanguageModel | MemoryAttention,
    batches: Iterator[np.ndarray],
    config: TuneConfig,
    tell: Callable[[int, float], None] | None = None,
) -> None:
    """Train the model's weights in place on `rows`.

    Args:
        model: with memory, or the bare one as the control.
        tell: called with the step and its loss, in nats a token.
    """
    inner = model.model if isinstance(model, MemoryAttention) else model
    weights = list(inner.parameters())
    optimiser = torch.optim.AdamW(weights, lr=config.lr, betas=(0.9, 0.95), weight_decay=0.01)
    inner.train()
    for step in range(config.steps):
        batch = torch.from_numpy(np.stack([next(batches) for _ in range(config.rows)]))
        rate = min((step + 1) / config.warmup, (config.steps - step) / max(config.steps // 2, 1), 1)
        for group in optimiser.param_groups:
            group["lr"] = config.lr * rate
        loss = _loss(model, inner, batch.to(inner.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if tell is not None:
            tell(step + 1, loss.item())
    inner.eval()


def _loss(model: LanguageModel | MemoryAttention, inner: LanguageModel, batch: Tensor) -> Tensor:
    hidden, _ = model.hidden(batch[:, :-1])
    logits = inner.head(hidden).float()
    return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
