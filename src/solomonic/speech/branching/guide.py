"""Where somebody speaks, by the large branch's own alignment: what the arbitrator starts from.

A price alone does not get it there: below some price the gate stays open everywhere, and a little
above it closes everywhere (docs/log.md). A gate that is first told where words are has a small
branch beside it that learned silence, and then the price moves it from there.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, max_pool1d, pad

from solomonic.kernels.segments import padding_mask
from solomonic.speech.alignment import occupancy
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.data.batches import Batch
from solomonic.speech.model import Transducer


@torch.no_grad()
def spoken_steps(
    net: Transducer, data: Batch, label: Tensor, before: int, after: int, least: float = 0.1
) -> Tensor:
    """(B, T) bool: steps that are loud, or at most `after` steps behind one, from `before` steps
    before a label is said to `after` steps behind it.

    The large branch hears every step for this. A label counts as said at a step where `least` of
    all alignments of the reference say it. Without loudness the gate would have to know in silence
    that somebody is about to speak.

    Args:
        label: (B, U + 1, J) of the prediction network.
    """
    encoder = net.encoder
    assert isinstance(encoder, BranchingEncoder)
    x = (data.features - encoder.mean) / encoder.deviation
    training = encoder.large.training
    encoder.large.eval()
    hidden, _, lengths = encoder.large(x, None, data.feature_lengths)
    encoder.large.train(training)
    assert lengths is not None
    _, said = occupancy(net, hidden.float(), label, data.tokens, lengths, data.token_lengths)
    level = data.features.mean(-1)[:, : hidden.shape[1] * net.config.frames_per_step]
    level = level.unflatten(1, (-1, net.config.frames_per_step)).mean(-1)
    words = _widened(said.sum(-1) >= least, before, after)
    return words & _widened(_loud(level, lengths), 0, after)


def _loud(level: Tensor, lengths: Tensor, share: float = 0.3) -> Tensor:
    """Where levels (B, T) lie above `share` of the way from a row's quiet steps to the loud."""
    real = padding_mask(level.shape[1], lengths)
    known = level.masked_fill(~real, float("nan"))
    low, high = (known.nanquantile(q, dim=1, keepdim=True) for q in (0.1, 0.95))
    return (level > low + share * (high - low)) & real


def _widened(marks: Tensor, before: int, after: int) -> Tensor:
    """(B, T) bool: true where one of `marks` stands between t - after and t + before."""
    wide = pad(marks.float(), (after, before))[:, None]
    return max_pool1d(wide, after + before + 1, stride=1)[:, 0] > 0


def guide_loss(open_probability: Tensor, spoken: Tensor, lengths: Tensor) -> Tensor:
    """Mean nats over real steps for opening the gate where somebody speaks and nowhere else; ().

    Args:
        open_probability: (B, T) of `BranchingEncoder`'s trace. spoken: (B, T) bool.
    """
    real = padding_mask(spoken.shape[1], lengths).float()
    likely = open_probability.float().clamp(1e-6, 1 - 1e-6)
    nats = binary_cross_entropy(likely, spoken.float(), reduction="none")
    return (nats * real).sum() / real.sum().clamp(min=1)
