"""How often a match of each length was right, learned online, and what that makes of matches."""

import numpy as np

from solomonic.memory.reader.match import Matches

_EDGES = np.array([1, 2, 3, 4, 5, 7, 9, 13, 17, 25])
GROUPS = len(_EDGES)
"""Lengths are put into so many groups."""
_LIMIT = 500.0  # counts are halved there, so that the odds follow change


def group(lengths: np.ndarray) -> np.ndarray:
    """The group, 0 .. GROUPS - 1, of each length of 1 or more."""
    return np.searchsorted(_EDGES, lengths, side="right") - 1


class MatchOdds:
    """Matches as a distribution: the longest group speaks first, with the probability that it is
    right; what it leaves goes to the next shorter group, and so on (as in PPM, with the escapes
    learned). Without that order the many short matches would outvote the one long one.
    """

    def __init__(self) -> None:
        # As before anything was seen: the longer, the surer.
        chance = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
        self.tries = np.full(GROUPS, 4.0)
        self.hits = chance * self.tries

    def chances(self) -> np.ndarray:
        """(GROUPS,) that a group is right when no longer one was; strictly between 0 and 1."""
        return (self.hits + 0.1) / (self.tries + 0.2)

    def weights(self, matches: Matches, log_weights: np.ndarray | None = None) -> np.ndarray:
        """Share (m,) of each match in the distribution; they sum to 1.

        Args:
            log_weights: (m,) log omega of each; None: 0.
        """
        groups = group(matches.lengths)
        chances = self.chances()
        each = np.ones(len(groups)) if log_weights is None else np.exp(log_weights)
        totals = np.bincount(groups, each, GROUPS)
        there = totals > 0
        # What the longer groups leave: the product of 1 - chance over those that are there.
        left = np.cumprod(np.where(there, 1 - chances, 1.0)[::-1])[::-1]
        before = np.append(left[1:], 1.0)
        shares = before * chances * there / np.where(there, totals, 1.0)
        weights = shares[groups] * each
        return weights / weights.sum()

    def learn(self, matches: Matches, token: int) -> None:
        """Count which groups were right, from the longest down to the first that was."""
        groups = group(matches.lengths)
        right = groups[matches.tokens == token]
        best = int(right.max()) if len(right) else -1
        tried = np.unique(groups)
        tried = tried[tried >= best]
        self.tries[tried] += 1
        if best >= 0:
            self.hits[best] += 1
        full = self.tries > _LIMIT
        self.tries[full] /= 2
        self.hits[full] /= 2

    def copy(self) -> "MatchOdds":
        other = MatchOdds()
        other.tries, other.hits = self.tries.copy(), self.hits.copy()
        return other
