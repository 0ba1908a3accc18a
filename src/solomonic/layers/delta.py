"""The gated delta rule layer (`D`): a fading memory that can also erase.

Source: Yang, Kautz and Hatamizadeh, arXiv 2412.06464.
"""

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
from solomonic.layers.ssm import RecurrentState, initial_steps


class DeltaRule(nn.Module):
    """y, state = layer(u, state): strictly causal, (B, T, d) -> (B, T, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.inner = config.ssm_expand * config.hidden_size
        self.size, self.heads = config.ssm_state_size, self.inner // config.ssm_head_dim
        self.chunk = config.chunk_size
        self.keys = self.heads * self.size
        mixed = 2 * self.keys + self.inner
        self.in_proj = Linear(self.width, self.inner + mixed + 2 * self.heads)
        self.conv = ShortConv(mixed, config.ssm_conv_size, bias=True)
        self.dt_bias = nn.Parameter(initial_steps(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.norm = RMSNorm(self.inner, config.norm_eps)
        self.out_proj = Linear(self.inner, self.width)

    def init_state(self, batch: int, like: Tensor) -> RecurrentState:
        """The state before any token; h is float32 unless everything is float64."""
        kind = compute_dtype(like)
        head = self.inner // self.heads
        h = torch.zeros(batch, self.heads, self.size, head, dtype=kind, device=like.device)
        return RecurrentState(h, self.conv.empty(batch, like))

    def forward(
        self, u: Tensor, state: RecurrentState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Read u (B, T, d); `lengths` (B,) marks the real tokens of right-padded rows.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        check_input(u, self.width, lengths, None if state is None else len(state.h))
        projected = self.in_proj(u)
        state = state or self.init_state(len(u), projected)
        z, mixed, beta, dt = projected.split(
            (self.inner, 2 * self.keys + self.inner, self.heads, self.heads), dim=-1
        )
        mixed, tail = self.conv(mixed, state.conv, lengths)
        q, k, v = silu(mixed).split((self.keys, self.keys, self.inner), dim=-1)
        q = unit(q.unflatten(-1, (self.heads, -1))) * self.size**-0.5
        k, v = unit(k.unflatten(-1, (self.heads, -1))), v.unflatten(-1, (self.heads, -1))
        kind = state.h.dtype
        beta = beta.to(kind).sigmoid()
        log_decay = -self.A_log.exp() * softplus(dt.to(kind) + self.dt_bias)
        if lengths is not None:
            mask = padding_mask(u.shape[1], lengths)[..., None]
            beta, log_decay = beta * mask, log_decay * mask
        y, h = kernels.run("delta", q, k, v, log_decay, beta, state.h, self.chunk)
        return self.out_proj(self.norm(y.flatten(-2), z)), RecurrentState(h, tail)


def unit(x: Tensor) -> Tensor:
    """x scaled to length one over its last dimension, safely at zero."""
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + 1e-6)
