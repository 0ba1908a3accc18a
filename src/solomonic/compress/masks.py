"""Which weights stay: masks of exact sparsity, unstructured, 2:4, or vectors of 16 outputs.

Every matrix has its own threshold. One for all matrices would empty those whose weights are small,
such as a prediction network's embedding. No output (no band of 16) is ever left without a weight.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from solomonic.compress.matrix import PATTERNS, VECTOR
from solomonic.core import ConfigError

_QUAD = 4


def keep_mask(importance: Tensor, sparsity: float, pattern: str = "unstructured") -> Tensor:
    """(N, K) bool, true for weights to keep; round(sparsity * count) units are dropped.

    A unit is a weight, or with "vec16" a vector, of which one may be cut off by the matrix's end.
    With "2:4" the two least of every four go first, so that at 0.5 and above the pattern holds.

    Args:
        importance: (N, K), not negative and additive: squares of the weights, or what their
            removal costs.
        sparsity: share of zeros, 0 <= sparsity < 1.

    Raises:
        ConfigError: there is no such pattern or share.
    """
    check(pattern, sparsity, final=False)
    if pattern == "vec16":
        bands = vectors(importance)
        kept = _keep(_guarded(bands), sparsity)
        return kept.repeat_interleave(VECTOR, dim=0)[: len(importance)]
    score = _guarded(importance)
    if pattern == "2:4":
        score = torch.where(
            _least_two(importance), importance - 2 * importance.max() - 1e-30, score
        )
    return _keep(score, sparsity)


def random_mask(
    shape: tuple[int, int], sparsity: float, pattern: str, generator: torch.Generator
) -> Tensor:
    """A mask of the same kind that knows nothing of the weights: the negative control."""
    return keep_mask(torch.rand(shape, generator=generator), sparsity, pattern)


def vectors(importance: Tensor) -> Tensor:
    """(ceil(N / VECTOR), K): sums over the outputs that share their zeros."""
    fill = -len(importance) % VECTOR
    return pad(importance, (0, 0, 0, fill)).unflatten(0, (-1, VECTOR)).sum(1)


def check(pattern: str, sparsity: float, final: bool = True) -> None:
    """Refuse a pattern and share of zeros that do not go together.

    Raises:
        ConfigError: with what would.
    """
    if pattern not in PATTERNS:
        raise ConfigError(f"pattern '{pattern}' is unknown; use one of {', '.join(PATTERNS)}.")
    if not 0 <= sparsity < 1:
        raise ConfigError(f"sparsity = {sparsity} must lie in [0, 1).")
    if not final:
        return
    if pattern == "dense" and sparsity:
        raise ConfigError(
            f"sparsity = {sparsity} leaves zeros, and the pattern is 'dense'; choose unstructured, "
            "2:4 or vec16."
        )
    if pattern == "2:4" and sparsity < 0.5:
        raise ConfigError(
            f"the pattern 2:4 has at least half zeros; sparsity = {sparsity} is less."
        )


def _guarded(importance: Tensor) -> Tensor:
    """The best of every row becomes infinitely important."""
    score = importance.clone()
    return score.scatter_(1, score.argmax(1, keepdim=True), torch.inf)


def _least_two(importance: Tensor) -> Tensor:
    """(N, K) bool: the weights that 2:4 does without; a short last quad keeps two."""
    inputs = importance.shape[1]
    quads = pad(importance, (0, -inputs % _QUAD), value=-1.0).unflatten(1, (-1, _QUAD))
    ranks = quads.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
    return (ranks >= 2).flatten(1)[:, :inputs]


def _keep(score: Tensor, sparsity: float) -> Tensor:
    drop = min(round(sparsity * score.numel()), score.numel() - len(score))
    kept = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    if drop:
        kept[score.flatten().argsort(stable=True)[:drop]] = False
    return kept.view(score.shape)
