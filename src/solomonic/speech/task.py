"""A transducer as a training `Task`: batches of utterances, the losses, held-out figures.

Training from scratch on hours rather than thousands of hours needs help: first the encoder learns
alone by CTC and a transducer with an additive joint network (its normaliser is a matrix product),
then the real joint network is trained on the cells that the additive one finds likely (pruned
RNN-T, Kuang et al., arXiv 2206.13236). The model that is kept is a running mean of the weights.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, log_softmax

from solomonic.core import Config, ConfigError, DataError, require
from solomonic.layers import Linear
from solomonic.speech.data.bank import FeatureBank
from solomonic.speech.data.batches import Batch, BucketedBatches, collate
from solomonic.speech.data.online import OnlineConfig, change, pad
from solomonic.speech.loss import joint_transducer_loss, pruned_transducer_loss
from solomonic.speech.model import BLANK, Transducer
from solomonic.speech.pretrained import SpeechModel, write_speech_model
from solomonic.text.pieces import WordPieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechTaskConfig(Config):
    """Shape of a batch, the losses and their schedule (a step is one batch).

    Raises:
        ConfigError: a value out of range.
    """

    frames_per_batch: int = 9600
    """Feature frames (10 ms) of a batch, padding included."""
    longest_seconds: float = 17.0
    """Longer utterances are left out; how many is said."""
    seed: int = 0
    warm_steps: int = 400
    """Steps of CTC and additive transducer alone."""
    ramp_steps: int = 600
    """Steps after them in which the pruned loss comes up to full weight."""
    prune_range: int = 5
    ctc_scale: float = 0.15
    simple_scale: float = 0.5
    fastemit: float = 0.003
    average_decay: float = 0.999
    eval_utterances: int = 400

    def __post_init__(self) -> None:
        for name in ("frames_per_batch", "prune_range", "eval_utterances"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        for name in ("warm_steps", "ramp_steps", "ctc_scale", "simple_scale", "fastemit", "seed"):
            require(getattr(self, name) >= 0, f"{name} must not be negative.")
        require(
            self.longest_seconds > 0,
            f"longest_seconds = {self.longest_seconds} must be above 0.",
        )
        require(0 <= self.average_decay < 1, "average_decay must lie in [0, 1).")


@dataclasses.dataclass(frozen=True)
class SpeechBatch:
    """A batch, and how many came before it in the run: the losses come in by a schedule."""

    data: Batch
    step: int


@dataclasses.dataclass(frozen=True)
class Computed:
    """What a batch became on the way to its losses, for those that are added.

    hidden: (B, T, D); lengths: (B,) of them.
    acoustic, label: (B, T, J) and (B, U + 1, J), what the joint network reads.
    ranges: (B, T, S) int64, the label positions that paths may pass at each frame.
    trace: what the encoder tells of itself (`Encoder.forward`).
    """

    data: Batch
    hidden: Tensor
    lengths: Tensor
    acoustic: Tensor
    label: Tensor
    ranges: Tensor
    trace: list[dict] = dataclasses.field(default_factory=list)


class TrainingModel(nn.Module):
    """The transducer, the heads that only training needs, and the running mean of its weights."""

    def __init__(self, transducer: Transducer) -> None:
        super().__init__()
        self.transducer = transducer
        config = transducer.config
        self.ctc = Linear(config.hidden_size, config.vocab_size)
        self.simple_acoustic = Linear(config.hidden_size, config.vocab_size)
        self.simple_label = Linear(config.predictor_size, config.vocab_size)
        for name, parameter in transducer.named_parameters():
            self.register_buffer(_mean_name(name), parameter.detach().clone())

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the running mean towards the weights as they are now."""
        for name, weight in self.transducer.named_parameters():
            self.get_buffer(_mean_name(name)).lerp_(weight, 1 - decay)

    def shadows(self) -> dict[str, str]:
        """The buffer with the running mean of each parameter that has one."""
        names = (name for name, _ in self.transducer.named_parameters())
        return {f"transducer.{name}": _mean_name(name) for name in names}

    def averaged(self) -> Transducer:
        """A copy of the transducer with the mean weights, for evaluation."""
        with torch.random.fork_rng(devices=[]):
            copy = Transducer(self.transducer.config)
        copy.load_state_dict(self.transducer.state_dict(), strict=False)
        with torch.no_grad():
            for name, parameter in copy.named_parameters():
                parameter.copy_(self.get_buffer(_mean_name(name)))
        return copy.to(next(self.parameters()).device).eval()


class TransducerTask:
    """Speech recognition from feature banks; a `solomonic.core.Task`.

    Args:
        banks: (features and texts, weight): how often an epoch reads each utterance.
        held_out: what `evaluate` reads.
        noises: log-mel frames (n, bins) of recorded noise.

    Attributes:
        left_out: how many utterances are not trained on, by the reason.

    Raises:
        ConfigError: the pieces are not those of the model.
        DataError: no utterance is left, or a bank has other features than the model reads.
    """

    def __init__(
        self,
        model: TrainingModel,
        pieces: WordPieces,
        banks: Sequence[tuple[FeatureBank, float]],
        held_out: Sequence[FeatureBank] = (),
        noises: Sequence[np.ndarray] = (),
        config: SpeechTaskConfig | None = None,
        online: OnlineConfig | None = None,
    ) -> None:
        self.model, self.pieces = model, pieces
        self.config, self.online = config or SpeechTaskConfig(), online or OnlineConfig()
        self.noises = noises
        settings = model.transducer.config
        if pieces.size != settings.vocab_size:
            raise ConfigError(
                f"the vocabulary has {pieces.size} pieces and the model {settings.vocab_size}; set "
                f"vocab_size = {pieces.size}."
            )
        self._banks = [bank for bank, _ in banks]
        for bank in (*self._banks, *held_out):
            if (bank.config.bins, bank.config.shift_ms) != (settings.bins, settings.shift_ms):
                raise DataError(
                    f"the bank {bank.folder} has other features than the model's {settings.bins} "
                    f"bins every {settings.shift_ms:g} ms; build it with those."
                )
        padding = int((self.online.lead_ms + self.online.tail_ms) / settings.shift_ms)
        self._items: list[tuple[int, int]] = []
        lengths: list[int] = []
        weights: list[float] = []
        self.left_out: dict[str, int] = {}
        self._labels: list[list[list[int]]] = []
        for number, (bank, weight) in enumerate(banks):
            self._labels.append([pieces.encode(text) for text in bank.texts])
            for index, length in enumerate(bank.lengths):
                fault = self._fault(number, index, int(length))
                if fault is not None:
                    self.left_out[fault] = self.left_out.get(fault, 0) + 1
                    continue
                self._items.append((number, index))
                lengths.append(int(length) + padding)
                weights.append(weight)
        if not lengths:
            why = ", ".join(f"{count} {fault}" for fault, count in self.left_out.items())
            raise DataError(
                f"there is no utterance to train on ({why or 'the banks are empty'}); give others, "
                "or cut them shorter."
            )
        self._order = BucketedBatches(
            lengths,
            self.config.frames_per_batch,
            self.config.seed,
            weights=weights,
            multiple=settings.frames_per_step,
        )
        self._held_out = list(held_out)

    def _fault(self, bank: int, index: int, length: int) -> str | None:
        """Why an utterance cannot be trained on; None: it can."""
        settings, labels = self.model.transducer.config, self._labels[bank][index]
        if length > int(self.config.longest_seconds * 1000 / settings.shift_ms):
            return f"longer than {self.config.longest_seconds:g} s"
        if not labels:
            return "without words"
        # CTC needs a frame for each label and one between two that are equal.
        needed = len(labels) + sum(a == b for a, b in pairwise(labels))
        return "too short for its text" if needed > length // settings.frames_per_step else None

    def batches(
        self, position: Mapping[str, Any] | None
    ) -> Iterator[tuple[SpeechBatch, dict[str, Any]]]:
        """Batches in a seeded order, for ever, each utterance changed by a draw of its own."""
        step = 0 if position is None else int(position["step"])
        order = None if position is None else position["order"]
        for indices, after in self._order.batches(order):
            generator = np.random.default_rng((self.config.seed, step))
            rows = []
            for item in indices:
                bank, index = self._items[item]
                frames = self._banks[bank][index]
                changed = change(frames, self.online, self.noises, generator)
                rows.append((self._filled(changed), self._labels[bank][index]))
            data = collate(rows, self.model.transducer.config.frames_per_step)
            yield SpeechBatch(data, step), {"step": step + 1, "order": after}
            step += 1

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """Whole encoder steps, the last filled with silence as streams do; a batch's own padding is
        zeros, which are loud."""
        return pad(frames, 0, -len(frames) % self.model.transducer.config.frames_per_step)

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, float]]:
        """The weighted losses in nats per label, and each by name."""
        config, model = self.config, self.model
        if batch.step:
            model.average(min(config.average_decay, (1 + batch.step) / (10 + batch.step)))
        net = model.transducer
        device = self._device
        data = batch.data.to(device)
        tokens, sizes = data.tokens, data.token_lengths
        trace: list[dict] = []
        hidden, _, lengths = net.hidden(data.features, None, data.feature_lengths, trace)
        assert lengths is not None
        labels = float(sizes.sum())
        with torch.autocast(device.type, enabled=False):
            hidden = hidden.float()
            ctc = self._ctc(hidden, lengths, tokens, sizes)
            ramp = (batch.step - config.warm_steps) / max(config.ramp_steps, 1)
            weight = min(max(ramp, 0.0), 1.0)
            said = net.predictor.features(tokens)
            acoustic, label = net.acoustic(hidden), net.predictor.output(said)
            pruned = pruned_transducer_loss(
                acoustic,
                label,
                net.joint.weight,
                net.joint.bias,
                model.simple_acoustic(hidden),
                model.simple_label(said),
                tokens,
                lengths,
                sizes,
                prune_range=config.prune_range,
                fastemit=config.fastemit,
                reduction="sum",
            )
            parts = Computed(data, hidden, lengths, acoustic, label, pruned.ranges, trace)
            added, more = self.added(parts)
        # While the joint network is silent the additive one teaches alone, then it steps back.
        simple = 1.0 + weight * (config.simple_scale - 1.0)
        aside = 1.0 + weight * (config.ctc_scale - 1.0)
        total = simple * pruned.simple + aside * ctc + max(weight, 0.05) * pruned.pruned
        figures = {
            "pruned": float(pruned.pruned.detach()) / labels,
            "simple": float(pruned.simple.detach()) / labels,
            "ctc": float(ctc.detach()) / labels,
            "tokens": float(data.feature_lengths.sum()),
            **more,
        }
        return total / labels + added, figures

    def added(self, parts: Computed) -> tuple[Tensor | float, dict[str, float]]:
        """A further loss in nats per label, and its figures; here none. For those who extend it."""
        return 0.0, {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The exact loss of the averaged model on held-out utterances, in nats per label."""
        net = self.model.averaged()
        nats = labels = 0.0
        traces: list[tuple[list[dict], Tensor]] = []
        for rows in self._held_out_rows():
            batch = collate(rows, net.config.frames_per_step).to(self._device)
            trace: list[dict] = []
            hidden, _, lengths = net.hidden(batch.features, None, batch.feature_lengths, trace)
            assert lengths is not None
            loss = joint_transducer_loss(
                net.acoustic(hidden),
                net.predictor(batch.tokens),
                net.joint.weight,
                net.joint.bias,
                batch.tokens,
                lengths,
                batch.token_lengths,
                reduction="sum",
            )
            nats += float(loss)
            labels += float(batch.token_lengths.sum())
            traces.append((trace, lengths))
        if not labels:
            return {}
        return self.judged({"loss": nats / labels, "eval_labels": labels}, traces)

    def judged(
        self, figures: dict[str, float], traces: Sequence[tuple[list[dict], Tensor]]
    ) -> dict[str, float]:
        """The figures of `evaluate`, with what an encoder's traces and the rows' lengths (B,) of
        each batch add; here nothing. For those who extend it."""
        return figures

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """As the transducer says; the heads join the plain group."""
        groups = self.model.transducer.parameter_groups()
        named = {key: [f"transducer.{name}" for name in names] for key, names in groups.items()}
        heads = [n for n, _ in self.model.named_parameters() if not n.startswith("transducer.")]
        return {**named, "attention": [*named["attention"], *heads]}

    def save(self, directory: str) -> None:
        """Write the averaged transducer as `load_speech_model` reads it."""
        write_speech_model(Path(directory), SpeechModel(self.model.averaged().cpu(), self.pieces))

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _ctc(self, hidden: Tensor, lengths: Tensor, tokens: Tensor, sizes: Tensor) -> Tensor:
        scores = log_softmax(self.model.ctc(hidden), dim=-1).transpose(0, 1)
        return ctc_loss(scores, tokens, lengths, sizes, BLANK, reduction="sum", zero_infinity=True)

    def _held_out_rows(self) -> Iterator[list[tuple[np.ndarray, list[int]]]]:
        """The first utterances of every held-out bank in small batches of similar length."""
        share = -(-self.config.eval_utterances // max(len(self._held_out), 1))
        tail = int(self.online.tail_min_ms / self.model.transducer.config.shift_ms)
        limit = int(self.config.longest_seconds * 1000 / self.model.transducer.config.shift_ms)
        rows = []
        for bank in self._held_out:
            for index in range(min(share, len(bank))):
                labels = self.pieces.encode(bank.texts[index])
                if labels and bank.lengths[index] <= limit:
                    rows.append((self._filled(pad(bank[index], 0, tail)), labels))
        rows.sort(key=lambda row: len(row[0]))
        for start in range(0, len(rows), 8):
            yield rows[start : start + 8]


def _mean_name(name: str) -> str:
    return "mean__" + name.replace(".", "__")
