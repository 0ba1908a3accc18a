"""Mixtures of any predictors over one alphabet: `mix([language_model, Mixer()], rule="logistic")`.

bayes        weights move by Bayes' rule: never more than log2 N bits above the best of N
fixed_share  before each symbol a share of every weight goes to the others: follows changes of the
             best (Herbster and Warmuth, 1998)
logistic     log-probabilities mixed by weights that descend the cost (Mattern, 2012): may be better
             than the best of them
"""

import base64
import json
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from solomonic.core import CheckpointError, ConfigError, Predictor, require
from solomonic.induction import base

RULES = ("bayes", "fixed_share", "logistic")


def mix(
    predictors: Sequence[Predictor],
    rule: str = "bayes",
    share: float = 0.01,
    rate: float = 0.02,
) -> "Mixture":
    """One predictor of several; they belong to the mixture from then on.

    Args:
        share: of `fixed_share`, the weight given away before each symbol.
        rate: of `logistic`, the step along the gradient of the cost in nats.

    Raises:
        ConfigError: no predictor, different alphabets, or an unknown rule.
    """
    return Mixture(predictors, rule, share, rate)


class Mixture:
    """See `mix`. `weights` are those of the members, shape (N,); they sum to 1 but for logistic."""

    def __init__(
        self, predictors: Sequence[Predictor], rule: str, share: float, rate: float
    ) -> None:
        require(len(predictors) > 0, "a mixture needs at least one predictor.")
        sizes = sorted({one.alphabet for one in predictors})
        require(len(sizes) == 1, f"the predictors have alphabets of {sizes}; they must agree.")
        if rule not in RULES:
            raise ConfigError(f"rule = '{rule}' is unknown; use one of {', '.join(RULES)}.")
        require(0 <= share < 1, f"share = {share} must be from 0 to below 1.")
        require(rate > 0, f"rate = {rate} must be above 0.")
        self.predictors, self.alphabet = list(predictors), sizes[0]
        self.rule, self.share, self.rate = rule, share, rate
        count = len(predictors)
        first = 1.0 if rule == "logistic" and count == 1 else 1 / count
        self.weights = np.full(count, 0.6 if rule == "logistic" and count > 1 else first)

    def predict(self) -> np.ndarray:
        return self._answer(np.stack([one.predict() for one in self.predictors]))

    def _answer(self, asked: np.ndarray) -> np.ndarray:
        if self.rule == "logistic":
            scores = self.weights @ np.log(asked)
            powers = np.exp(np.maximum(scores - scores.max(), -80.0))
            return powers / powers.sum()
        found = self.weights @ asked
        return found / found.sum()

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, self.alphabet)
        asked = np.stack([one.predict() for one in self.predictors])
        found = self._answer(asked)
        for one in self.predictors:
            one.update(symbol)
        if self.rule == "logistic":
            logs = np.log(asked)
            slope = logs[:, symbol] - logs @ found
            self.weights = self.weights + self.rate * np.clip(slope, -5, 5)
        else:
            posterior = self.weights * asked[:, symbol]
            self.weights = posterior / posterior.sum()
            if self.rule == "fixed_share" and len(self.weights) > 1:
                given = self.share / (len(self.weights) - 1)
                self.weights = self.weights * (1 - self.share) + given * (1 - self.weights)
            # A weight of 0 would never come back, and a product below 1e-308 is one.
            self.weights = np.maximum(self.weights, 1e-300)
        return -math.log2(float(found[symbol]))

    def fork(self) -> Self:
        other = type(self)(
            [one.fork() for one in self.predictors], self.rule, self.share, self.rate
        )
        other.weights = self.weights.copy()
        return other

    def state(self) -> bytes:
        record = {
            "weights": [weight.hex() for weight in self.weights.tolist()],
            "members": [base64.b64encode(one.state()).decode() for one in self.predictors],
        }
        return base.wrap_state("mixture", self._settings(), json.dumps(record).encode())

    def load(self, data: bytes) -> Self:
        record = json.loads(base.unwrap_state("mixture", self._settings(), data))
        if len(record["members"]) != len(self.predictors):
            raise CheckpointError("the state is of a mixture with another number of members.")
        members = [
            one.load(base64.b64decode(stored))
            for one, stored in zip(self.predictors, record["members"], strict=True)
        ]
        other = type(self)(members, self.rule, self.share, self.rate)
        other.weights = np.array([float.fromhex(weight) for weight in record["weights"]])
        return other

    def _settings(self) -> dict[str, Any]:
        members = len(self.predictors)
        return {"rule": self.rule, "share": self.share, "rate": self.rate, "members": members}

    def identity(self) -> str:
        """Equal identities give equal predictions."""
        names = [str(getattr(one, "identity", lambda: "?")()) for one in self.predictors]
        return f"mixture,{self.rule},{self.share},{self.rate}({';'.join(names)})"
