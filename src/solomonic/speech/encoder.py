"""The streaming encoder: log-mel frames in, one hidden vector each 60 ms out, state in between.

Its layers are those of the language models (`layers.Stack`), chosen by pattern strings.
"""

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from solomonic.core import ShapeError
from solomonic.layers import Linear, RMSNorm, Stack, StackState
from solomonic.speech.config import TransducerConfig
from solomonic.state import State


@dataclasses.dataclass
class EncoderState(State):
    """The states of both stacks."""

    front: StackState = dataclasses.field(default_factory=StackState)
    back: StackState = dataclasses.field(default_factory=StackState)


class Encoder(nn.Module):
    """(B, T0, bins) -> (B, T0 // frames_per_step, hidden_size), strictly causal frame by frame.

    `mean` and `deviation` (bins,) are the training set's, kept with the weights, so that no user
    of a model has to know them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.register_buffer("mean", torch.zeros(config.bins))
        self.register_buffer("deviation", torch.ones(config.bins))
        self.embed = Linear(config.bins * config.stack, width)
        self.front = Stack(config.layers(config.front)) if config.front else None
        self.join = Linear(width * config.reduction, width)
        self.back = Stack(config.layers(config.pattern))
        self.norm = RMSNorm(width, 1e-5)
        self._initialise()

    def _initialise(self) -> None:
        """As in language models: what writes to the residual stream starts small."""
        depth = len(self.back) + (0 if self.front is None else len(self.front))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = 1.0
                if name.rpartition(".")[2] in ("output", "down", "out_proj"):
                    scale = 1 / math.sqrt(2 * depth)
                nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features))

    def init_state(self, batch: int) -> EncoderState:
        """The state of `batch` streams before any frame."""
        like = self.embed.weight.new_empty(0)
        front = StackState() if self.front is None else self.front.init_state(batch, like)
        return EncoderState(front, self.back.init_state(batch, like))

    def forward(
        self,
        features: Tensor,
        state: EncoderState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
    ) -> tuple[Tensor, EncoderState, Tensor | None]:
        """Hidden vectors (B, T, D), the next state, and the rows' lengths in encoder frames.

        Args:
            features: (B, T0, bins) log-mel frames; T0 a multiple of `frames_per_step`.
            lengths: (B,) int64 real frames of right-padded rows; a started step counts whole.
            trace: nothing is added to it here; a branching encoder tells its decisions.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        config = self.config
        step = config.frames_per_step
        check_frames(features, config)
        shorter = None if lengths is None else -(-lengths // config.stack)
        steps = None if lengths is None else -(-lengths // step)
        x = (features - self.mean) / self.deviation
        x = self.embed(x.flatten(1).unflatten(1, (-1, config.stack * config.bins)))
        front = StackState()
        if self.front is not None:
            x, front = self.front(x, None if state is None else state.front, shorter)
        x = x.reshape(len(x), -1, config.reduction * x.shape[2])
        x = dropout(self.join(x), config.dropout, self.training)
        x, back = self.back(x, None if state is None else state.back, steps)
        return self.norm(x), EncoderState(front, back), steps


def check_frames(features: Tensor, config: TransducerConfig) -> None:
    """Raise `ShapeError` unless features are (B, T0, bins) and T0 is of whole encoder steps."""
    if features.dim() != 3 or features.shape[2] != config.bins:
        raise ShapeError(
            f"features must be (batch, time, {config.bins}), not {tuple(features.shape)}; "
            "compute them with speech.features."
        )
    if features.shape[1] % config.frames_per_step:
        raise ShapeError(
            f"{features.shape[1]} feature frames are no multiple of {config.frames_per_step}, the "
            "frames of one encoder step; pad them or hold the rest back."
        )
