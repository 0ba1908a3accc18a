"""The branching encoder: a small encoder hears every step, a large one only those chosen.

    small_t            = small(frames_t)                      its state is always carried on
    weight_t           = gate(arbitrator(small_t))            in [0, 1]; 0 or 1 at inference
    large_t            = large(frames_t)                      where weight_t > 0, and nowhere else
    hidden_t           = weight_t large_t + (1 - weight_t) up(small_t)

To the large branch, steps that were not chosen do not exist: it reads the chosen ones as if they
followed each other, and its state is carried on over the others unchanged. (AmNet, arXiv
2108.01553, lets recurrent branches share one state; here widths and layers may differ.)
"""

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from solomonic.layers import Linear
from solomonic.speech.branching import gate
from solomonic.speech.config import TransducerConfig
from solomonic.speech.encoder import Encoder, EncoderState, check_frames
from solomonic.state import State


@dataclasses.dataclass
class BranchingState(State):
    """Each branch's own state; that of `large` is as its last chosen step left it."""

    small: EncoderState = dataclasses.field(default_factory=EncoderState)
    large: EncoderState = dataclasses.field(default_factory=EncoderState)


class Arbitrator(nn.Module):
    """(B, T, small) -> logits (B, T), the higher the more the large branch is to be run."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.inside = nn.Linear(inputs, size)
        self.outside = nn.Linear(size, 1)
        nn.init.zeros_(self.outside.weight)  # weights around 0.5 everywhere: no branch starves
        nn.init.zeros_(self.outside.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outside(silu(self.inside(x)))[..., 0]


class BranchingEncoder(nn.Module):
    """In the place of an `Encoder`: (B, T0, bins) -> (B, T0 // frames_per_step, hidden_size).

    Attributes:
        gating: of training: 'soft' draws weights between the branches; 'hard' decides as at
            inference, which teaches the arbitrator nothing and the branches what they will meet.
            In evaluation decisions are always hard.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        self.config = config
        self.gating: Literal["soft", "hard"] = "soft"
        self.register_buffer("mean", torch.zeros(config.bins))
        self.register_buffer("deviation", torch.ones(config.bins))
        self.large = Encoder(config.branch("large"))
        self.small = Encoder(config.branch("small"))
        self.up = Linear(config.small_size, config.hidden_size)
        nn.init.normal_(self.up.weight, std=config.small_size**-0.5)
        self.arbitrator = Arbitrator(config.small_size, config.arbitrator_size)

    def init_state(self, batch: int) -> BranchingState:
        """The state of `batch` streams before any frame."""
        return BranchingState(self.small.init_state(batch), self.large.init_state(batch))

    def forward(
        self,
        features: Tensor,
        state: BranchingState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
    ) -> tuple[Tensor, BranchingState, Tensor | None]:
        """As `Encoder.forward`.

        Args:
            trace: a dict is added to it: "large" (B, T), the weight of the large branch, which was
                run where it is above 0; "open" (B, T), the probability of that with soft
                gating, else the same as "large"; both are 0 behind a row's end.
        """
        check_frames(features, self.config)
        state = state or self.init_state(len(features))
        x = (features - self.mean) / self.deviation
        heard, small, steps = self.small(x, state.small, lengths)
        logits = self.arbitrator(heard).float()
        if not self.training or self.gating == "hard":
            weights = probability = gate.hard(logits)
        else:
            weights = gate.soft(logits, gate.logistic_noise(logits))
            probability = gate.open_probability(logits)
        if steps is not None:
            real = torch.arange(logits.shape[1], device=logits.device) < steps[:, None]
            weights, probability = weights * real, probability * real
        if trace is not None:
            trace.append({"large": weights, "open": probability})
        out, large = self.mix(x, self.up(heard), weights, state.large, lengths)
        return out, BranchingState(small, large), steps

    def mix(
        self,
        x: Tensor,
        low: Tensor,
        weights: Tensor,
        state: EncoderState,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, EncoderState]:
        """Both branches' outputs (B, T, D) by weight, and the large one's next state.

        Args:
            x: (B, T0, bins) frames without mean and deviation.
            low: (B, T, D) the small branch's output.
            weights: (B, T) in [0, 1]; the large branch is not run where it is 0.
        """
        chosen = weights > 0
        high, state = self._run_large(x, chosen, state, lengths)
        if high is None:
            return low, state
        if not self.training:
            return torch.where(chosen[..., None], high.to(low.dtype), low), state
        share = weights[..., None].to(low.dtype)
        # Of a step that was not run nobody knows what the large branch would have said: its weight
        # gets no gradient.
        return torch.where(chosen[..., None], share * high + (1 - share) * low, low), state

    def _run_large(
        self, x: Tensor, chosen: Tensor, state: EncoderState, lengths: Tensor | None
    ) -> tuple[Tensor | None, EncoderState]:
        """Its outputs (B, T, D), zero where it was not chosen; None: nowhere chosen, not run."""
        counts = chosen.sum(1)
        most = int(counts.max()) if counts.numel() else 0
        if not most:
            return None, state
        size = self.config.frames_per_step
        # The chosen steps first, in their order; what stands behind them is not read.
        order = chosen.logical_not().to(torch.uint8).sort(dim=1, stable=True).indices
        taken = torch.arange(most, device=x.device) < counts[:, None]
        frames = x.unflatten(1, (-1, size))
        picked = frames.gather(1, order[:, :most, None, None].expand(-1, -1, size, x.shape[2]))
        picked = torch.where(taken[..., None, None], picked, 0.0).flatten(1, 2)
        real = None
        if lengths is not None:
            starts = size * torch.arange(chosen.shape[1], device=x.device)
            inside = (lengths[:, None] - starts).clamp(0, size)
            real = (inside * chosen).sum(1)
        elif bool((counts < most).any()):
            real = counts * size
        heard, state, _ = self.large(picked, state, real)
        heard = torch.where(taken[..., None], heard, 0.0)
        heard = pad(heard, (0, 0, 0, chosen.shape[1] - most))
        back = order.argsort(dim=1)
        return heard.gather(1, back[..., None].expand_as(heard)), state
