"""Recordings read piece by piece, so that an hour of audio needs no more memory than a second."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from solomonic.core import DataError

BLOCK_SECONDS = 5.0


def audio_blocks(
    path: str | Path, seconds: float = BLOCK_SECONDS
) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, samples (n,) float32) of a file, its channels averaged, at its own rate.

    Nothing is opened before the first piece is asked for.

    Raises:
        DataError: there is no such file, it is no audio, it holds no sample, a sample is not
            finite, or it ends in the middle of its compressed data.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder; give the audio files in it, such as {path / '*.wav'}."
        )
    if not path.is_file():
        raise DataError(f"there is no recording {path}; give the path of an audio file.")
    read = 0
    try:
        with soundfile.SoundFile(path) as file:
            size = max(round(file.samplerate * seconds), 1)
            # `SoundFile.blocks` believes the announced length, which a cut file does not have.
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
                if not np.isfinite(mono).all():
                    raise DataError(
                        f"{path} holds samples that are not finite (NaN or infinite); save it "
                        "again."
                    )
                read += len(mono)
                yield file.samplerate, np.ascontiguousarray(mono)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = "it is empty" if path.stat().st_size == 0 else str(error).rstrip(".")
        raise DataError(
            f"cannot read {path} as audio ({reason}); give a WAV, FLAC, Ogg, Opus or MP3 file."
        ) from error
    if not read:
        raise DataError(f"{path} holds no sample; give a recording that is longer than nothing.")
