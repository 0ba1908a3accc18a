"""Training the attention to personal words while the recogniser stays as it is, as a `Task`.

The recogniser's weights are frozen, so that with an empty list it is bit for bit what it was
(contextual adapters: Sathyendra et al., arXiv 2205.13660). Which phrase a frame is saying is known
from the recogniser's own alignment of the reference, and the attention is guided by it (Tang et
al., arXiv 2401.08835): without that it takes far longer to find out what the list is for.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import Config, ConfigError, DataError, require
from solomonic.speech.alignment import occupancy
from solomonic.speech.biasing.attention import (
    ContextBiasing,
    guided_attention_loss,
    trainable_parameters,
)
from solomonic.speech.biasing.sampling import (
    Sampled,
    SamplingConfig,
    common_words,
    sample_contexts,
)
from solomonic.speech.data.bank import FeatureBank
from solomonic.speech.data.batches import Batch, BucketedBatches, collate
from solomonic.speech.data.online import OnlineConfig, change
from solomonic.speech.loss import joint_transducer_loss, transducer_loss
from solomonic.speech.pretrained import SpeechModel, write_speech_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextTaskConfig(Config):
    """Shape of a batch and the losses.

    Raises:
        ConfigError: a value out of range.
    """

    frames_per_batch: int = 4800
    longest_seconds: float = 8.0
    """Longer utterances are left out: the exact loss is used."""
    seed: int = 0
    guided_scale: float = 0.5
    """Weight of the attention's loss beside the transducer's, which is per label."""
    common: int = 400
    """So many of the most frequent words are never listed."""
    certain: float = 0.6
    """Share of alignments that must agree before a frame guides the attention."""

    def __post_init__(self) -> None:
        for name in ("frames_per_batch", "common"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(self.longest_seconds > 0, "longest_seconds must be above 0.")
        require(self.guided_scale >= 0, "guided_scale must not be negative.")
        require(0.5 <= self.certain <= 1, f"certain = {self.certain} must lie in [0.5, 1].")


@dataclasses.dataclass(frozen=True)
class ContextBatch:
    """A batch and each row's list of phrases."""

    data: Batch
    lists: list[Sampled]


class ContextTask:
    """Attention to lists of phrases on a frozen recogniser; a `solomonic.core.Task`.

    Args:
        speech: a recogniser whose transducer has a `context`, a `pointer` or both; all else in it
            is frozen here.
        pool: phrases, in pieces, to fill lists with besides those of other utterances.

    Attributes:
        left_out: how many utterances are not trained on, by the reason.

    Raises:
        ConfigError: the transducer has neither.
        DataError: no utterance is short enough.
    """

    def __init__(
        self,
        speech: SpeechModel,
        banks: Sequence[tuple[FeatureBank, float]],
        *,
        pool: Sequence[tuple[int, ...]] = (),
        config: ContextTaskConfig | None = None,
        sampling: SamplingConfig | None = None,
        online: OnlineConfig | None = None,
    ) -> None:
        if speech.transducer.context is None and speech.transducer.pointer is None:
            raise ConfigError(
                "this recogniser has no attention to personal words; set `transducer.context` or "
                "`transducer.pointer`."
            )
        self.speech, self.model = speech, speech.transducer
        self.config, self.sampling = config or ContextTaskConfig(), sampling or SamplingConfig()
        self.online = online or OnlineConfig(time_masks=2, bin_masks=1)
        trainable_parameters(self.model)
        self._banks = [bank for bank, _ in banks]
        self._pool = list(pool)
        settings = self.model.config
        limit = int(self.config.longest_seconds * 1000 / settings.shift_ms)
        padding = int((self.online.lead_ms + self.online.tail_ms) / settings.shift_ms)
        self._items, lengths, weights = [], [], []
        self.left_out: dict[str, int] = {}
        self._labels = [[speech.pieces.encode(text) for text in bank.texts] for bank, _ in banks]
        for number, (bank, weight) in enumerate(banks):
            for index, length in enumerate(bank.lengths):
                if length > limit or not self._labels[number][index]:
                    long = f"longer than {self.config.longest_seconds:g} s"
                    fault = long if length > limit else "without words"
                    self.left_out[fault] = self.left_out.get(fault, 0) + 1
                    continue
                self._items.append((number, index))
                lengths.append(int(length) + padding)
                weights.append(weight)
        if not lengths:
            raise DataError(
                f"no utterance is {self.config.longest_seconds:g} s or shorter; set "
                "longest_seconds higher."
            )
        said = (labels for rows in self._labels for labels in rows)
        self._common = common_words(said, speech.pieces, self.config.common)
        self._order = BucketedBatches(
            lengths,
            self.config.frames_per_batch,
            self.config.seed,
            weights=weights,
            multiple=settings.frames_per_step,
            most_rows=64,
        )

    def batches(
        self, position: Mapping[str, Any] | None
    ) -> Iterator[tuple[ContextBatch, dict[str, Any]]]:
        """Batches in a seeded order, for ever, each with lists of its own."""
        step = 0 if position is None else int(position["step"])
        order = None if position is None else position["order"]
        for indices, after in self._order.batches(order):
            generator = np.random.default_rng((self.config.seed, 7, step))
            rows = []
            for item in indices:
                bank, index = self._items[item]
                frames = change(self._banks[bank][index], self.online, (), generator)
                rows.append((frames, self._labels[bank][index]))
            lists = sample_contexts(
                [labels for _, labels in rows],
                self.speech.pieces,
                generator,
                self.sampling,
                common=self._common,
                pool=self._pool,
            )
            if not any(one.phrases for one in lists):  # nothing could be learned from it
                said = tuple(rows[0][1])
                lists[0] = Sampled((said,), ((0, len(said), 0),))
            data = collate(rows, self.model.config.frames_per_step)
            yield ContextBatch(data, lists), {"step": step + 1, "order": after}
            step += 1

    def loss(self, batch: ContextBatch) -> tuple[Tensor, dict[str, float]]:
        """Transducer loss per label plus the guided attention loss, in nats; and each by name."""
        net = self.model
        data = batch.data.to(net.joint.bias.device)
        with torch.no_grad():
            net.encoder.eval()
            hidden, _, lengths = net.hidden(data.features, None, data.feature_lengths)
            label = net.predictor.eval()(data.tokens)
            assert lengths is not None
            hidden, label = hidden.float(), label.float()
        with torch.autocast(hidden.device.type, enabled=False):
            hidden, guided = self._attended(batch, hidden, label, lengths)
            loss = self._transducer_loss(batch, net.to_joint(hidden), label, lengths)
        figures = {
            "transducer": float(loss.detach()),
            "guided": float(guided.detach()),
            "tokens": float(data.feature_lengths.sum()),
        }
        return loss + self.config.guided_scale * guided, figures

    def _attended(
        self, batch: ContextBatch, hidden: Tensor, label: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) after their attention, where the model has one, and its guidance."""
        context = self.model.context
        if context is None:
            return hidden, hidden.new_zeros(())
        targets = self._targets(context, batch, hidden, label, lengths)
        embedded = context.embed_batch([one.phrases for one in batch.lists])
        taken, weights = context.attend(hidden, embedded)
        return context.combine(hidden, taken), guided_attention_loss(weights, targets)

    def _transducer_loss(
        self, batch: ContextBatch, acoustic: Tensor, label: Tensor, lengths: Tensor
    ) -> Tensor:
        """Nats a label, with what the joint network's attention adds, where the model has one."""
        joint, pointer, data = self.model.joint, self.model.pointer, batch.data
        sizes = lengths, data.token_lengths.to(lengths.device)
        tokens = data.tokens.to(acoustic.device)
        if pointer is None:
            weights = joint.weight, joint.bias
            loss = joint_transducer_loss(acoustic, label, *weights, tokens, *sizes, reduction="sum")
        else:
            opened = pointer.open([one.phrases for one in batch.lists], data.tokens)
            logits = joint(acoustic[:, :, None], label[:, None])
            logits = logits + pointer(acoustic, label, opened)
            loss = transducer_loss(logits, tokens, *sizes, reduction="sum")
        return loss / data.token_lengths.sum()

    def evaluate(self) -> dict[str, float]:
        """Nothing is held out: what counts is measured with whole lists (`evals.biasing`)."""
        return {}

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """The attention's parameters in one group; matrices are decayed."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return {
            "ssm": [],
            "attention": list(named),
            "no_decay": [name for name, parameter in named.items() if parameter.dim() != 2],
        }

    def save(self, directory: str) -> None:
        """Write the whole recogniser as `load_speech_model` reads it."""
        write_speech_model(Path(directory), self.speech)

    def _targets(
        self,
        context: ContextBiasing,
        batch: ContextBatch,
        hidden: Tensor,
        label: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """Which entry each frame is saying (B, T) int64, as `guided_attention_loss` asks: by the
        share of alignments of the reference that wait for one of the entry's labels there."""
        net, data = self.model, batch.data
        gone, said = occupancy(net, hidden, label, data.tokens, lengths, data.token_lengths)
        waits = gone.clone()
        waits[..., :-1] += said
        steps = torch.arange(hidden.shape[1], device=hidden.device)
        targets = torch.where(steps < lengths[:, None], 0, -1)
        for row, one in enumerate(batch.lists):
            if not one.phrases:
                targets[row] = -1  # with no choice there is nothing to learn
            entries = context.entries(one.phrases)
            for low, high, place in one.spans:
                mass = waits[row, :, low:high].sum(-1)
                targets[row] = torch.where(mass > 1 - self.config.certain, -1, targets[row])
                length = (high - low) // len(entries[place])  # labels that an entry stands for
                places = list(zip(range(low, high, length), entries[place], strict=True))
                for first, entry in reversed(places):  # a frame belongs to the first that it says
                    mass = waits[row, :, first : first + length].sum(-1)
                    targets[row] = torch.where(mass >= self.config.certain, entry, targets[row])
        return targets
