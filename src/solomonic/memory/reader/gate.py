"""The gate: how far each memory is believed, learned online, and a bound on what that can cost.

Inside, weights of the experts are a softmax of linear functions of features (confidences, match
length, entropy), which descend the cost of each token. That may be wrong for a while, so outside
stands a mixture of the first expert alone and the inside, by fixed shares that fall with time
(Herbster and Warmuth 1998, with the share 1/(t+s) after token t). With the prior 1-q for the first
expert the mixture pays over any T tokens, whatever comes, adversaries included,

    bits(gate)  <=  bits(first expert) + log2(1/(1-q)) + log2((T+s-1)/s)

the prior's cost, and the cost of never having left the first expert: minus log2 of the product of
1 - 1/(t+s) over t = 1..T-1. With the defaults (q = 15/16, s = 32) that is log2(T + 31) - 1.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from solomonic.core import Config, ShapeError, require, require_least

_FARTHEST = 30.0  # weights beyond change nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig(Config):
    """How the inner weights learn.

    Raises:
        ConfigError: a value out of range.
    """

    rate: float = 0.1
    """Step of the weights, in units of their gradients' root mean square."""
    first: float = 2.0
    """Where the first expert's bias starts above the others'."""
    trust: float = 0.9375
    """Prior of the inside against the first expert alone."""
    ease: float = 32.0
    """s: the share that changes sides after token t is 1 / (t + s)."""
    slow: float = 30.0
    """The rate begins as if so many steps had been made: a short prompt does not teach much."""
    steady: float = 200.0
    """Steps for which the rate falls by the square root before it stays."""

    def __post_init__(self) -> None:
        require_least(self, 0, "rate", "slow", "steady")
        require_least(self, 1, "ease")
        require(0 < self.trust < 1, f"trust = {self.trust} must lie between 0 and 1.")


def bound(steps: int, config: GateConfig | None = None) -> float:
    """Bits that a gate may pay above its first expert over so many tokens."""
    given = config or GateConfig()
    if not steps:
        return 0.0
    return -math.log2(1 - given.trust) + math.log2((steps + given.ease - 1) / given.ease)


class Gate:
    """A mixture of distributions over the same tokens, the first of which it never loses to by more
    than `bound`.

    Args:
        experts: how many.
        features: how many numbers describe a step; a constant is added.
    """

    def __init__(self, experts: int, features: int = 0, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()
        self.weights = np.zeros((experts, features + 1))
        self.weights[0, 0] = self.config.first
        self._squares = np.zeros((experts, features + 1))
        self.trust = self.config.trust
        """Weight of the inside in the mixture outside, before the next token."""
        self.steps = 0
        self._asked: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def shares(self, features: Sequence[float] | np.ndarray, present: np.ndarray) -> np.ndarray:
        """Weight of each expert inside, (N,); those that are not `present` have none."""
        scores = self.weights @ np.concatenate(([1.0], features))
        scores = np.where(present, scores, -np.inf)
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def mix(
        self,
        experts: np.ndarray,
        features: Sequence[float] | np.ndarray = (),
        present: np.ndarray | None = None,
    ) -> np.ndarray:
        """The mixture's distribution (V,) before the next token.

        Args:
            experts: (N, V), each row summing to 1 (rows that are not present may hold anything
                finite).
            present: (N,) bool, who has an opinion; the first always has. None: all.
        """
        if len(experts) != len(self.weights):
            raise ShapeError(f"{len(experts)} experts were given to a gate of {len(self.weights)}.")
        there = np.ones(len(experts), dtype=bool) if present is None else present
        shares = self.shares(features, there)
        outer = self.trust * shares
        outer[0] += 1 - self.trust
        self._asked = (experts, shares, np.concatenate(([1.0], features)))
        return outer @ experts

    def predict(self, experts: Sequence[np.ndarray]) -> np.ndarray:
        """`mix` without features."""
        return self.mix(np.stack(list(experts)))

    def believed(self, token: int) -> np.ndarray:
        """Share (N,) that each expert has in the probability that `mix` just gave `token`."""
        assert self._asked is not None, "mix first"
        experts, shares, _ = self._asked
        outer = self.trust * shares
        outer[0] += 1 - self.trust
        parts = outer * experts[:, token]
        return parts / max(float(parts.sum()), 1e-300)

    def update(self, token: int) -> float:
        """Learn the token that came after `mix`; its cost in bits."""
        assert self._asked is not None, "mix first"
        experts, shares, features = self._asked
        alone = float(experts[0, token])
        parts = shares * experts[:, token]
        inside = float(parts.sum())
        paid = self.trust * inside + (1 - self.trust) * alone
        self.steps += 1
        self._share(inside, alone, paid)
        if inside > 0:
            self._learn(parts / inside - shares, features)
        self._asked = None
        return -math.log2(max(paid, 1e-300))

    def _share(self, inside: float, alone: float, paid: float) -> None:
        """Bayes, then each of the two gives the share 1/(t+s) of its weight to the other."""
        posterior = self.trust * inside / paid if paid > 0 else 0.5
        given = 1 / (self.steps + self.config.ease)
        self.trust = posterior * (1 - given) + (1 - posterior) * given

    def _learn(self, slope: np.ndarray, features: np.ndarray) -> None:
        gradient = slope[:, None] * features
        self._squares += gradient * gradient
        # Root of the mean square of gradients, not of their sum: the weights can follow change.
        age = min(self.steps + self.config.slow, max(self.config.steady, 1.0))
        scale = np.sqrt(self._squares / self.steps * age) + 1e-8
        self.weights += self.config.rate * gradient / scale
        np.clip(self.weights, -_FARTHEST, _FARTHEST, out=self.weights)

    def copy(self) -> "Gate":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.weights, other._squares = self.weights.copy(), self._squares.copy()
        return other

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was learned."""
        return {
            "weights": self.weights,
            "squares": self._squares,
            "outer": np.array([self.trust, float(self.steps)]),
        }

    def load_arrays(self, stored: dict[str, np.ndarray]) -> None:
        """Take over `to_arrays` of a gate of the same size."""
        if stored["weights"].shape != self.weights.shape:
            raise ShapeError(
                f"a gate of {stored['weights'].shape} does not fit one of {self.weights.shape}."
            )
        self.weights, self._squares = stored["weights"].copy(), stored["squares"].copy()
        self.trust, self.steps = float(stored["outer"][0]), int(stored["outer"][1])
