"""Batches of utterances of like length, in a seeded order that can be entered anywhere.

`BucketedBatches` decides which utterances go together and in what order, `collate` pads them; what
is done to each on the way is the task's (`speech.task`). A position is {"epoch", "index", "data"},
and a run that resumes from it sees exactly the batches that it would have seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import ConfigError, DataError
from solomonic.core.config import require

_JITTER = 0.1  # of the length by which utterances are sorted, so that batches change


@dataclasses.dataclass(frozen=True)
class Batch:
    """Utterances padded to one length.

    Attributes:
        features: (B, T, bins) float32, zeros after each utterance's end.
        feature_lengths: (B,) int64.
        tokens: (B, U) int64, zeros after each text's end.
        token_lengths: (B,) int64.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor

    def to(self, device: str | torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


def collate(utterances: Sequence[tuple[np.ndarray, Sequence[int]]], multiple: int = 1) -> Batch:
    """Pad (features (T, bins), token ids) pairs; the padded T is a multiple of `multiple`."""
    if not utterances:
        raise DataError("a batch needs at least one utterance.")
    lengths = [len(f) for f, _ in utterances]
    counts = [len(tokens) for _, tokens in utterances]
    longest = -(-max(lengths) // multiple) * multiple
    padded = np.zeros((len(utterances), longest, utterances[0][0].shape[1]), np.float32)
    ids = np.zeros((len(utterances), max(counts)), np.int64)
    for row, (frames, tokens) in enumerate(utterances):
        padded[row, : len(frames)] = frames
        ids[row, : len(tokens)] = tokens
    return Batch(
        torch.from_numpy(padded), torch.tensor(lengths), torch.from_numpy(ids), torch.tensor(counts)
    )


class BucketedBatches:
    """Numbers of utterances, batch by batch, for ever.

    An epoch sorts the utterances by length (jittered by 10%), cuts them into batches of at most
    `frames_per_batch` padded frames, and shuffles the batches.

    Args:
        lengths: (N,) frames of each utterance.
        frames_per_batch: the most rows * longest of a batch, the longest rounded up to `multiple`.
        seed: another seed, another order.
        weights: (N,) how often an utterance occurs in an epoch: 1 (default) once, 2 twice, 0.5 in
            a random half of the epochs, 0 never.
        multiple: what the batch's length is padded to.
        most_rows: the most utterances in a batch.

    Raises:
        ConfigError: a setting is out of range.
        DataError: there is no utterance, or some are longer than a batch.
    """

    def __init__(
        self,
        lengths: np.ndarray | Sequence[int],
        frames_per_batch: int,
        seed: int = 0,
        *,
        weights: np.ndarray | Sequence[float] | None = None,
        multiple: int = 1,
        most_rows: int | None = None,
    ) -> None:
        require(frames_per_batch >= 1, "frames_per_batch must be at least 1.")
        require(multiple >= 1, "multiple must be at least 1.")
        require(most_rows is None or most_rows >= 1, "most_rows must be at least 1.")
        lengths = np.asarray(lengths, np.int64)
        self._padded = -(-lengths // multiple) * multiple
        given = np.ones(len(lengths)) if weights is None else np.asarray(weights, np.float64)
        if given.shape != lengths.shape or not np.isfinite(given).all() or (given < 0).any():
            raise ConfigError("weights must be one number >= 0 for each utterance.")
        self._weights = given
        if not (given > 0).any():
            raise DataError("there is no utterance to train on; give some, with weights above 0.")
        long = int((self._padded > frames_per_batch).sum())
        if long:
            raise DataError(
                f"{long} of {len(lengths)} utterances are longer than a batch of "
                f"{frames_per_batch} frames (the longest has {lengths.max()}); leave them out or "
                "give a larger frames_per_batch."
            )
        self._frames, self._seed = frames_per_batch, seed
        self._most_rows = most_rows or len(lengths)
        described = hashlib.sha256(self._padded.tobytes() + given.tobytes())
        described.update(f"{frames_per_batch} {seed} {self._most_rows}".encode())
        self.fingerprint = described.hexdigest()[:16]

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, each the numbers of its utterances."""
        rng = np.random.default_rng([self._seed, epoch])
        whole = np.floor(self._weights).astype(np.int64)
        copies = whole + (rng.random(len(whole)) < self._weights - whole)
        drawn = rng.permutation(np.repeat(np.arange(len(whole)), copies))
        key = self._padded[drawn] * rng.uniform(1 - _JITTER, 1 + _JITTER, len(drawn))
        drawn = drawn[np.argsort(key, kind="stable")]
        batches: list[np.ndarray] = []
        start = longest = 0
        for end, length in enumerate(self._padded[drawn].tolist()):
            longest = max(longest, length)
            rows = end - start + 1
            if rows * longest > self._frames or rows > self._most_rows:
                batches.append(drawn[start:end])
                start, longest = end, length
        if start < len(drawn):
            batches.append(drawn[start:])
        return [batches[i] for i in rng.permutation(len(batches))]

    def batches(
        self, position: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield (numbers of a batch's utterances, position after it), starting at `position`.

        Raises:
            DataError: the position belongs to other data or settings.
        """
        epoch, index = 0, 0
        if position is not None:
            if position.get("data") != self.fingerprint:
                raise DataError(
                    "the training data or its batch settings are not those this run began with; "
                    "give the same or start again in another directory."
                )
            epoch, index = position["epoch"], position["index"]
        while True:
            plan = self.epoch(epoch)
            while index < len(plan):
                rows, index = plan[index], index + 1
                at = (epoch, index) if index < len(plan) else (epoch + 1, 0)
                yield rows, {"epoch": at[0], "index": at[1], "data": self.fingerprint}
            epoch, index = epoch + 1, 0
