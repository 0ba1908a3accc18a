"""Which few label positions of each frame a pruned transducer loss looks at.

Source: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", arXiv 2206.13236,
section 2.2.
"""

import torch
from torch import Tensor


def ranges(
    gone: Tensor, said: Tensor, frame_lengths: Tensor, target_lengths: Tensor, size: int
) -> Tensor:
    """For each frame the run of label positions that the paths use most.

    The first frame's run begins at 0, the last one's ends at the last position; runs never move
    back, and a run always shares a position with the next one, so some path stays inside. Where an
    utterance has more labels than its frames allow runs of `size`, all runs are made longer.

    Args:
        gone, said: (B, T, U + 1) and (B, T, U) occupancies of a cheaper lattice.
        frame_lengths, target_lengths: (B,) int64.
        size: positions a frame, at least 2 where there is a label.

    Returns:
        (B, T, S) int64 with S = min(U + 1, max(size, ceil(U_b / T_b) + 1)).
    """
    _, frames, width = gone.shape
    needed = int((-(-target_lengths // frame_lengths) + 1).max())
    size = min(max(size, needed), width)
    # A label arc counts where both of its ends are inside.
    inside = _windows(gone, size)
    if size > 1:
        inside = inside + _windows(said, size - 1)
    begin = inside.argmax(2)  # (B, T)
    t = torch.arange(frames, device=gone.device)
    end = (target_lengths + 1 - size).clamp(min=0)[:, None]
    begin = begin.minimum(end).minimum((size - 1) * t)
    begin = torch.where(t >= frame_lengths[:, None] - 1, end, begin)
    begin = begin.flip(1).cummin(1).values.flip(1)
    # No step of `size` or more: what a later frame needs lifts the ones before it.
    lifted = (begin - (size - 1) * t).flip(1).cummax(1).values.flip(1)
    begin = torch.maximum(begin, lifted + (size - 1) * t)
    return begin[..., None] + torch.arange(size, device=gone.device)


def _windows(x: Tensor, size: int) -> Tensor:
    """(B, T, W) -> (B, T, W - size + 1): sums of `size` neighbours."""
    return x.unfold(2, size, 1).sum(-1)
