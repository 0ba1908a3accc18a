"""A transducer's joiner and softmax in chosen cells of the lattice, in plain PyTorch.

Two numbers of the log-softmax of each cell go into the lattice, and two occupancies come back: the
log-softmax itself is never made, and the slope takes the place of the logits (the function-merged
form of Li et al., arXiv 1909.12415).
"""

import torch
from torch import Tensor

from solomonic.kernels.segments import compute_dtype
from solomonic.kernels.transducer.reference import PADDING


def hidden(acoustic: Tensor, label: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Same function as `reference.hidden`."""
    return acoustic[rows].add_(label[columns]).tanh_()


def spread(
    units: Tensor,
    slope: Tensor,
    rows: Tensor,
    columns: Tensor,
    to_acoustic: Tensor,
    to_label: Tensor,
) -> None:
    """Same function as `reference.spread`."""
    inner = units.square_().neg_().add_(1).mul_(slope)
    to_acoustic.index_add_(0, rows, inner)
    to_label.index_add_(0, columns, inner)


def scores(logits: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Same function as `reference.scores`."""
    real = logits.to(compute_dtype(logits))
    padding, total = labels == PADDING, real.logsumexp(-1)
    stay = (real[:, blank] - total).masked_fill(padding, -torch.inf)
    move = real.gather(1, labels.clamp(min=0)[:, None])[:, 0] - total
    return stay, move.masked_fill(labels < 0, -torch.inf), total.masked_fill(padding, 0.0)


def slopes(
    logits: Tensor, labels: Tensor, blank: int, total: Tensor, gone: Tensor, said: Tensor
) -> Tensor:
    """Same function as `reference.slopes`."""
    mass, idle = gone + said, (gone == 0) & (said == 0)
    real = logits if logits.dtype == total.dtype else logits.to(total.dtype)
    real.sub_(total[:, None]).exp_().mul_(mass[:, None])
    real[:, blank] -= gone
    chosen = labels.clamp(min=0)[:, None]
    said = torch.where(labels < 0, 0.0, said)[:, None]
    real.scatter_(1, chosen, real.gather(1, chosen) - said)
    real.masked_fill_(idle[:, None], 0.0)
    return logits if real is logits else logits.copy_(real)
