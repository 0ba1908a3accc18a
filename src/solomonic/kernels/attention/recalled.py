"""Slots that come from outside the stream: what a long-term memory recalls for a chunk of tokens.

They stand in the same softmax as window, eidetic and fading tokens (bmojo.md, "Attention: one
softmax"): out = softmax over z in W_t U M_t U F_t U C_t, where C_t is what was recalled for the
chunk of t. In the fast form the two parts are computed apart, each with the logarithm of its sum
of exponentials, and merged; that is the same number (Milakov and Gimelshein, arXiv 1805.02867).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from solomonic.kernels.attention.grid import lay
from solomonic.kernels.attention.rotary import rotate
from solomonic.kernels.attention.softmax import attend_parts
from solomonic.kernels.attention.spec import AttentionSpec
from solomonic.kernels.segments import compute_dtype


class Recalled(NamedTuple):
    """Keys and values recalled for N chunks of each row; times are absolute, so cuts do not matter.

    pairs (B, N, S, 2, G, D); bias (B, N, S) is added to the scores of a slot, -inf where it holds
    nothing (a log weight: 0 is a full one); begin (B,) int64 time of the first token of chunk 0;
    period: tokens a chunk. The token at time t reads chunk (t - begin) // period, and nothing
    recalled if there is none. Who fills a chunk may use only what was read before it begins.
    """

    pairs: Tensor
    bias: Tensor
    begin: Tensor
    period: int


def attend_recalled(
    q: Tensor, recalled: Recalled, time: Tensor, spec: AttentionSpec
) -> tuple[Tensor, Tensor]:
    """Attention to recalled slots alone.

    Args:
        q: (B, T, H, D) queries of the tokens at time .. time + T - 1.
        time: (B,) int64.

    Returns:
        (B, T, H, D), 0 where nothing was recalled, and the log of each query's sum of
        exponentials (B, T, H), very negative there.
    """
    rows, steps, heads, _ = q.shape
    pairs, period = recalled.pairs.to(q.dtype), recalled.period
    if spec.rope_theta is not None:  # a memory stands at distance w, like eidetic slots
        q = rotate(q, torch.full((1,), spec.window, device=q.device), spec.rope_theta)
    since = time - recalled.begin
    grid = lay(since, steps, period, False)
    first = torch.div(grid.start, period, rounding_mode="floor")
    chunk = first[:, None] + torch.arange(grid.blocks, device=q.device)
    count = pairs.shape[1]
    known = (chunk >= 0) & (chunk < count)
    if count == 0 or pairs.shape[2] == 0:
        wide = compute_dtype(q)
        none, least = torch.zeros_like(q), torch.finfo(torch.float32).min
        return none, torch.full((rows, steps, heads), least, dtype=wide, device=q.device)
    row = torch.arange(rows, device=q.device)[:, None]
    at = chunk.clamp(0, count - 1)
    k, v = pairs[row, at].flatten(0, 1).unbind(2)
    bias = recalled.bias[row, at].masked_fill(~known[..., None], -torch.inf).flatten(0, 1)
    queries = grid.place(q, 0, 0, grid.blocks * period).unflatten(1, (grid.blocks, period))
    out, lse = attend_parts(queries.flatten(0, 1), k, v, bias[:, None], q.shape[-1])
    shape = (rows, grid.blocks)
    return (
        grid.unshift(out.unflatten(0, shape).flatten(1, 2), steps),
        grid.unshift(lse.unflatten(0, shape).flatten(1, 2), steps),
    )


def merge(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> Tensor:
    """Two parts of one softmax, (B, T, H, D) each with its log-sum-exp (B, T, H), as one."""
    top = torch.maximum(lse, other_lse).detach()
    mine, theirs = (lse - top).exp(), (other_lse - top).exp()
    share = (mine / (mine + theirs))[..., None]
    return (share * out + (1 - share) * other).to(out.dtype)
