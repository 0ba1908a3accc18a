"""Quantisation after training: by the weights alone, or with what the matrices read.

With second moments H = sum x x^T of a matrix's inputs, rounding or dropping a weight costs
(w - q)^2 / (2 [H^-1]_kk), and the rest of the row can make up for it. One pass over the inputs,
matrix by matrix, no training: GPTQ (Frantar et al., arXiv 2210.17323) and, for the zeros, SparseGPT
(arXiv 2301.00774), with masks chosen beforehand by the same cost.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from solomonic.compress.config import CompressConfig, Plan, select
from solomonic.compress.masks import keep_mask
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.quantise import Grid, as_matrix, fit_grid
from solomonic.layers.lstm import LSTM

_DAMP = 0.01
_BLOCK = 64


def compress_weights(
    module: nn.Module,
    config: CompressConfig,
    moments: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, QuantisedMatrix]:
    """Every matrix of a module quantised and pruned at once; the module is left as it is.

    Args:
        moments: (K, K) of a matrix's inputs by its name, from `watch`; those without are rounded.
        masks: what is kept by name; none: the least important weights go.

    Raises:
        ConfigError: there is nothing to compress.
    """
    found = {}
    for name, (parameter, plan) in select(module, config).items():
        moment = None if moments is None else moments.get(name)
        mask = None if masks is None else masks.get(name)
        found[name] = compress_matrix(parameter.detach().float(), plan, moment, mask)
    return found


def choose_masks(
    module: nn.Module, config: CompressConfig, moments: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What `compress_weights` would keep, (N, K) bool by name, of the matrices that get zeros.

    Raises:
        ConfigError: there is nothing to compress.
    """
    found = {}
    for name, (parameter, plan) in select(module, config).items():
        if plan.sparsity:
            moment = None if moments is None else moments.get(name)
            inverse = None if moment is None else _inverse_factor(moment)
            found[name] = _mask(parameter.detach().float(), plan, inverse)
    return found


def compress_matrix(
    weight: Tensor, plan: Plan, moment: Tensor | None = None, mask: Tensor | None = None
) -> QuantisedMatrix:
    """One matrix (N, K); `moment` (K, K) makes the rest of a row correct what rounding changes."""
    inverse = None if moment is None else _inverse_factor(moment)
    if plan.sparsity and mask is None:
        mask = _mask(weight, plan, inverse)
    masked = weight if mask is None else weight * mask
    grid = fit_grid(masked, plan.scheme)
    if inverse is None:
        return as_matrix(grid.levels(masked), grid, plan.pattern)
    return as_matrix(_corrected(weight, mask, grid, inverse), grid, plan.pattern)


@contextlib.contextmanager
def watch(module: nn.Module, names: Mapping[str, nn.Parameter] | None = None) -> Iterator[dict]:
    """Gather second moments of what linear maps and LSTMs read while the module runs.

    with watch(model) as moments:
        model(...)

    Yields {parameter's name: (K, K) float64}. An LSTM's recurrent matrix reads the layer's output,
    one step later.
    """
    known = {id(p): n for n, p in (names or dict(module.named_parameters())).items()}
    moments: dict[str, Tensor] = {}

    def add(weight: Tensor, x: Tensor) -> None:
        name = known.get(id(weight))
        if name is not None:
            rows = x.detach().reshape(-1, x.shape[-1]).double()
            moments[name] = moments.get(name, 0) + rows.T @ rows

    def linear(one: nn.Module, args: tuple) -> None:
        add(one.weight, args[0])  # type: ignore[arg-type]

    def recurrent(one: nn.Module, args: tuple, output: tuple) -> None:
        cell = one.cell
        add(cell.weight_ih_l0, args[0])  # type: ignore[union-attr, arg-type]
        add(cell.weight_hh_l0, output[0][:, :-1])  # type: ignore[union-attr, arg-type]

    hooks = []
    for one in module.modules():
        if isinstance(one, nn.Linear):
            hooks.append(one.register_forward_pre_hook(linear))
        elif isinstance(one, LSTM):
            hooks.append(one.register_forward_hook(recurrent))
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def _mask(weight: Tensor, plan: Plan, inverse: Tensor | None) -> Tensor:
    """What is kept: whatever would cost most to drop."""
    cost = weight.square()
    if inverse is not None:
        cost = cost / inverse.diagonal().square()
    return keep_mask(cost, plan.sparsity, plan.pattern)


def _inverse_factor(moment: Tensor) -> Tensor:
    """(K, K) upper Cholesky factor U of H^-1 = U^T U: row k holds what column k's error does to the
    columns after it."""
    moment = moment.double()
    diagonal = moment.diagonal()
    damp = _DAMP * diagonal.mean().clamp(min=1e-12)
    dead = diagonal == 0  # an input that is always zero says nothing; its weights do not matter
    moment = moment + torch.diag(torch.where(dead, diagonal.mean().clamp(min=1e-12), damp))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    return torch.linalg.cholesky(inverse, upper=True)


def _corrected(weight: Tensor, mask: Tensor | None, grid: Grid, factor: Tensor) -> Tensor:
    """Levels (N, K): columns are rounded in turn, and those that follow take up the error."""
    outputs, inputs = weight.shape
    rest = weight.double().clone()
    steps = grid.steps(inputs).expand(outputs, inputs)
    levels = torch.zeros(outputs, inputs, dtype=torch.int8)
    for begin in range(0, inputs, _BLOCK):
        end = min(begin + _BLOCK, inputs)
        errors = torch.zeros(outputs, end - begin, dtype=torch.float64)
        for k in range(begin, end):
            column = Grid(grid.bits, steps[:, k], grid.codebook)
            wanted = rest[:, k : k + 1].float()
            if mask is not None:
                wanted = wanted * mask[:, k : k + 1]
            levels[:, k : k + 1] = column.levels(wanted)
            error = (rest[:, k] - column.values(levels[:, k : k + 1])[:, 0]) / factor[k, k]
            rest[:, k + 1 : end] -= error[:, None] * factor[k, k + 1 : end]
            errors[:, k - begin] = error
        rest[:, end:] -= errors @ factor[begin:end, end:]
    return levels
