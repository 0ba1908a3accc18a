"""Training the end head on utterances whose frames have been computed once.

The target is 1 from the true end of speech on and 0 before, pauses inside the sentence included.
A frame of such a pause that is called the end is an early cut, which loses words; a frame after
the end that is not called so costs 60 ms. Early cuts are therefore weighted more.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from solomonic.core import Config, DataError, require
from solomonic.speech.endpoint.features import EndFeatures
from solomonic.speech.endpoint.head import EndHead


@dataclasses.dataclass(frozen=True, eq=False)
class EndSequence:
    """One utterance for training.

    Attributes:
        hidden: (T, D) float32, encoder frames.
        label: (T, J) float32, predictor vector of the best hypothesis at each frame.
        pauses: (T, PAUSE_FEATURES) float32.
        end: encoder frame in which speech truly ends; T or more when it does not end in here.
        gaps: (start, stop) frames of the pauses inside the sentence.
    """

    hidden: np.ndarray
    label: np.ndarray
    pauses: np.ndarray
    end: int
    gaps: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndTraining(Config):
    """How the end head is trained.

    Attributes:
        epochs: passes over the data.
        grace: frames from the end on that count neither way; the label of the last word comes
            there.
        early_cost: weight of a frame of a pause inside a sentence; other frames have 1 before
            and 1 after the end, brought to equal sums.
        hold: trains nothing later than so many frames after the end.
    """

    epochs: int = 30
    batch: int = 64
    lr: float = 4e-3
    grace: int = 1
    early_cost: float = 4.0
    hold: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr", "early_cost", "hold"):
            value = getattr(self, name)
            require(value > 0, f"{name} must be above 0, not {value}.")
        require(self.grace >= 0, f"grace must not be negative, but is {self.grace}.")


def train_end_head(
    head: EndHead,
    sequences: Sequence[EndSequence],
    training: EndTraining | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train `head` in place; leaves it in evaluation mode.

    Args:
        progress: called after each epoch with its number from 1 and its mean loss.

    Returns:
        The mean weighted loss of each epoch.

    Raises:
        DataError: there are no sequences, or one has features of unequal lengths.
    """
    training = EndTraining() if training is None else training
    _check(sequences)
    rng = np.random.default_rng(training.seed)
    batches = _batches(sequences, training)
    balance = _balance(batches)
    optimiser = torch.optim.AdamW(head.parameters(), lr=training.lr, weight_decay=1e-3)
    steps = training.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.lr, total_steps=steps + 1)
    head.train()
    history = []
    for epoch in range(training.epochs):
        losses = []
        for index in rng.permutation(len(batches)):
            features, targets, weights = batches[index]
            loss = end_loss(head(features)[0], targets, weights, balance)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        history.append(float(np.mean(losses)))
        if progress is not None:
            progress(epoch + 1, history[-1])
    head.eval()
    return history


def end_loss(logits: Tensor, targets: Tensor, weights: Tensor, balance: float = 1.0) -> Tensor:
    """Weighted binary cross-entropy a frame.

    Args:
        logits: (B, T); targets: (B, T) of 0 and 1; weights: (B, T), 0 leaves a frame out.
        balance: factor on the frames with target 1.
    """
    weights = weights * torch.where(targets > 0, balance, 1.0)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1e-9)


def end_targets(sequence: EndSequence, training: EndTraining) -> tuple[np.ndarray, np.ndarray]:
    """Targets (T,) and weights (T,) float32 of one utterance."""
    frames = np.arange(len(sequence.hidden))
    targets = (frames >= sequence.end).astype(np.float32)
    weights = np.ones(len(frames), dtype=np.float32)
    for start, stop in sequence.gaps:
        weights[start:stop] = training.early_cost
    weights[(frames >= sequence.end) & (frames < sequence.end + training.grace)] = 0.0
    weights[frames >= sequence.end + training.hold] = 0.0
    return targets, weights


def _batches(
    sequences: Sequence[EndSequence], training: EndTraining
) -> list[tuple[EndFeatures, Tensor, Tensor]]:
    """Batches of utterances of like length, padded with frames of weight 0."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].hidden))
    made = []
    for first in range(0, len(order), training.batch):
        group = [sequences[i] for i in order[first : first + training.batch]]
        length = max(len(sequence.hidden) for sequence in group)
        targets, weights = zip(*(end_targets(s, training) for s in group), strict=True)
        features = EndFeatures(
            _padded([s.hidden for s in group], length),
            _padded([s.label for s in group], length),
            _padded([s.pauses for s in group], length),
        )
        made.append((features, _padded(targets, length), _padded(weights, length)))
    return made


def _padded(rows: Sequence[np.ndarray], length: int) -> Tensor:
    out = np.zeros((len(rows), length, *rows[0].shape[1:]), dtype=np.float32)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(out)


def _balance(batches: Sequence[tuple[EndFeatures, Tensor, Tensor]]) -> float:
    """The factor that gives frames after the end the weight of those before, unweighted."""
    after = sum(float(((t > 0) & (w > 0)).sum()) for _, t, w in batches)
    before = sum(float(((t == 0) & (w > 0)).sum()) for _, t, w in batches)
    return before / after if after and before else 1.0


def _check(sequences: Sequence[EndSequence]) -> None:
    if not sequences:
        raise DataError("there are no utterances to train the end head on; give some.")
    for index, sequence in enumerate(sequences):
        lengths = {len(sequence.hidden), len(sequence.label), len(sequence.pauses)}
        if len(lengths) > 1:
            raise DataError(
                f"utterance {index} has features of {sorted(lengths)} frames; compute them from "
                "the same encoder frames."
            )
