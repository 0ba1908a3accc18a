"""What the arbitrator of a branching encoder decided, step by step."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from solomonic.core import ConfigError
from solomonic.speech.branching import gate
from solomonic.speech.branching.cost import EncoderCost, encoder_cost
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.encoder import Encoder


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """Of one recording, an entry an encoder step.

    Attributes:
        large: (T,) bool, whether the large branch was run.
        open: (T,) probability with which it would have been in training; `large` where it is
            more likely than not.
        cost: multiplications of the branches.
    """

    large: np.ndarray
    open: np.ndarray
    cost: EncoderCost

    @property
    def share(self) -> float:
        """Of the steps, those that ran the large branch."""
        return float(self.large.mean()) if len(self.large) else 0.0


def decisions(encoder: Encoder | BranchingEncoder, features: Tensor) -> Decisions:
    """As at inference, whatever mode the encoder is in; only the small branch is computed.

    Args:
        features: (T0, bins) log-mel frames; what does not make a whole step is left out.

    Raises:
        ConfigError: the encoder has one branch.
    """
    if not isinstance(encoder, BranchingEncoder):
        raise ConfigError(
            "this model has one encoder and decides nothing; train one with small_pattern "
            "(docs/branching.md)."
        )
    whole = len(features) // encoder.config.frames_per_step * encoder.config.frames_per_step
    if not whole:
        empty = np.zeros(0)
        return Decisions(empty > 0, empty, encoder_cost(encoder))
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            x = (features[None, :whole].to(encoder.mean) - encoder.mean) / encoder.deviation
            logits = encoder.arbitrator(encoder.small(x, encoder.small.init_state(1))[0]).float()
    finally:
        encoder.train(training)
    large = gate.hard(logits)[0] > 0
    return Decisions(
        large.cpu().numpy(), gate.open_probability(logits)[0].cpu().numpy(), encoder_cost(encoder)
    )
