"""The proposal distribution of a search: how likely each building block is, learned by counting.

A program's probability is the product of those of its blocks, so its cost in bits is a sum; search
goes by cost. A program of probability q is reached after at most about 1/q others: Levin's bound,
where every candidate takes the same time. What solutions are made of is counted, and so related
tasks become cheaper.
"""

import math
from collections.abc import Iterable, Mapping

_MAX_COST = 9


class Guide:
    """Counts of blocks. `counts` comes from the store."""

    def __init__(self, counts: Mapping[str, int] | None = None, prior: float = 1.0) -> None:
        self.counts = dict(counts or {})
        self.prior = prior

    def probability(self, name: str, among: Iterable[str]) -> float:
        """q(name | one of `among`), with `prior` as the count of what was never seen."""
        names = list(among)
        total = sum(self.counts.get(other, 0) for other in names) + self.prior * len(names)
        return (self.counts.get(name, 0) + self.prior) / total

    def costs(self, among: Iterable[str]) -> dict[str, int]:
        """-log2 q in whole bits, at least 1, so that levels of a search are few."""
        names = list(among)
        return {
            name: min(_MAX_COST, max(1, round(-math.log2(self.probability(name, names)))))
            for name in names
        }

    def bump(self, names: Iterable[str]) -> None:
        """Count the blocks of a solution."""
        for name in names:
            self.counts[name] = self.counts.get(name, 0) + 1
