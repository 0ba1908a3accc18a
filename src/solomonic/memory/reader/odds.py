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
    """Probability that the token after a match of some length is the one that comes."""

    def __init__(self) -> None:
        # As before anything was seen: the longer, the surer.
        chance = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
        self.tries = np.full(GROUPS, 4.0)
        self.hits = chance * self.tries

    def chances(self) -> np.ndarray:
        """(GROUPS,) probabilities, strictly between 0 and 1."""
        return (self.hits + 0.1) / (self.tries + 0.2)

    def weights(self, matches: Matches) -> np.ndarray:
        """Share (m,) of each match in the distribution: by its odds; they sum to 1."""
        chances = self.chances()
        odds = (chances / (1 - chances))[group(matches.lengths)]
        return odds / odds.sum()

    def learn(self, matches: Matches, token: int) -> None:
        """Count which matches were right."""
        groups = group(matches.lengths)
        self.tries += np.bincount(groups, minlength=GROUPS)
        self.hits += np.bincount(groups[matches.tokens == token], minlength=GROUPS)
        full = self.tries > _LIMIT
        self.tries[full] /= 2
        self.hits[full] /= 2

    def copy(self) -> "MatchOdds":
        other = MatchOdds()
        other.tries, other.hits = self.tries.copy(), self.hits.copy()
        return other
