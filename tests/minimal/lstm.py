"""The LSTM (layer 'L') as the loop of its equations over the tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor


def lstm(p: Mapping[str, Tensor], u: Tensor) -> Tensor:
    """u (T, d) -> (T, d); gates in the order input, forget, cell, output."""
    h = c = u.new_zeros(u.shape[1])
    outs = []
    for x in u:
        gates = p["cell.weight_ih_l0"] @ x + p["cell.bias_ih_l0"]
        gates = gates + p["cell.weight_hh_l0"] @ h + p["cell.bias_hh_l0"]
        enter, forget, new, show = gates.chunk(4)
        c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
        h = show.sigmoid() * c.tanh()
        outs.append(h)
    return torch.stack(outs) if outs else u
