"""Training of a branching encoder: the transducer's losses, and a price on computation and delay.

The price comes up slowly: with it in full from the start the gate closes before the large branch
is worth anything. In the last steps decisions are those of inference and fixed, so that both
branches get used to them: where the large branch is not run nothing says what it would have been
worth, and a gate that goes on learning from hard decisions only ever closes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from solomonic.core import Config, ConfigError, require
from solomonic.speech.branching.cost import EncoderCost, backlog, encoder_cost
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.branching.guide import guide_loss, spoken_steps
from solomonic.speech.task import Computed, SpeechBatch, TrainingModel, TransducerTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchingTaskConfig(Config):
    """What computation costs, for training.

    Raises:
        ConfigError: a value out of range.
    """

    cost_scale: float = 1.0
    """Nats per label for running the large branch on every step; half of it for half of them."""
    latency_scale: float = 0.0
    """Nats per label for each second by which computation is behind at an utterance's end."""
    machine_load: float = 0.8
    """Seconds that the large branch takes for a second of audio on the machine that is meant."""
    cost_ramp_steps: int = 500
    """Steps in which both prices come up."""
    hard_after: int | None = None
    """Steps after which decisions are those of inference, no longer learned; None: never."""
    freeze_large: bool = False
    """Train only the small branch and the arbitrator: all else stays as it was in `init`."""
    guide_scale: float = 0.0
    """Nats per label for each nat by which the gate misses where somebody speaks (`guide`)."""
    guide_before: float = 0.9
    """Seconds before a label is said in which what is loud counts as speech."""
    guide_after: float = 0.3
    """Seconds for which the gate shall stay open behind a label and behind what is loud."""
    guide_steps: int | None = None
    """Steps with the guide; None: all."""

    def __post_init__(self) -> None:
        for name in ("cost_scale", "latency_scale", "machine_load", "cost_ramp_steps",
                     "guide_scale", "guide_before", "guide_after"):  # fmt: skip
            require(getattr(self, name) >= 0, f"{name} must not be negative.")
        for name in ("hard_after", "guide_steps"):
            value = getattr(self, name)
            require(
                value is None or value >= 0, f"{name} = {value} must be null or a number of steps."
            )


class BranchingTransducerTask(TransducerTask):
    """A `TransducerTask` whose transducer has a branching encoder; arguments as there.

    Its figures: `large`, the share of steps that ran the large branch, `behind`, seconds by which
    the machine meant would be behind at the end of an utterance, and `guide`, nats a step by which
    a gate that is guided misses speech.

    Raises:
        ConfigError: the transducer has one encoder only.
    """

    def __init__(
        self,
        model: TrainingModel,
        *args: Any,
        branching: BranchingTaskConfig | None = None,
        **kwargs: Any,
    ) -> None:
        encoder = model.transducer.encoder
        if not isinstance(encoder, BranchingEncoder):
            raise ConfigError(
                "this transducer has one encoder only; set small_pattern, such as 'LL', to add a "
                "small branch."
            )
        super().__init__(model, *args, **kwargs)
        self.branching = branching or BranchingTaskConfig()
        self._cost: EncoderCost = encoder_cost(encoder)
        if self.branching.freeze_large:
            model.transducer.requires_grad_(False)
            for part in (encoder.small, encoder.up, encoder.arbitrator):
                part.requires_grad_(True)

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, float]]:
        """As of any transducer, with the prices."""
        encoder, settings = self.model.transducer.encoder, self.branching
        assert isinstance(encoder, BranchingEncoder)
        late = settings.hard_after is not None and batch.step >= settings.hard_after
        encoder.gating = "hard" if late else "soft"
        if settings.freeze_large:
            encoder.large.eval()  # what is not trained is not to be disturbed either
        self._step = batch.step
        return super().loss(batch)

    def added(self, parts: Computed) -> tuple[Tensor | float, dict[str, float]]:
        """The price of computation and of delay, in nats per label."""
        settings = self.branching
        before, figures = super().added(parts)
        (seen,) = parts.trace
        share, behind = self._priced(seen["open"], parts.lengths)
        price = settings.cost_scale * share + settings.latency_scale * behind
        ramp = min((self._step + 1) / max(settings.cost_ramp_steps, 1), 1.0)
        ran, _ = self._priced((seen["large"].detach() > 0).float(), parts.lengths)
        figures |= {"large": float(ran), "behind": float(behind.detach())}
        total, guide = before + ramp * price, self._guide(parts)
        if guide is not None:
            figures["guide"] = float(guide.detach())
            total = total + settings.guide_scale * guide
        return total, figures

    def _guide(self, parts: Computed) -> Tensor | None:
        """How far the gate misses speech, in nats a step; None when it is not guided now."""
        settings, net = self.branching, self.model.transducer
        encoder = net.encoder
        assert isinstance(encoder, BranchingEncoder)
        over = settings.guide_steps is not None and self._step >= settings.guide_steps
        if not settings.guide_scale or over or encoder.gating == "hard":
            return None
        before, after = (
            round(seconds / self._cost.frame_seconds)
            for seconds in (settings.guide_before, settings.guide_after)
        )
        spoken = spoken_steps(net, parts.data, parts.label.detach(), before, after)
        return guide_loss(parts.trace[0]["open"], spoken, parts.lengths)

    def judged(
        self, figures: dict[str, float], traces: Sequence[tuple[list[dict], Tensor]]
    ) -> dict[str, float]:
        """The held-out loss with both prices in full, as decisions are at inference."""
        total = frames = late = rows = 0.0
        for (seen,), lengths in traces:
            share, behind = self._priced(seen["large"], lengths)
            steps, count = float(lengths.sum()), len(lengths)
            total, frames = total + float(share) * steps, frames + steps
            late, rows = late + float(behind) * count, rows + count
        large, behind = total / frames, late / rows
        price = self.branching.cost_scale * large + self.branching.latency_scale * behind
        exact = figures["loss"]
        return {
            **figures, "loss": exact + price, "transducer": exact, "large": large, "behind": behind
        }  # fmt: skip

    def _priced(self, run: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The share of real steps that run the large branch, and the mean over rows of the seconds
        behind at their ends; `run` (B, T), the probability that a step does."""
        every, cost = self._cost.frame_seconds, self._cost
        share = run.sum() / lengths.sum().clamp(min=1)
        work = (run + cost.always / cost.chosen) * self.branching.machine_load * every
        behind = backlog(work, lengths, every)
        return share, behind[:, -1].mean()

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """As of any transducer; what is frozen is left out."""
        learned = {name for name, p in self.model.named_parameters() if p.requires_grad}
        groups = super().parameter_groups()
        return {key: [name for name in names if name in learned] for key, names in groups.items()}


def decisions(encoder: BranchingEncoder, features: Tensor) -> Iterator[Tensor]:
    """For each row of features (B, T0, bins), (T,) bool: where inference runs the large branch."""
    trace: list[dict] = []
    encoder(features, trace=trace)
    yield from trace[0]["large"] > 0
