"""Residual blocks, and the stack that a pattern string such as "BBBB" or "MMMT" describes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from solomonic.core import ConfigError
from solomonic.layers.attention import FullAttention
from solomonic.layers.bmojo import BMojo, LayerRecall
from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.layers.delta import DeltaRule
from solomonic.layers.lstm import LSTM
from solomonic.layers.mlp import SwiGLU
from solomonic.layers.norm import RMSNorm
from solomonic.layers.ssm import SSM
from solomonic.state import State

Mixer = FullAttention | SSM | DeltaRule | LSTM | BMojo


def mixer(config: ModelConfig, kind: str) -> Mixer:
    """The sequence mixer of one pattern letter."""
    if kind == "T":
        return FullAttention(config)
    if kind == "M":
        return SSM(config)
    if kind == "D":
        return DeltaRule(config)
    if kind == "L":
        return LSTM(config)
    return BMojo(config, kind)


class Block(nn.Module):
    """Pre-norm residual block: x + mixer(norm(x)), then x + mlp(norm(x)) unless there is no MLP."""

    def __init__(self, config: ModelConfig, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mixer: Mixer = mixer(config, kind)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps) if config.mlp_size else None
        self.mlp = SwiGLU(config.hidden_size, config.mlp_size) if config.mlp_size else None

    def forward(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None,
        trace: list | None = None,
        recall: LayerRecall | None = None,
    ) -> tuple[Tensor, State]:
        x, state = self.mix(x, state, lengths, trace, recall)
        return self.feed(x), state

    def mix(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None,
        trace: list | None = None,
        recall: LayerRecall | None = None,
    ) -> tuple[Tensor, State]:
        """The half of the block that looks along time."""
        if isinstance(self.mixer, BMojo):
            mixed, state = self.mixer(self.norm(x), state, lengths, trace, recall)
        else:
            mixed, state = self.mixer(self.norm(x), state, lengths)
        return x + mixed, state

    def feed(self, x: Tensor) -> Tensor:
        """The half that looks at each token alone."""
        if self.mlp is None or self.mlp_norm is None:
            return x
        return x + self.mlp(self.mlp_norm(x))


@dataclasses.dataclass
class StackState(State):
    """One state a layer."""

    layers: tuple[State, ...] = ()


class Stack(nn.ModuleList):
    """The blocks of a pattern, one after the other; (B, T, d) -> (B, T, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(Block(config, kind) for kind in config.layers)
        self.config = config
        self.gradient_checkpointing = False

    def init_state(self, batch: int, like: Tensor) -> StackState:
        """The state before any token; `like` gives device and type."""
        return StackState(tuple(cast(Block, block).mixer.init_state(batch, like) for block in self))

    def forward(
        self,
        x: Tensor,
        state: StackState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
        recall: Mapping[int, LayerRecall] | None = None,
    ) -> tuple[Tensor, StackState]:
        """Read x (B, T, d); arguments as in `BMojo.forward`, trace entries name their "layer".

        Args:
            recall: by index of the layer, which must be one of B'MOJO (W, F or B).

        Raises:
            ConfigError: a layer that cannot read recalled slots, or does not exist.
        """
        check_input(x, self.config.hidden_size, lengths, None)
        recall = recall or {}
        self._check_recall(recall)
        before = (None,) * len(self) if state is None else state.layers
        after = []
        for index, (block, past) in enumerate(zip(self, before, strict=True)):
            seen = None if trace is None else len(trace)
            if self.gradient_checkpointing and self.training and trace is None:
                # The halves apart: what is recomputed at once is then the larger of the two.
                x, new = checkpoint(
                    block.mix, x, past, lengths, None, recall.get(index), use_reentrant=False
                )
                if block.mlp is not None:
                    x = checkpoint(block.feed, x, use_reentrant=False)
            else:
                x, new = block(x, past, lengths, trace, recall.get(index))
            if trace is not None:
                for entry in trace[seen:]:
                    entry["layer"] = index
            after.append(new)
        return x, StackState(tuple(after))

    def _check_recall(self, recall: Mapping[int, LayerRecall]) -> None:
        able = [i for i, block in enumerate(self) if isinstance(cast(Block, block).mixer, BMojo)]
        for index in recall:
            if index not in able:
                raise ConfigError(
                    f"layer {index} of pattern '{self.config.layers}' reads no recalled slots; "
                    f"choose among the B'MOJO layers (letters W, F and B): {able}."
                )
