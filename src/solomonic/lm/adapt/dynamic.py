"""Dynamic evaluation: a model that learns from what it has just read.

Every segment is scored with the weights as they are, and only then learned from, so the sum of the
scores is the length of a code that a decoder could undo: it makes the same steps. The state is
carried from segment to segment and cut from the graph.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import ShapeError
from solomonic.lm.adapt.config import AdaptConfig
from solomonic.lm.adapt.delta import Delta
from solomonic.lm.adapt.learner import Learner
from solomonic.lm.model import LanguageModel
from solomonic.state import detach

Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """What the model said of one segment before it learned from it.

    Attributes:
        first: index of the first target in the stream of targets.
        targets: (S,) int64; log_probs: (S,) nats of each, given all before it.
        logits: (S, V); hidden: (S, d) the normalised output that the logits come from.
        state: after the segment's inputs.
    """

    first: int
    targets: Tensor
    log_probs: Tensor
    logits: Tensor
    hidden: Tensor
    state: Any


class DynamicEvaluation:
    """Reads a stream segment by segment and learns; at the end of the `with` the weights are back.

    with DynamicEvaluation(model, AdaptConfig()) as reading:
        for segment in reading.segments(tokens):
            ...  # segment.logits were computed before the step

    Args:
        statistics: mean squared training gradients (`statistics.collect`), or None.
        state: what the stream has read before.
        deadline: on `clock`; from then on segments are read and no longer learned from.
        learner: to go on with, instead of one of its own.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: AdaptConfig | None = None,
        statistics: Mapping[str, Tensor] | None = None,
        state: Any = None,
        *,
        deadline: float | None = None,
        clock: Clock = time.monotonic,
        learner: Learner | None = None,
    ) -> None:
        self.model, self.config = model, config or AdaptConfig()
        self.learner = learner or Learner(model, self.config, statistics)
        self.state, self.read = state, 0
        self.deadline, self.clock = deadline, clock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.learner.restore()

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.clock() >= self.deadline

    def segments(self, tokens: Tensor, stop_late: bool = False) -> Iterator[Segment]:
        """Score `tokens` (T,), of which the first is only read; learn after each segment.

        A segment is learned from when the next one is asked for (or the stream ends), so a caller
        always works with the weights that scored it.

        Args:
            stop_late: end at the deadline instead of reading on without learning.

        Raises:
            ShapeError: there is no token to score.
        """
        if tokens.dim() != 1 or len(tokens) < 2:
            raise ShapeError(
                f"tokens of shape {tuple(tokens.shape)} hold nothing to score; give (length,) with "
                "at least 2 entries, the first of which is only read."
            )
        size = self.config.segment
        for begin in range(0, len(tokens) - 1, size):
            if stop_late and self.late:
                return
            inputs = tokens[begin : begin + size]
            targets = tokens[begin + 1 : begin + 1 + size]
            inputs = inputs[: len(targets)]
            loss, segment = self._score(inputs, targets)
            yield segment
            if loss is not None:
                self.learner.step(loss)

    def _score(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor | None, Segment]:
        learns = not self.late and self.config.rate > 0
        where = self.learner.gradients() if learns else torch.no_grad()
        with where:
            hidden, state = self.model.hidden(inputs[None], self.state)
            logits = self.model.head(hidden)[0]
            loss = cross_entropy(logits.float(), targets) if learns else None
        plain = logits.detach()
        wide = torch.promote_types(plain.dtype, torch.float32)
        scores = plain.to(wide).log_softmax(dim=-1).gather(-1, targets[:, None])[:, 0]
        self.state = detach(state)
        segment = Segment(
            first=self.read,
            targets=targets,
            log_probs=scores,
            logits=plain,
            hidden=hidden.detach()[0],
            state=self.state,
        )
        self.read += len(targets)
        return loss, segment

    def delta(self, notes: Mapping[str, object] | None = None) -> Delta:
        """What has been learned so far."""
        return self.learner.delta(notes)


def dynamic_log_probs(
    model: LanguageModel,
    tokens: Tensor,
    config: AdaptConfig | None = None,
    statistics: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Nats of tokens[1:] of a stream (T,) under dynamic evaluation; the model is left unchanged."""
    with DynamicEvaluation(model, config, statistics) as reading:
        return torch.cat([segment.log_probs for segment in reading.segments(tokens)])
