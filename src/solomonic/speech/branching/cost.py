"""What the branches cost: multiplications, and the work that piles up when a machine is slow."""

import dataclasses

import torch
from torch import Tensor, nn

from solomonic.core import ShapeError
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.encoder import Encoder


@dataclasses.dataclass(frozen=True)
class EncoderCost:
    """Multiplications with stored matrices, as the native core counts them.

    Attributes:
        always: for every encoder step: all of a plain encoder; small branch and arbitrator.
        chosen: for a step on which the large branch is run, besides; 0 in a plain encoder.
        frame_seconds: of audio that a step stands for.
    """

    always: int
    chosen: int
    frame_seconds: float

    def per_second(self, share: float) -> float:
        """For a second of audio, a `share` of whose steps runs the large branch."""
        return (self.always + share * self.chosen) / self.frame_seconds


def encoder_cost(encoder: Encoder | BranchingEncoder) -> EncoderCost:
    """What the encoder costs, from its matrices."""
    seconds = encoder.config.frame_seconds
    if isinstance(encoder, Encoder):
        return EncoderCost(_macs(encoder), 0, seconds)
    always = _macs(encoder.small) + _weights(encoder.up) + _weights(encoder.arbitrator)
    return EncoderCost(always, _macs(encoder.large), seconds)


def backlog(work: Tensor, lengths: Tensor | None = None, every: float = 0.06) -> Tensor:
    """Seconds (B, T) by which computation is behind the audio after each step.

    q_t = max(0, q_(t-1) + work_t - every), q_0 = 0: a machine that was given more than it can do
    catches up on cheap steps. Behind a row's end it stays as it was at the end.

    Args:
        work: (B, T) seconds that each step takes.
        lengths: (B,) steps of each row.
        every: seconds between steps.

    Raises:
        ShapeError: `work` is not (B, T).
    """
    if work.dim() != 2:
        raise ShapeError(f"work must be (batch, time), not {tuple(work.shape)}.")
    change = work - every
    if lengths is not None:
        steps = torch.arange(work.shape[1], device=work.device)
        change = change * (steps < lengths[:, None])
    total = change.cumsum(1)
    # The last moment without a backlog is the lowest point so far, the start included.
    lowest = torch.cummin(total, 1).values.clamp(max=0) if total.shape[1] else total
    return total - lowest


def _macs(encoder: Encoder) -> int:
    """For one step: what comes before the reduction runs `reduction` times."""
    early = _weights(encoder.embed)
    early += 0 if encoder.front is None else _weights(encoder.front)
    late = _weights(encoder.join) + _weights(encoder.back)
    return encoder.config.reduction * early + late


def _weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.dim() == 2)
