"""A feature bank: the features of many recordings in one memory-mapped file, decoded once.

    BANK/features.f16   float16 (frames, bins), the recordings one after the other
    BANK/index.json     settings, and for each recording its frames, text, speaker, set

float16 keeps a log-mel value to 0.004, far below what noise or a codec changes. Building is
resumable (finished parts stay in BANK/parts until all are there) and uses processes, which import
the caller's main module: in a script call it below `if __name__ == "__main__":`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import DataError, StorageError
from solomonic.speech.data.augment import AugmentConfig
from solomonic.speech.data.extract import Job, run
from solomonic.speech.data.manifest import Utterance, drop_unclear, read_manifest, refuse
from solomonic.speech.features import FeatureConfig
from solomonic.text.spoken import is_spoken, normalise
from solomonic.train.atomic import write_files

Progress = Callable[[int, int], None]

_VERSION = 1
_FEATURES, _INDEX = "features.f16", "index.json"
_PART = 64  # recordings; what a killed build loses at most per process


class FeatureBank:
    """A built bank, opened for reading; `bank[i]` is (T, bins) float32.

    Attributes:
        lengths: (N,) int64 frames of each recording.
        texts: its spoken form, by `text.spoken.normalise`.
        utterances: the index's records: audio, duration, text, speaker, source.
        config: how features were made.
        augmentation: what was done to the audio first.
        fingerprint: changes with the recordings, texts and settings.

    Raises:
        DataError: the folder holds no bank, or one that is incomplete or of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.config = FeatureConfig.from_json(index["features"])
        self.augmentation = AugmentConfig.from_json(index["augmentation"])
        self.fingerprint: str = index["fingerprint"]
        self.utterances: list[dict[str, Any]] = index["utterances"]
        self.lengths = np.array([u["frames"] for u in self.utterances], np.int64)
        self.texts: list[str] = [u["text"] for u in self.utterances]
        self._ends = np.cumsum(self.lengths)
        file = self.folder / _FEATURES
        total, bins = int(self.lengths.sum()), self.config.bins
        if not file.is_file() or file.stat().st_size != 2 * total * bins:
            raise DataError(f"{file} is missing or cut short; build the bank again.")
        shape = (total, bins)
        self._frames = np.memmap(file, "<f2", "r", shape=shape) if total else np.empty(shape, "<f2")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        end = int(self._ends[index])
        return self._frames[end - int(self.lengths[index]) : end].astype(np.float32)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over all frames, each (bins,) float64."""
        total, squares, count = 0.0, 0.0, 0
        for start in range(0, len(self._frames), 1 << 16):
            block = self._frames[start : start + (1 << 16)].astype(np.float64)
            total, squares, count = (
                total + block.sum(0),
                squares + (block**2).sum(0),
                count + len(block),
            )
        mean = np.asarray(total) / max(count, 1)
        return mean, np.sqrt(np.maximum(np.asarray(squares) / max(count, 1) - mean**2, 0))


def build_bank(
    manifests: str | Path | Sequence[str | Path],
    split: str | None,
    out: str | Path,
    *,
    augmentation: AugmentConfig | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
    drop_unspoken: bool = False,
) -> FeatureBank:
    """Build (or go on building, or just open) the bank of one split of some manifests.

    Recordings marked unclear (`manifest.UNCLEAR`), and with `drop_unspoken` those whose text still
    holds digits or foreign letters once normalised, are left out; the index's "left_out" counts
    them. See `build` for the rest.
    """
    utterances, left_out = drop_unclear(read_manifest(manifests, split))
    if drop_unspoken:
        spoken = [u for u in utterances if is_spoken(normalise(u.text or ""))]
        utterances, left_out = spoken, left_out + len(utterances) - len(spoken)
    return build(
        utterances,
        out,
        augmentation=augmentation,
        seed=seed,
        workers=workers,
        progress=progress,
        left_out=left_out,
    )


def build(
    utterances: Sequence[Utterance],
    out: str | Path,
    *,
    config: FeatureConfig | None = None,
    augmentation: AugmentConfig | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
    left_out: int = 0,
) -> FeatureBank:
    """The bank of these utterances in the folder `out`.

    A complete bank of the same recordings and settings is opened as it is; parts of an interrupted
    build are used. The result does not depend on `workers`.

    Args:
        augmentation: applied once to each recording, drawn from (seed, its number).
        workers: processes; 1 computes in this one.
        progress: called with (recordings done, all).

    Raises:
        DataError: a text is not speakable after normalising, or recordings cannot be read; all of
            them are named or counted.
        StorageError: the disk is full or the place cannot be written.
    """
    out = Path(out)
    config, augmentation = config or FeatureConfig(), augmentation or AugmentConfig()
    records = [_record(u) for u in utterances]
    _refuse_unspoken(records)
    plan = {
        "version": _VERSION,
        "features": config.to_json(),
        "augmentation": augmentation.to_json(),
        "seed": seed,
        "left_out": left_out,
    }
    described = json.dumps([plan, records], sort_keys=True)
    plan["fingerprint"] = hashlib.sha256(described.encode()).hexdigest()[:16]
    if (out / _INDEX).is_file() and _read_index(out)["fingerprint"] == plan["fingerprint"]:
        return FeatureBank(out)
    parts = _compute(records, plan, out / "parts", workers, progress)
    for record, frames in zip(records, (n for p in parts for n in _lengths(p)), strict=True):
        record["frames"] = int(frames)
    index = json.dumps({**plan, "utterances": records}, ensure_ascii=False)

    def write(place: Path) -> None:
        with open(place / _FEATURES, "wb") as file:
            for part in parts:
                np.load(part)["features"].tofile(file)
        (place / _INDEX).write_text(index, "utf-8")

    write_files(out, write)
    shutil.rmtree(out / "parts", ignore_errors=True)
    return FeatureBank(out)


def _record(utterance: Utterance) -> dict[str, Any]:
    return {
        "audio": str(utterance.audio),
        "duration": utterance.duration,
        "text": normalise(utterance.text or ""),
        "speaker": utterance.speaker,
        "source": utterance.source,
    }


def _refuse_unspoken(records: list[dict[str, Any]]) -> None:
    bad = [f"{r['audio']} ('{r['text']}')" for r in records if not is_spoken(r["text"])]
    what = "texts are not words of a to z once normalised"
    refuse(bad, len(records), what, "write numbers as they were said, or drop them")


def _compute(
    records: list[dict], plan: dict, folder: Path, workers: int, progress: Progress | None
) -> list[Path]:
    """Make every part that is not there yet; the files in order."""
    folder = folder / plan["fingerprint"]
    try:
        for other in folder.parent.glob("*"):  # of an interrupted build of something else
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {folder} ({error.strerror}).") from error
    starts = range(0, len(records), _PART)
    files = [folder / f"{start:08d}.npz" for start in starts]
    jobs: list[Job] = [
        (records[start : start + _PART], start, plan, file)
        for start, file in zip(starts, files, strict=True)
        if not file.is_file()
    ]
    done = len(records) - sum(len(job[0]) for job in jobs)
    faults: list[str] = []
    for count, bad in run(jobs, workers):
        done, faults = done + count, faults + bad
        if progress:
            progress(done, len(records))
    refuse(faults, len(records), "recordings cannot be used", "mend or leave them out")
    return files


def _lengths(part: Path) -> np.ndarray:
    return np.load(part)["lengths"]


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / _INDEX
    try:
        index = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{folder} holds no feature bank ({error.strerror}); build it.") from error
    except ValueError as error:
        raise DataError(f"{file} is no JSON; build the bank again.") from error
    if not isinstance(index, dict) or index.get("version") != _VERSION:
        raise DataError(f"{file} is not of version {_VERSION}; build the bank again.")
    return index
