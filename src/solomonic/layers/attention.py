"""Full attention (`T`): the baseline whose cache grows with the text."""

import dataclasses

import torch
from torch import Tensor, nn

from solomonic.kernels.attention.full import full_attention, full_attention_fresh
from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.layers.conv import ShortConv
from solomonic.layers.linear import Linear
from solomonic.layers.projections import project
from solomonic.state import State, field


@dataclasses.dataclass
class CacheState(State):
    """kv (B, S, 2, G, D) every token read, kv_time (B, S) int64 its position or -1,
    time (B,) int64 tokens read, conv the short convolution's tail or None."""

    time: Tensor = field()
    kv: Tensor = field(grows=True)
    kv_time: Tensor = field(fill=-1, grows=True)
    conv: Tensor | None = None


class FullAttention(nn.Module):
    """y, state = layer(u, state): causal attention over everything read, grouped queries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width, self.heads, self.size = (
            config.hidden_size, config.num_attention_heads, config.head_size,
        )  # fmt: skip
        self.groups = config.key_value_heads
        self.theta = config.rope_theta if config.position == "rope" else None
        inner, shared = self.heads * self.size, self.groups * self.size
        has_conv = config.short_conv_size and "T" in config.short_conv_layers
        self.conv = ShortConv(self.width, config.short_conv_size) if has_conv else None
        self.query = Linear(self.width, inner)
        self.key = Linear(self.width, shared)
        self.value = Linear(self.width, shared)
        self.output = Linear(inner, self.width)

    def init_state(self, batch: int, like: Tensor) -> CacheState:
        """The empty cache."""
        return CacheState(
            torch.zeros(batch, dtype=torch.int64, device=like.device),
            like.new_zeros(batch, 0, 2, self.groups, self.size),
            torch.zeros(batch, 0, dtype=torch.int64, device=like.device),
            None if self.conv is None else self.conv.empty(batch, like),
        )

    def forward(
        self, u: Tensor, state: CacheState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, CacheState]:
        """Read u (B, T, d); `lengths` (B,) marks the real tokens of right-padded rows.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        check_input(u, self.width, lengths, None if state is None else len(state.time))
        fresh = state is None and lengths is None
        state = state or self.init_state(len(u), self.query.weight)
        mixed, conv = u, state.conv
        if self.conv is not None:
            local, conv = self.conv(u, state.conv, lengths)
            mixed = u + local
        q, kv = project(self, mixed)
        places = torch.arange(u.shape[1], device=u.device)
        times = state.time[:, None] + places
        exist = times if lengths is None else times.masked_fill(places >= lengths[:, None], -1)
        cache = torch.cat((state.kv.to(kv.dtype), kv), dim=1)
        cache_time = torch.cat((state.kv_time, exist), dim=1)
        if fresh:
            out = full_attention_fresh(q, kv, self.theta)
        else:
            out = full_attention(q, cache, cache_time, times, self.theta)
        read = u.shape[1] if lengths is None else lengths
        return self.output(out.flatten(-2)), CacheState(state.time + read, cache, cache_time, conv)
