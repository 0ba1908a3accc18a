"""The selective state-space layer (`M`): Mamba-2, the fading memory.

Source: Dao and Gu, arXiv 2405.21060, section 7; one group, scalar decay per head.
"""

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from solomonic import kernels
from solomonic.kernels.segments import compute_dtype, padding_mask
from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.layers.conv import ShortConv
from solomonic.layers.linear import Linear
from solomonic.layers.norm import RMSNorm
from solomonic.state import State, field


@dataclasses.dataclass
class RecurrentState(State):
    """h: the recurrent state in float32, (B, H, P, N) for SSD and (B, H, N, P) for the delta rule;
    conv: (B, taps - 1, C) the convolution's tail."""

    h: Tensor = field()
    conv: Tensor = field()


class Signals(NamedTuple):
    """What one segment drives the recurrence with.

    z (B, T, inner) the gate; x (B, T, H, P) inputs; dt (B, T, H) steps; b and c (B, T, N) how the
    inputs enter the state and how it is read; h the state before; tail the convolution's after.
    """

    z: Tensor
    x: Tensor
    dt: Tensor
    b: Tensor
    c: Tensor
    h: Tensor
    tail: Tensor


class SSM(nn.Module):
    """y, state = layer(u, state): strictly causal, (B, T, d) -> (B, T, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.inner = config.ssm_expand * config.hidden_size
        self.size, self.heads = config.ssm_state_size, self.inner // config.ssm_head_dim
        self.chunk = config.chunk_size
        mixed = self.inner + 2 * self.size
        self.in_proj = Linear(self.width, self.inner + mixed + self.heads)
        self.conv = ShortConv(mixed, config.ssm_conv_size, bias=True)
        self.dt_bias = nn.Parameter(initial_steps(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, config.norm_eps)
        self.out_proj = Linear(self.inner, self.width)
        rank = config.ssm_state_rank
        self.rank = rank or self.size
        self.b_map = Linear(self.size, rank) if rank else None
        self.c_map = Linear(self.size, rank) if rank else None

    def init_state(self, batch: int, like: Tensor) -> RecurrentState:
        """The state before any token; h is float32 unless everything is float64."""
        kind = compute_dtype(like)
        head = self.inner // self.heads
        h = torch.zeros(batch, self.heads, head, self.rank, dtype=kind, device=like.device)
        return RecurrentState(h, self.conv.empty(batch, like))

    def forward(
        self, u: Tensor, state: RecurrentState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Read u (B, T, d); `lengths` (B,) marks the real tokens of right-padded rows.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        check_input(u, self.width, lengths, None if state is None else len(state.h))
        z, x, dt, b, c, h, tail = self.signals(u, state, lengths)
        y, h = kernels.run("ssd", x, dt, -self.A_log.exp(), b, c, h, self.chunk)
        y = (y + self.D.to(y.dtype)[:, None] * x).flatten(-2)
        return self.out_proj(self.norm(y, z)), RecurrentState(h, tail)

    def signals(
        self, u: Tensor, state: RecurrentState | None = None, lengths: Tensor | None = None
    ) -> Signals:
        """What u (B, T, d) drives the recurrence with."""
        projected = self.in_proj(u)
        state = state or self.init_state(len(u), projected)
        z, mixed, dt = projected.split((self.inner, self.inner + 2 * self.size, self.heads), dim=-1)
        mixed, tail = self.conv(mixed, state.conv, lengths)
        x, b, c = silu(mixed).split((self.inner, self.size, self.size), dim=-1)
        x = x.unflatten(-1, (self.heads, -1))
        dt = softplus(dt.to(state.h.dtype) + self.dt_bias)
        if lengths is not None:
            dt = dt * padding_mask(u.shape[1], lengths)[..., None]  # a step of 0 is the identity
        if self.b_map is not None and self.c_map is not None:
            b, c = self.b_map(b), self.c_map(c)
        return Signals(z, x, dt, b, c, state.h, tail)


def initial_steps(heads: int, low: float = 1e-3, high: float = 1e-1) -> Tensor:
    """Biases whose softplus is log-uniform in [low, high] (Mamba's initialisation)."""
    dt = torch.exp(torch.rand(heads) * (math.log(high) - math.log(low)) + math.log(low))
    return dt + torch.log(-torch.expm1(-dt))
