"""Masked softmax attention with grouped queries: the inner product of every attention form."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from solomonic.kernels.segments import compute_dtype


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, size: int) -> Tensor:
    """softmax(q k^T / sqrt(size)) v over the keys `mask` admits; 0 where it admits none.

    Args:
        q: (N, R, H, D').
        k: (N, S, G, D'), G divides H.
        v: (N, S, G, D).
        mask: boolean, broadcastable to (N, R, S).
        size: head size whose root scales the scores (D' may be padded).

    Returns:
        (N, R, H, D).
    """
    heads, groups = q.shape[2], k.shape[2]
    seen = mask.any(dim=-1, keepdim=True)
    # A query without keys would divide by zero: let it see everything, then erase its output.
    bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
    bias = bias.masked_fill(~(mask | ~seen), -torch.inf)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if heads != groups:
        k = k.repeat_interleave(heads // groups, dim=1)
        v = v.repeat_interleave(heads // groups, dim=1)
    wide = k.shape[-1] - v.shape[-1]
    if wide:
        v = torch.nn.functional.pad(v, (0, wide))
    out = scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None], scale=size**-0.5)
    out = out[..., : out.shape[-1] - wide] if wide else out
    return out.transpose(1, 2) * seen[..., None]


def attend_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """`attend` for a softmax of which these keys are a part; the other part is merged later.

    Args:
        bias: (N, R or 1, S), added to the scores; -inf hides a key.

    Returns:
        (N, R, H, D), 0 for a query without keys, and the log of the sum of exponentials
        (N, R, H) in at least float32, very negative for such a query.
    """
    groups, wide = k.shape[2], compute_dtype(q)
    q = q.unflatten(2, (groups, -1))
    scores = torch.einsum("nrghd,nsgd->nrghs", q, k).to(wide) * size**-0.5
    scores = scores + bias[:, :, None, None].to(wide)
    # Where no key is seen the largest score is -inf, and -inf minus itself would not be a number.
    top = scores.detach().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).min)
    weights = (scores - top).exp()
    total = weights.sum(dim=-1, keepdim=True)
    total = total + (total == 0)
    out = torch.einsum("nrghs,nsgd->nrghd", (weights / total).to(v.dtype), v)
    return out.flatten(2, 3), (total.log() + top)[..., 0].flatten(2, 3)
