"""Test-time training on retrieved neighbours, and in-context examples chosen the same way.

The k stored chunks nearest to what has been read are each learned from by one step, the farthest
first, so that the nearest has the last word; then the next stretch is read, and the weights go
back to what they were, bit for bit (Hardt and Sun, arXiv 2305.18466; there the query is the very
text that is then scored, here only what came before it, so nothing is scored that was looked at).
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.lm.adapt.config import AdaptConfig
from solomonic.lm.adapt.dynamic import Clock
from solomonic.lm.adapt.learner import Learner
from solomonic.lm.model import LanguageModel
from solomonic.text import Tokenizer


class Searchable(Protocol):
    """What is asked of a memory: `solomonic.memory.Memory`, or anything that answers alike."""

    def search(self, query: Any, k: int = 10) -> Sequence[Any]:
        """Hits, the best first; each has `.item` with `.text`, `.source`, `.offset`, and
        `.score`."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A stored chunk that was used: where it stands, its score, and its tokens."""

    source: str
    offset: int
    score: float
    tokens: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Where it stands; without its tokens."""
        return {"source": self.source, "offset": self.offset, "score": self.score}


def find(
    memory: Searchable, tokenizer: Tokenizer, tokens: Sequence[int], config: AdaptConfig, k: int
) -> list[Neighbour]:
    """The `k` stored chunks nearest to the last of `tokens`, the farthest first."""
    query = tokenizer.decode(tokens[-config.query_tokens :]).strip()
    if not query or k == 0:
        return []
    found = []
    for hit in memory.search(query, k):
        ids = tokenizer.encode(hit.item.text)[: config.neighbour_tokens]
        if ids:
            found.append(
                Neighbour(
                    source=hit.item.source,
                    offset=hit.item.offset,
                    score=float(hit.score),
                    tokens=tuple(ids),
                )
            )
    return found[::-1]


class NeighbourTraining:
    """Learns from neighbours and goes back.

    training = NeighbourTraining(model, tokenizer, memory, config)
    training.prepare(context)     # weights now lean towards the context's neighbours
    ...
    training.restore()            # bit-exactly the weights of before

    Args:
        statistics: mean squared training gradients, or None.
        deadline: on `clock`; no step begins after it.
        learner: to go on with, instead of one of its own.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        memory: Searchable,
        config: AdaptConfig | None = None,
        statistics: Mapping[str, Tensor] | None = None,
        *,
        deadline: float | None = None,
        clock: Clock = time.monotonic,
        learner: Learner | None = None,
    ) -> None:
        self.model, self.tokenizer, self.memory = model, tokenizer, memory
        self.config = config or AdaptConfig()
        self.learner = learner or Learner(model, self.config, statistics)
        self.deadline, self.clock = deadline, clock

    def prepare(self, context: Sequence[int]) -> list[Neighbour]:
        """One step on each neighbour of the tokens read so far; those that were used."""
        used = []
        count = self.config.neighbours
        for neighbour in find(self.memory, self.tokenizer, context, self.config, count):
            if self.deadline is not None and self.clock() >= self.deadline:
                break
            self.learn(neighbour.tokens)
            used.append(neighbour)
        return used

    def learn(self, tokens: Sequence[int]) -> None:
        """One step on a text of its own, from its beginning."""
        row = torch.tensor([self.tokenizer.eos_id, *tokens], device=self.model.device)
        with self.learner.gradients():
            logits, _ = self.model(row[None, :-1])
            loss = cross_entropy(logits[0].float(), row[1:])
        self.learner.step(loss, self.config.neighbour_rate)

    def restore(self) -> None:
        """The weights of before, bit for bit."""
        self.learner.restore()


@torch.no_grad()
def neighbour_log_probs(
    training: NeighbourTraining, tokens: Tensor, stretch: int = 256
) -> Iterator[tuple[Tensor, list[Neighbour]]]:
    """Nats of tokens[1:] of a stream (T,), a stretch at a time, with the neighbours used for it.

    Every stretch is scored with weights that have learned from the neighbours of what stands
    before it. The state is carried on as those weights left it.
    """
    model, state = training.model, None
    for begin in range(0, len(tokens) - 1, stretch):
        targets = tokens[begin + 1 : begin + 1 + stretch]
        try:
            used = training.prepare(tokens[: begin + 1].tolist()) if begin else []
            inputs = tokens[begin : begin + len(targets)]
            logits, state = model(inputs[None], state)
        finally:
            training.restore()
        wide = torch.promote_types(logits.dtype, torch.float32)
        scores = logits[0].to(wide).log_softmax(dim=-1).gather(-1, targets[:, None])[:, 0]
        yield scores, used


def choose_examples(
    memory: Searchable, tokenizer: Tokenizer, tokens: Sequence[int], config: AdaptConfig
) -> list[Neighbour]:
    """In-context examples for a text: stored chunks to read before it, the nearest last.

    All together have at most `config.example_tokens` tokens, the end-of-text token behind each
    included; a chunk that no longer fits is left out, the farthest first.
    """
    found = find(memory, tokenizer, tokens, config, config.examples)
    kept: list[Neighbour] = []
    left = config.example_tokens
    for neighbour in reversed(found):
        if len(neighbour.tokens) + 1 <= left:
            left -= len(neighbour.tokens) + 1
            kept.append(neighbour)
    return kept[::-1]


def examples_prompt(examples: Sequence[Neighbour], tokenizer: Tokenizer) -> list[int]:
    """The tokens of examples as documents of their own, each behind an end-of-text token."""
    return [token for e in examples for token in (tokenizer.eos_id, *e.tokens)]
