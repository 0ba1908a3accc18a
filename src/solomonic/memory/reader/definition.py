"""What the memories of this part compute, written as directly as possible; tests compare them."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from solomonic.memory.reader.history import BOUNDARY


def find_matches(
    tokens: Sequence[int], context: Sequence[int], orders: Sequence[int], ways: int, longest: int
) -> list[tuple[int, int]]:
    """(position, length) of `MatchMemory.find`, by trying every position.

    Args:
        tokens: a whole history, with its boundaries.
    """
    found: dict[int, int] = {}
    for order in reversed(orders):
        for position in range(len(tokens) - 1, -1, -1):
            length = 0
            while (
                length < min(longest, len(context), position)
                and tokens[position - 1 - length] == context[-1 - length]
            ):
                length += 1
            if length >= order and tokens[position] != BOUNDARY and position not in found:
                found[position] = length
                if len(found) == ways:
                    return list(found.items())
    return list(found.items())


def neighbour_distribution(
    keys: np.ndarray,
    tokens: Sequence[int],
    log_weights: Sequence[float],
    query: np.ndarray,
    theta: float,
    vocabulary: int,
) -> np.ndarray:
    """p(w) proportional to the sum over i with tokens[i] = w of exp(theta h.h_i + log omega_i)."""
    scores = [
        theta * math.fsum(a * b for a, b in zip(query.tolist(), key, strict=True)) + weight
        for key, weight in zip(keys.tolist(), log_weights, strict=True)
    ]
    top = max(scores)
    chances = np.zeros(vocabulary)
    for score, token in zip(scores, tokens, strict=True):
        chances[token] += math.exp(score - top)
    return chances / chances.sum()


def shared_costs(
    experts: Sequence[Sequence[Sequence[float]]],
    symbols: Sequence[int],
    trust: float,
    ease: float,
) -> list[float]:
    """Bits that the outer mixture of a gate pays, by summing over every sequence of the two sides.

    Args:
        experts: for each step the two distributions, that of the first expert first.
        symbols: what came, no more than a dozen.
        trust: prior of the second.
        ease: the share that changes sides after token t is 1 / (t + ease).
    """
    costs, before = [], 1.0
    for end in range(1, len(symbols) + 1):
        total = 0.0
        for path in itertools.product(range(2), repeat=end):
            chance = trust if path[0] else 1 - trust
            for step, who in enumerate(path):
                if step:
                    given = 1 / (step + ease)
                    same = who == path[step - 1]
                    chance *= 1 - given if same else given
                chance *= experts[step][who][symbols[step]]
            total += chance
        costs.append(-math.log2(total / before))
        before = total
    return costs
