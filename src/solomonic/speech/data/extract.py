"""The work of a feature bank's processes: recordings in, a part file of features out.

It stands apart from `bank` because a process that starts imports this file: nothing here loads
PyTorch, which would take longer than the work.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import DataError, StorageError
from solomonic.speech.audio import read_audio
from solomonic.speech.data.augment import AugmentConfig, augment
from solomonic.speech.features import FeatureConfig, features

# Records of recordings, the number of the first, the bank's settings, the file to write.
Job = tuple[list[dict[str, Any]], int, dict[str, Any], Path]


def run(jobs: list[Job], workers: int) -> Iterator[tuple[int, list[str]]]:
    """Do the jobs, in any order: yield (recordings done, what could not be read) for each."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(make_part, jobs)
        return
    # Not fork: the parent may hold PyTorch's threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_end_with_parent
    ) as pool:
        try:
            for future in concurrent.futures.as_completed(
                [pool.submit(make_part, j) for j in jobs]
            ):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed; by itself the pool would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def make_part(job: Job) -> tuple[int, list[str]]:
    """Features of some recordings into one file; how many, and what could not be read."""
    records, first, plan, file = job
    config = FeatureConfig.from_json(plan["features"])
    augmentation = AugmentConfig.from_json(plan["augmentation"])
    made, faults = [], []
    for number, record in enumerate(records, first):
        try:
            samples = read_audio(record["audio"], config.sample_rate)
        except DataError as error:
            faults.append(str(error).rstrip("."))
            continue
        rng = np.random.default_rng([plan["seed"], number])
        made.append(features(augment(samples, augmentation, rng), config).astype("<f2"))
    if not faults:
        frames = np.concatenate(made) if made else np.empty((0, config.bins), "<f2")
        temporary = file.with_suffix(f".unfinished-{os.getpid()}")
        try:
            with open(temporary, "wb") as out:
                np.savez(out, features=frames, lengths=np.array([len(m) for m in made], np.int64))
            os.replace(temporary, file)
        except OSError as error:
            raise StorageError(f"cannot write {file} ({error.strerror}).") from error
    return len(records), faults
