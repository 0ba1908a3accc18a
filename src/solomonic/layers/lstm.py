"""The LSTM layer (`L`): the recurrent encoder and prediction network of on-device transducers.

Source: Hochreiter and Schmidhuber 1997, with a forget gate (Gers et al. 2000) whose bias starts at
one. The recurrence runs in PyTorch's own kernel.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.state import State, field


@dataclasses.dataclass
class LSTMState(State):
    """h, c: (B, d) the output and the cell after the last token."""

    h: Tensor = field()
    c: Tensor = field()


class LSTM(nn.Module):
    """y, state = layer(u, state): one recurrent layer, strictly causal, (B, T, d) -> (B, T, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.cell = nn.LSTM(self.width, self.width, batch_first=True)
        with torch.no_grad():
            for name, parameter in self.cell.named_parameters():
                if name.startswith("bias"):
                    parameter.zero_()
            bias = self.cell.get_parameter("bias_ih_l0")
            bias[self.width : 2 * self.width] = 1.0

    def init_state(self, batch: int, like: Tensor) -> LSTMState:
        """The state before any token; `like` gives device and type."""
        return LSTMState(*(like.new_zeros(batch, self.width) for _ in range(2)))

    def forward(
        self, u: Tensor, state: LSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Read u (B, T, d); `lengths` (B,) marks the real tokens of right-padded rows.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        check_input(u, self.width, lengths, None if state is None else len(state.h))
        # Autocast has no LSTM for CPUs in bfloat16 that trains; the recurrence stays in its type.
        with torch.autocast(u.device.type, enabled=False):
            x = u.to(self.cell.get_parameter("weight_ih_l0").dtype)
            state = state or self.init_state(len(u), x)
            if u.shape[1] == 0 or len(u) == 0:
                return x, state
            before = (state.h[None].to(x.dtype), state.c[None].to(x.dtype))
            if lengths is None:
                y, (h, c) = self.cell(x, before)
                return y, LSTMState(h[0], c[0])
            return self._padded(x, before, state, lengths)

    def _padded(
        self, x: Tensor, before: tuple[Tensor, Tensor], state: LSTMState, lengths: Tensor
    ) -> tuple[Tensor, LSTMState]:
        """Each row's state stops at its last real token; PyTorch refuses empty rows, so they are
        read as one token and put back."""
        real = lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False)
        out, (h, c) = self.cell(packed, before)
        y, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        empty = (lengths == 0)[:, None]
        return y, LSTMState(torch.where(empty, state.h, h[0]), torch.where(empty, state.c, c[0]))
