"""`adapt`: one call that fits a model to a text, with what is stored and in the time there is."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from solomonic.core import ConfigError, DataError
from solomonic.lm.adapt.config import AdaptConfig
from solomonic.lm.adapt.delta import Delta
from solomonic.lm.adapt.dynamic import Clock, DynamicEvaluation
from solomonic.lm.adapt.learner import Learner
from solomonic.lm.adapt.neighbours import (
    Neighbour,
    NeighbourTraining,
    Searchable,
    choose_examples,
    examples_prompt,
)
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.text import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptResult:
    """What `adapt` has done. The model itself is as it was: apply the delta to use it.

    Attributes:
        delta: what was learned; None when nothing was.
        state: after the examples and all tokens of the text that were read but the last, which
            is `unread`'s first: begin the next prompt with it (as after a `Generation`).
        unread: tokens of the text that are still to be read: the last one, or more when the time
            ran out.
        log_probs: nats of the text's tokens that were scored, each before it was learned from.
        neighbours: stored chunks learned from; examples: stored chunks read before the text.
        steps: of learning; seconds: that all took; finished: whether the time was enough.
    """

    delta: Delta | None
    state: ModelState | None
    unread: tuple[int, ...]
    log_probs: tuple[float, ...]
    neighbours: tuple[Neighbour, ...]
    examples: tuple[Neighbour, ...]
    steps: int
    seconds: float
    finished: bool

    @property
    def bits(self) -> float:
        """Length of the code of what was scored."""
        return -math.fsum(self.log_probs) / math.log(2)

    def report(self) -> list[str]:
        """What was done, a sentence each."""
        lines = []
        if self.examples:
            lines.append(f"read {len(self.examples)} stored examples before the text")
        if self.neighbours:
            lines.append(f"learned from {len(self.neighbours)} stored neighbours, a step each")
        if self.log_probs:
            mean = self.bits / len(self.log_probs)
            lines.append(f"read {len(self.log_probs)} tokens at {mean:.3f} bits a token")
        lines.append(f"{self.steps} steps in {self.seconds:.2f} s")
        if not self.finished:
            lines.append(f"the time ran out with {len(self.unread) - 1} tokens unread")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Figures without weights and states."""
        return {
            "tokens": len(self.log_probs),
            "bits": self.bits,
            "steps": self.steps,
            "seconds": self.seconds,
            "finished": self.finished,
            "unread": len(self.unread),
            "delta_bytes": 0 if self.delta is None else self.delta.nbytes,
            "neighbours": [n.to_json() for n in self.neighbours],
            "examples": [n.to_json() for n in self.examples],
        }


def adapt(
    model: LanguageModel,
    text: str | bytes | Sequence[int] | Tensor,
    *,
    tokenizer: Tokenizer | None = None,
    memory: Searchable | None = None,
    budget_seconds: float | None = None,
    config: AdaptConfig | None = None,
    statistics: Mapping[str, Tensor] | None = None,
    clock: Clock = time.monotonic,
) -> AdaptResult:
    """Fit a model to a text: by examples, by neighbours, by learning from the text itself.

    The methods of `config` are done in the order of `METHODS`: stored examples are read before the
    text, the weights take a step on every stored neighbour of the text's end, and the text is read
    with a step after each segment ("dynamic"), or without ("dynamic" left out). The model is
    unchanged afterwards, bit for bit, also when an error or Ctrl-C comes.

    Args:
        model: in evaluation mode; its deltas stay applied, and the new one is learned over them.
        text: text, which begins a document, or token ids (T,), the first of which is only read.
        tokenizer: needed for text and with a memory.
        memory: where neighbours and examples are looked for.
        budget_seconds: no step begins after so much time; at most the one under way ends later.
        statistics: mean squared training gradients (`statistics.collect`).
        clock: seconds.

    Raises:
        ConfigError: something that a method needs is not given.
        DataError: the text is empty.
    """
    config = config or AdaptConfig()
    call = _Call(model, tokenizer, memory, config, statistics, budget_seconds, clock)
    tokens = _tokens(text, tokenizer, model)
    try:
        return call.run(tokens)
    finally:
        call.learner.restore()


class _Call:
    """One call of `adapt`: what its methods share."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        memory: Searchable | None,
        config: AdaptConfig,
        statistics: Mapping[str, Tensor] | None,
        budget: float | None,
        clock: Clock,
    ) -> None:
        self.started, self.clock = clock(), clock
        self.deadline = None if budget is None else self.started + budget
        self.model, self.config = model, config
        self.methods = config.methods or (("neighbours", "dynamic") if memory else ("dynamic",))
        self.stored = None if memory is None or tokenizer is None else (memory, tokenizer)
        asks = sorted(set(self.methods) & {"neighbours", "examples"})
        if asks and self.stored is None:
            raise ConfigError(
                f"the method '{asks[0]}' needs a memory and a tokenizer; give a memory (--memory), "
                "or the method 'dynamic' alone."
            )
        self.learner = Learner(model, config, statistics)

    def run(self, tokens: Tensor) -> AdaptResult:
        """All methods in their order; the weights are left where they have led."""
        neighbours = self._neighbours(tokens)
        examples, state = self._examples(tokens)
        dynamic = DynamicEvaluation(
            self.model,
            self.config if "dynamic" in self.methods else self.config.replace(rate=0.0),
            state=state, deadline=self.deadline, clock=self.clock, learner=self.learner,
        )  # fmt: skip
        scores = [s.log_probs for s in dynamic.segments(tokens, stop_late=True)]
        steps = self.learner.steps
        return AdaptResult(
            delta=self.learner.delta({"steps": steps}) if steps else None,
            state=dynamic.state,
            unread=tuple(tokens[dynamic.read :].tolist()),
            log_probs=tuple(torch.cat(scores).tolist()) if scores else (),
            neighbours=tuple(neighbours),
            examples=tuple(examples),
            steps=steps,
            seconds=self.clock() - self.started,
            finished=dynamic.read == len(tokens) - 1,
        )

    def _neighbours(self, tokens: Tensor) -> list[Neighbour]:
        if "neighbours" not in self.methods or self.stored is None:
            return []
        memory, tokenizer = self.stored
        training = NeighbourTraining(
            self.model, tokenizer, memory, self.config,
            learner=self.learner, deadline=self.deadline, clock=self.clock,
        )  # fmt: skip
        return training.prepare(tokens.tolist())

    def _examples(self, tokens: Tensor) -> tuple[list[Neighbour], ModelState | None]:
        """Examples chosen, and the state after reading them."""
        late = self.deadline is not None and self.clock() >= self.deadline
        if "examples" not in self.methods or self.stored is None or late:
            return [], None
        memory, tokenizer = self.stored
        examples = choose_examples(memory, tokenizer, tokens.tolist(), self.config)
        prompt = examples_prompt(examples, tokenizer)
        if not prompt:
            return [], None
        with torch.no_grad():
            _, state = self.model.hidden(torch.tensor([prompt], device=self.model.device))
        return examples, state


def _tokens(
    text: str | bytes | Sequence[int] | Tensor, tokenizer: Tokenizer | None, model: LanguageModel
) -> Tensor:
    if isinstance(text, (str, bytes)):
        if tokenizer is None:
            raise ConfigError("text needs the model's tokenizer; give tokenizer=, or token ids.")
        ids = [tokenizer.eos_id, *tokenizer.encode(text)]
    else:
        ids = torch.as_tensor(text).reshape(-1).tolist()
    if len(ids) < 2:
        raise DataError("there is nothing to adapt to; give a text of at least one token.")
    return torch.tensor(ids, device=model.device)
