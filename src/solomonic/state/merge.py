"""States of documents read apart, merged into one: the mean over the orders they may be read in.

A linear recurrence that has read u and then v holds x(uv) = A(v) x(u) + x(v), where A(v) is the
product of the decays of v's tokens. Nobody knows in which order documents belong, so the merged
state is the mean over all orders. Where decays commute (one number a head) it has a closed form
(induction.md 3.3; Liu et al., PICASO, arXiv 2502.17605):

    mean = sum_i x_i sum_k e_k(a without a_i) k! (n - 1 - k)! / n!

with e_k the elementary symmetric polynomials: of the n! orders, those in which exactly the k
documents of a set S come after i number k! (n - 1 - k)!, and there x_i has decayed by the product
over S. Worked example, n = 2: (x_1 (1 + a_2) + x_2 (1 + a_1)) / 2.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError

MOST_ORDERS = 5040
"""Orders that `matrix_mean` goes through one by one (7 documents); beyond, rotations."""

METHODS = ("mean", "rotations", "order")
"""Over all orders, over the n rotations of the order given, or that order alone."""


def scalar_mean(states: Tensor, decays: Tensor) -> Tensor:
    """The mean over all orders of documents whose decays commute, in O(n^2) products.

    Args:
        states: (n, H, ...) the state after each document alone.
        decays: (n, H) the product of each document's decays, in [0, 1].

    Returns:
        (H, ...) in the type of `states`, computed in float64.
    """
    _check(states, decays, decays.shape[:2])
    count = len(states)
    a, x = decays.double(), states.double()
    total = torch.zeros_like(x[0])
    for i in range(count):
        rest = symmetric(torch.cat((a[:i], a[i + 1 :])))
        weight = sum(
            rest[k] * (math.factorial(k) * math.factorial(count - 1 - k) / math.factorial(count))
            for k in range(count)
        )
        assert isinstance(weight, Tensor)
        total = total + weight.view(-1, *[1] * (x.dim() - 2)) * x[i]
    return total.to(states.dtype)


def symmetric(values: Tensor) -> Tensor:
    """Elementary symmetric polynomials e_0 .. e_m of `values` (m, ...): (m + 1, ...)."""
    found = values.new_zeros(len(values) + 1, *values.shape[1:])
    found[0] = 1
    for index, value in enumerate(values):
        # From high to low, so that every value enters each polynomial once.
        found[1 : index + 2] = found[1 : index + 2] + value * found[: index + 1]
    return found


def scalar_orders(states: Tensor, decays: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """The mean over the orders given, read one by one: the definition of `scalar_mean`."""
    _check(states, decays, decays.shape[:2])
    wide = decays.double().view(*decays.shape, *[1] * (states.dim() - 2))
    return _over_orders(states.double(), lambda i, x: wide[i] * x, orders).to(states.dtype)


def matrix_mean(states: Tensor, transitions: Tensor) -> Tensor:
    """The mean over orders where decays are matrices, which do not commute (the delta rule).

    There is no closed form: up to `MOST_ORDERS` orders all are gone through, which is exact;
    beyond, the n rotations of the order given.

    Args:
        states: (n, H, N, P); transitions: (n, H, N, N), the product of each document's
            transitions, the last on the left.
    """
    count = len(states)
    if math.factorial(count) <= MOST_ORDERS:
        return matrix_orders(states, transitions, list(itertools.permutations(range(count))))
    return matrix_orders(states, transitions, rotations(count))


def matrix_orders(states: Tensor, transitions: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """The mean over the orders given, as `matrix_mean`."""
    _check(states, transitions, (*states.shape[:3], states.shape[2]))
    wide = transitions.double()
    return _over_orders(states.double(), lambda i, x: wide[i] @ x, orders).to(states.dtype)


def rotations(count: int) -> list[tuple[int, ...]]:
    """The `count` rotations of 0 .. count - 1."""
    return [tuple((first + i) % count for i in range(count)) for first in range(count)]


def orders_of(count: int, method: str) -> list[tuple[int, ...]] | None:
    """The orders that a method of `METHODS` means over; None is all of them.

    Raises:
        ConfigError: the method is unknown.
    """
    if method not in METHODS:
        raise ConfigError(f"method = '{method}' is unknown; use one of {', '.join(METHODS)}.")
    if method == "mean":
        return None
    return rotations(count) if method == "rotations" else [tuple(range(count))]


def top_set(
    candidates: Sequence[Tensor], surprise: Tensor, time: Tensor, size: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The `size` candidates of the highest innovation, best first; of equals the older one.

    Args:
        candidates: tensors (C, ...) of which the same entries are taken.
        surprise: (C,) innovations, -inf where there is nothing.
        time: (C,) int64 times, in the merged stream.

    Returns:
        the chosen entries of each of `candidates` (size, ...), their innovations and times; places
        that nobody fills hold zeros, -inf and -1.
    """
    order = time.argsort(stable=True)
    order = order[surprise[order].argsort(descending=True, stable=True)][:size]
    order = order[surprise[order] > -torch.inf]
    missing = size - len(order)
    chosen = [
        torch.cat((x[order], x.new_zeros(missing, *x.shape[1:]))) if missing else x[order]
        for x in candidates
    ]
    eps = torch.cat((surprise[order], surprise.new_full((missing,), -torch.inf)))
    return chosen, eps, torch.cat((time[order], time.new_full((missing,), -1)))


def last_entries(parts: Sequence[Tensor], counts: Sequence[int], size: int) -> Tensor:
    """The last `size` entries of documents read one after the other, from the tail of each.

    Args:
        parts: tails (r, ...) of equal r, oldest first, zeros where a document was shorter.
        counts: entries that each document really had (only the last `r` of them are there).

    Returns:
        (size, ...), zeros in front where all documents together were shorter.
    """
    pairs = zip(parts, counts, strict=True)
    real = [part[len(part) - min(count, len(part)) :] for part, count in pairs]
    joined = torch.cat(real)[-size:] if size else parts[0][:0]
    missing = size - len(joined)
    return torch.cat((joined.new_zeros(missing, *joined.shape[1:]), joined)) if missing else joined


def _over_orders(states: Tensor, carry, orders: Sequence[Sequence[int]]) -> Tensor:
    total = torch.zeros_like(states[0])
    for order in orders:
        x = torch.zeros_like(states[0])
        for i in order:
            x = carry(i, x) + states[i]
        total = total + x
    return total / len(orders)


def _check(states: Tensor, decays: Tensor, shape: Sequence[int]) -> None:
    if len(states) == 0 or tuple(decays.shape) != tuple(shape) or len(decays) != len(states):
        raise ShapeError(
            f"decays of shape {tuple(decays.shape)} do not belong to states of shape "
            f"{tuple(states.shape)}; give one for each document and head."
        )
    if states.shape[1] != decays.shape[1]:
        raise ShapeError(f"there are {states.shape[1]} heads and decays of {decays.shape[1]}.")
