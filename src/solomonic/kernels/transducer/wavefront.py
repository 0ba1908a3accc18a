"""The lattice of a transducer in plain PyTorch: all cells of an anti-diagonal at once.

T + U steps forward and as many back, each over (B, U + 1). Arcs of probability zero are safe,
which the shorter way with a cumulative sum for every label is not.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from solomonic.kernels.transducer.slope import differentiable

MINUS_INFINITY = float("-inf")


@differentiable
def transducer(
    blank: Tensor, label: Tensor, frame_lengths: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Same function as `reference.transducer`."""
    _, frames, width = blank.shape
    t = torch.arange(frames, device=blank.device)[:, None]
    u = torch.arange(width, device=blank.device)
    inside = (t < frame_lengths[:, None, None]) & (u <= target_lengths[:, None, None])
    stay = blank.double().masked_fill(~inside, MINUS_INFINITY)
    move = pad(label.double(), (0, 1), value=MINUS_INFINITY)
    move = move.masked_fill(~(inside & (u < target_lengths[:, None, None])), MINUS_INFINITY)
    stays, moves = _skewed(stay), _skewed(move)  # (T + U, B, U + 1)
    before = _before(stays, moves)
    after = _after(stays, moves, frame_lengths, target_lengths)
    total = after[0, :, 0]
    # Where nothing leads through, any finite total turns exp(-inf - total) into 0.
    known = total.masked_fill(total == MINUS_INFINITY, 0.0)[None, :, None]
    gone = (before[:-1] + stays + after[1:] - known).exp()
    moved = pad(after[1:, :, 1:], (0, 1), value=MINUS_INFINITY)
    said = (before[:-1] + moves + moved - known).exp()
    straight = _straight(torch.stack((gone, said)), frames).to(blank.dtype)
    return -total.to(blank.dtype), straight[0], straight[1, :, :, :-1].contiguous()


def _skewed(plane: Tensor) -> Tensor:
    """(B, T, W) -> (T + W - 1, B, W): out[n, :, u] = plane[:, n - u, u], -inf outside."""
    _, frames, width = plane.shape
    # Lines one longer than they are apart slide by one cell each.
    turned = pad(plane.transpose(1, 2), (0, width), value=MINUS_INFINITY)  # (B, W, T + W)
    slid = turned.flatten(1)[:, : width * (frames + width - 1)]
    return slid.unflatten(1, (width, frames + width - 1)).permute(2, 0, 1).contiguous()


def _straight(skewed: Tensor, frames: int) -> Tensor:
    """(2, T + W - 1, B, W) -> (2, B, T, W): the way back from `_skewed`."""
    width = skewed.shape[-1]
    slid = skewed.permute(0, 2, 3, 1).flatten(2)
    slid = pad(slid, (0, width)).unflatten(2, (width, frames + width))
    return slid[..., :frames].transpose(2, 3).contiguous()


def _before(stays: Tensor, moves: Tensor) -> Tensor:
    """Log-probability of coming to each cell of each diagonal: (T + U + 1, B, U + 1)."""
    here = stays.new_full(stays.shape[1:], MINUS_INFINITY)
    here[:, 0] = 0.0
    lines = [here]
    for stay, move in zip(stays, moves, strict=True):
        moved = pad((here + move)[:, :-1], (1, 0), value=MINUS_INFINITY)
        here = torch.logaddexp(here + stay, moved)
        lines.append(here)
    return torch.stack(lines)


def _after(stays: Tensor, moves: Tensor, frame_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Log-probability of coming from each cell to the end of its row; shaped like `_before`."""
    count, rows, width = stays.shape
    ends = stays.new_full((count + 1, rows, width), MINUS_INFINITY)
    ends[
        frame_lengths + target_lengths, torch.arange(rows, device=stays.device), target_lengths
    ] = 0.0
    here = ends[count]
    lines = [here]
    for n in reversed(range(count)):
        moved = pad(here[:, 1:], (0, 1), value=MINUS_INFINITY) + moves[n]
        # An end has no arcs of its own, so the larger one is the one that exists.
        here = torch.maximum(torch.logaddexp(here + stays[n], moved), ends[n])
        lines.append(here)
    return torch.stack(lines[::-1])
