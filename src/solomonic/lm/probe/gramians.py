"""Gramians of a head along a text, in closed form: what was driven, what will be looked at.

A head's state (a row of it, as every row is alike) moves by h⁺ = a h + dt x bᵀ and is read by c.
With inputs x of variance one, and decays that depend on the input,

    reached_t = a_t² reached_{t-1} + dt_t² b_t b_tᵀ        seen_t = c_t c_tᵀ + a_{t+1}² seen_{t+1}

As a is a number, both are weighted sums of b bᵀ and c cᵀ, and so are their means over the text: no
equation is solved. With constant a, b and c they are the Gramians of the linear system.
"""

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class TextGramians:
    """Means over the text, and the state of affairs at `places`.

    mean_reached, mean_seen (H, N, N); places (K,); reached, seen (K, H, N, N): before the token at
    each place nothing is known of what comes, and after it nothing of what came.
    """

    mean_reached: Tensor
    mean_seen: Tensor
    places: Tensor
    reached: Tensor
    seen: Tensor


def text_gramians(
    log_decay: Tensor, steps: Tensor, b: Tensor, c: Tensor, places: int = 64
) -> TextGramians:
    """Of one layer from log a (T, H), steps dt (T, H), b and c (T, N), all float64."""
    squared = (2 * log_decay).exp()
    weights = steps.square()
    length = len(b)
    stops = torch.linspace(0, length, places + 1).round().long().unique()
    driven, read = _after(squared), _before(squared)
    mean_reached = _weighted(weights * driven, b) / length
    mean_seen = _weighted(read, c) / length
    reached = _along(squared, weights, b, stops)
    backward = (length - stops).flip(0)
    turned = torch.cat((squared[1:], torch.ones_like(squared[:1]))).flip(0)
    seen = _along(turned, torch.ones_like(weights), c.flip(0), backward).flip(0)
    return TextGramians(mean_reached, mean_seen, stops[1:-1], reached[1:-1], seen[1:-1])


def hankel(reached: Tensor, seen: Tensor) -> Tensor:
    """Square roots of the eigenvalues of reached · seen, (..., N), largest first."""
    values, vectors = torch.linalg.eigh(reached)
    into = vectors * values.clamp(min=0).sqrt()[..., None, :]
    inner = into.transpose(-1, -2) @ seen @ into
    return torch.linalg.eigvalsh(inner).clamp(min=0).sqrt().flip(-1)


def effective_rank(moment: Tensor) -> Tensor:
    """exp(entropy of the eigenvalues' shares) of (..., N, N): from 1 to N (Roy and Vetterli)."""
    values = torch.linalg.eigvalsh(moment).clamp(min=0)
    shares = values / values.sum(-1, keepdim=True).clamp(min=1e-300)
    return torch.special.entr(shares).sum(-1).exp()


def _after(squared: Tensor) -> Tensor:
    """g_s = 1 + a²_{s+1} g_{s+1}: what one drive at s weighs in all later Gramians."""
    out = torch.ones_like(squared)
    for s in range(len(squared) - 2, -1, -1):
        out[s] += squared[s + 1] * out[s + 1]
    return out


def _before(squared: Tensor) -> Tensor:
    """f_t = 1 + a²_t f_{t-1}: what one look at t weighs in all earlier Gramians."""
    out = torch.ones_like(squared)
    for t in range(1, len(squared)):
        out[t] += squared[t] * out[t - 1]
    return out


def _weighted(weights: Tensor, rows: Tensor) -> Tensor:
    """Σ_t w_t r_t r_tᵀ for every head: (T, H), (T, N) -> (H, N, N)."""
    return torch.einsum("th,ti,tj->hij", weights, rows, rows)


def _along(squared: Tensor, weights: Tensor, rows: Tensor, stops: Tensor) -> Tensor:
    """The Gramian of the first `stop` tokens at every stop, (K, H, N, N): W⁺ = a² W + w r rᵀ."""
    heads, size = squared.shape[1], rows.shape[1]
    W, found = squared.new_zeros(heads, size, size), []
    logs = squared.clamp(min=1e-300).log()
    done = 0
    for stop in stops.tolist():
        part = slice(done, stop)
        fade = logs[part].flip(0).cumsum(0).flip(0)  # from before each token to the stop
        later = fade - logs[part]
        W = fade[:1].exp()[0, :, None, None] * W if stop > done else W
        W = W + _weighted(weights[part] * later.exp(), rows[part])
        found.append(W)
        done = stop
    return torch.stack(found)
