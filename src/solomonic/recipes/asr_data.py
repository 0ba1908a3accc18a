"""What a recogniser is trained on: manifests into feature banks, and what had to be left out.

A line of split "train" is trained on and one of split "dev" is held out; other splits are left
alone. Of lines without a split a share is held out, whole speakers where there are several.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solomonic.core import Config, ConfigError, DataError, require

if TYPE_CHECKING:
    from solomonic.speech.data.augment import AugmentConfig
    from solomonic.speech.data.bank import FeatureBank
    from solomonic.speech.data.manifest import Utterance
    from solomonic.speech.features import FeatureConfig

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how many recordings are done, and how many there are."""

_SHORTEST_NOISE = 0.4  # seconds; a click repeated to fill a sentence is a buzz


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsrData(Config):
    """Where recordings are; what a run's record does not hold, as it differs by machine.

    Raises:
        ConfigError: no manifest, or a weight below 0.
    """

    manifests: tuple[str, ...]
    """JSONL files (`speech.data.manifest`), or folders with a `manifest.jsonl`."""
    dev: tuple[str, ...] = ()
    """Manifests to hold out; empty: by the splits of `manifests`."""
    noise: str | None = None
    """Manifest of noise to train against, besides synthetic noise."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """How often an epoch reads the utterances of a set, by its name; 1 where none is given."""
    workers: int = min(8, os.cpu_count() or 1)
    """Processes that compute features."""

    def __post_init__(self) -> None:
        for name in ("manifests", "dev"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has only lists
        require(bool(self.manifests), "there is no manifest to train on; give at least one.")
        require(self.workers >= 1, f"workers = {self.workers} must be at least 1.")
        for name, weight in self.weights.items():
            require(weight >= 0, f"the weight of '{name}' is {weight}; it must not be negative.")


@dataclasses.dataclass(frozen=True)
class RecordingSet:
    """The usable utterances of one manifest, under the name its banks and its weight have."""

    name: str
    train: "list[Utterance]"
    held_out: "list[Utterance]"


@dataclasses.dataclass(frozen=True)
class Banks:
    """Features of all sets.

    Attributes:
        train: bank and weight, each set's plain one before its perturbed copies.
        plain: the plain ones among them.
        held_out: one a set that has any.
        noises: log-mel frames of recorded noise.
    """

    train: "list[tuple[FeatureBank, float]]"
    plain: "list[FeatureBank]"
    held_out: "list[FeatureBank]"
    noises: list[np.ndarray]


def read_sets(data: AsrData, share: float) -> tuple[list[RecordingSet], dict[str, int]]:
    """The sets, and how many utterances were left out by the reason.

    Args:
        share: of utterances without a split that is held out.

    Raises:
        DataError: a manifest cannot be read, or nothing is left to train on, or a recording is
            both trained on and held out.
        ConfigError: a weight names no set.
    """
    left_out: dict[str, int] = {}
    names = set_names(data.manifests)
    unknown = set(data.weights) - set(names)
    if unknown:
        raise ConfigError(
            f"there is no set '{min(unknown)}' to weigh; the sets are {', '.join(names)}."
        )
    sets = []
    for name, path in zip(names, data.manifests, strict=True):
        train, dev, open_ones = _by_split(_read(path, left_out))
        if not train and not open_ones:
            raise DataError(
                f"{path} has no utterance of the split 'train' that can be used; give a manifest "
                "with some, or without splits."
            )
        kept, held = hold_out(open_ones, 0.0 if data.dev else share)
        sets.append(RecordingSet(name, train + kept, [] if data.dev else dev + held))
    if data.dev:
        for name, path in zip(set_names(data.dev), data.dev, strict=True):
            train, dev, open_ones = _by_split(_read(path, left_out))
            sets.append(RecordingSet(name, [], dev or open_ones or train))
    elif not any(item.held_out for item in sets):
        sets = [RecordingSet(s.name, *hold_out(s.train, share)) for s in sets]
    _refuse_overlap(sets)
    return sets, left_out


def set_names(paths: Sequence[str]) -> list[str]:
    """A name for each manifest: its folder's, with the folders above as far as they are needed."""
    places = []
    for path in map(Path, paths):
        place = path.resolve()
        places.append(place if place.is_dir() else place.parent)
        if not place.is_dir() and place.stem != "manifest":
            places[-1] = place.parent / place.stem
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["-".join(part.strip("/") for part in place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"a manifest is given twice: {', '.join(map(str, paths))}.")


def hold_out(
    utterances: "Sequence[Utterance]", share: float
) -> "tuple[list[Utterance], list[Utterance]]":
    """(kept, held out): whole speakers until `share` of the utterances is reached, at least one.

    The choice depends on the names alone (a hash), so it is the same on every machine. Recordings
    of nobody in particular, or of a single speaker, are held out one by one.
    """
    if not share or len(utterances) < 2:
        return list(utterances), []
    groups = _grouped(utterances, lambda u: u.speaker or u.audio.name)
    if len(groups) == 1:
        groups = _grouped(utterances, lambda u: u.audio.name)
    order = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: set[str] = set()
    count = 0
    for name in order:
        if count + len(groups[name]) <= share * len(utterances):
            chosen.add(name)
            count += len(groups[name])
    if not chosen and len(groups) > 1:
        chosen.add(min(order, key=lambda name: len(groups[name])))
    kept = [u for name, group in groups.items() if name not in chosen for u in group]
    return kept, [u for name in groups if name in chosen for u in groups[name]]


def build_banks(
    sets: Sequence[RecordingSet],
    data: AsrData,
    folder: Path,
    features: "FeatureConfig",
    copies: int,
    progress: Progress | None = None,
) -> Banks:
    """Compute what is not in `folder` yet: plain features, and `copies` perturbed ones to train on.

    Raises:
        DataError: recordings cannot be read; they are named or counted.
        StorageError: the disk is full.
    """
    from solomonic.speech.data.bank import build

    noises, files = _noise(data, folder, features, progress)
    banks = Banks([], [], [], noises)
    for item in sets:
        for copy in range(copies + 1 if item.train else 0):
            name = f"{item.name}-train" + (f"-copy{copy}" if copy else "")
            bank = build(
                item.train,
                folder / name,
                config=features,
                augmentation=perturbation(files) if copy else None,
                seed=copy,
                workers=data.workers,
                progress=_named(progress, name),
            )
            banks.train.append((bank, data.weights.get(item.name, 1.0)))
            if not copy:
                banks.plain.append(bank)
        if item.held_out:
            name = f"{item.name}-dev"
            banks.held_out.append(
                build(
                    item.held_out,
                    folder / name,
                    config=features,
                    workers=data.workers,
                    progress=_named(progress, name),
                )
            )
    return banks


def perturbation(noise_files: Sequence[str] = ()) -> "AugmentConfig":
    """What is done to the audio of a copy: speed (Ko et al. 2015), rooms, noise, level."""
    from solomonic.speech.data.augment import AugmentConfig

    return AugmentConfig(
        speeds=(0.9, 1.1),
        reverberation=0.4,
        noise=0.6,
        snr_db=(5.0, 30.0),
        noise_files=tuple(noise_files),
        gain_db=(-15.0, 6.0),
    )


def statistics(banks: "Sequence[FeatureBank]") -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all frames of all banks, each (bins,) float64."""
    counts = np.array([bank.lengths.sum() for bank in banks], np.float64)
    shares = counts / max(counts.sum(), 1)
    found = [bank.statistics() for bank in banks]
    mean = np.sum([share * m for share, (m, _) in zip(shares, found, strict=True)], axis=0)
    square = [share * (d**2 + m**2) for share, (m, d) in zip(shares, found, strict=True)]
    # A bin that never changes would otherwise be divided by nothing.
    return mean, np.sqrt(np.maximum(np.sum(square, axis=0) - mean**2, 1e-4))


def _noise(
    data: AsrData, folder: Path, features: "FeatureConfig", progress: Progress | None
) -> tuple[list[np.ndarray], list[str]]:
    """Frames and files of recorded noise: of split "train" where there are splits, no speech."""
    from solomonic.speech.data.bank import build
    from solomonic.speech.data.manifest import read_manifest

    if data.noise is None:
        return [], []
    lines = [
        dataclasses.replace(u, text="")
        for u in read_manifest(data.noise, require_text=False)
        if u.split in ("train", None)
        and not u.extra.get("may_contain_speech")
        and u.duration > _SHORTEST_NOISE
    ]
    if not lines:
        raise DataError(
            f"{data.noise} has no noise of the split 'train' that is longer than "
            f"{_SHORTEST_NOISE} s and free of speech; give another or leave it out."
        )
    bank = build(
        lines,
        folder / "noise",
        config=features,
        workers=data.workers,
        progress=_named(progress, "noise"),
    )
    return [bank[i] for i in range(len(bank))], [str(u.audio) for u in lines]


def _read(path: str, left_out: dict[str, int]) -> "list[Utterance]":
    """The utterances of a manifest that have words to learn; the others are counted."""
    from solomonic.speech.data.manifest import drop_unclear, read_manifest
    from solomonic.text.spoken import is_spoken, normalise

    clear, unclear = drop_unclear(read_manifest(path, require_text=False))
    kept: list[Utterance] = []
    counts = {"marked as unclear": unclear, "not transcribed": 0, "with digits or such": 0}
    for utterance in clear:
        if utterance.text is None:
            counts["not transcribed"] += 1
        elif not is_spoken(normalise(utterance.text)):
            counts["with digits or such"] += 1
        else:
            kept.append(utterance)
    for reason, count in counts.items():
        if count:
            left_out[reason] = left_out.get(reason, 0) + count
    return kept


def _by_split(
    utterances: "Iterable[Utterance]",
) -> "tuple[list[Utterance], list[Utterance], list[Utterance]]":
    """Those of split "train", of split "dev", and of none."""
    found: tuple[list[Utterance], ...] = ([], [], [])
    for utterance in utterances:
        place = {"train": 0, "dev": 1, None: 2}.get(utterance.split)
        if place is not None:
            found[place].append(utterance)
    return found[0], found[1], found[2]


def _grouped(
    utterances: "Iterable[Utterance]", key: "Callable[[Utterance], str]"
) -> "dict[str, list[Utterance]]":
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(key(utterance), []).append(utterance)
    return groups


def _refuse_overlap(sets: Sequence[RecordingSet]) -> None:
    trained = {u.audio.resolve() for item in sets for u in item.train}
    both = [u.audio for item in sets for u in item.held_out if u.audio.resolve() in trained]
    if both:
        raise DataError(
            f"{len(both)} held-out recordings are trained on as well, such as {both[0]}; give each "
            "of them to one of both."
        )


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
