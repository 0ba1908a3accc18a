"""The LSTM layer (`L`): the recurrent encoder and prediction network of on-device transducers.

Source: Hochreiter and Schmidhuber 1997, with a forget gate (Gers et al. 2000) whose bias starts at
one. The recurrence runs in PyTorch's own kernel.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.state import State, field


@dataclasses.dataclass
class LSTMState(State):
    """h, c: (B, d) the output and the cell after the last token."""

    h: Tensor = field()
    c: Tensor = field()


class Cell(nn.Module):
    """The parameters, by PyTorch's names; gates in the order input, forget, cell, output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        for side in ("ih", "hh"):
            weight = torch.empty(4 * width, width).uniform_(-bound, bound)
            self.register_parameter(f"weight_{side}_l0", nn.Parameter(weight))
        for side in ("ih", "hh"):
            # Drawn and cleared: a seed then gives the weights that nn.LSTM would have.
            bias = torch.empty(4 * width).uniform_(-bound, bound).zero_()
            if side == "ih":
                bias[width : 2 * width] = 1.0
            self.register_parameter(f"bias_{side}_l0", nn.Parameter(bias))

    def flat(self) -> list[Tensor]:
        """The weights in the order of `torch.lstm`."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self, f"{kind}_l0") for kind in kinds]


class LSTM(nn.Module):
    """y, state = layer(u, state): one recurrent layer, strictly causal, (B, T, d) -> (B, T, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.cell = Cell(self.width)

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
            weights = self.cell.flat()
            x = u.to(weights[0].dtype)
            state = state or self.init_state(len(u), x)
            if u.shape[1] == 0 or len(u) == 0:
                return x, state
            before = (state.h[None].to(x.dtype), state.c[None].to(x.dtype))
            if lengths is None:
                y, h, c = torch.lstm(
                    x, before, weights, True, 1, 0.0, self.training, False, batch_first=True
                )
                return y, LSTMState(h[0], c[0])
            return self._padded(x, before, state, lengths)

    def _padded(
        self, x: Tensor, before: tuple[Tensor, Tensor], state: LSTMState, lengths: Tensor
    ) -> tuple[Tensor, LSTMState]:
        """Each row's state stops at its last real token; PyTorch refuses empty rows, so they are
        read as one token and put back."""
        real = lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False)
        order, back = packed.sorted_indices, packed.unsorted_indices
        assert order is not None and back is not None
        sorted_before = tuple(part.index_select(1, order) for part in before)
        y, h, c = torch.lstm(
            packed.data, packed.batch_sizes, sorted_before, self.cell.flat(), True, 1, 0.0,
            self.training, False,
        )  # fmt: skip
        out = PackedSequence(y, packed.batch_sizes, order, back)
        y, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        h, c = h[0].index_select(0, back), c[0].index_select(0, back)
        empty = (lengths == 0)[:, None]
        return y, LSTMState(torch.where(empty, state.h, h), torch.where(empty, state.c, c))
