"""Recordings from strangers: any format that libsndfile reads, within bounds of time and memory.

The bytes stay where the upload put them (memory, or a file without a name); no name that a client
gave reaches the file system. What a small file unpacks to is bounded by the time it lasts.
"""

from typing import Any, BinaryIO

import numpy as np

from solomonic.core import DataError
from solomonic.serve.errors import HttpError
from solomonic.serve.speech.session import HIGHEST_RATE, LOWEST_RATE

BLOCK_SECONDS = 1.0
MOST_CHANNELS = 32
FORMATS = "WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF or W64"


class Upload:
    """A recording, opened; pieces come one after the other.

    Args:
        file: its bytes.
        most_seconds: that it may last.

    Raises:
        HttpError: it is no audio, or too long.
    """

    def __init__(self, file: BinaryIO, most_seconds: float) -> None:
        import soundfile

        self._most = most_seconds
        self.seconds = 0.0  # read so far
        try:
            self._own: Any = soundfile.SoundFile(file)
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
            raise _no_audio() from error
        self.rate = int(self._own.samplerate)
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE or self._own.channels > MOST_CHANNELS:
            self._own.close()
            raise HttpError(
                400, "unsupported_audio",
                f"the recording has {self._own.channels} channels of {self.rate} samples a second; "
                f"give at most {MOST_CHANNELS} and {LOWEST_RATE} to {HIGHEST_RATE}.", param="file",
            )  # fmt: skip
        announced = self._own.frames / self.rate
        # Where the length is unknown, libsndfile gives the largest number there is.
        if self._own.frames < 1 << 62 and announced > most_seconds:
            self._own.close()
            raise self._too_long()

    def read(self) -> np.ndarray:
        """The next second, its channels averaged, (n,) float32; none at the end.

        Raises:
            HttpError: it is too long, or its data are damaged.
            DataError: a sample is not finite.
        """
        import soundfile

        try:
            block = self._own.read(
                max(int(self.rate * BLOCK_SECONDS), 1), dtype="float32", always_2d=True
            )
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
            raise _no_audio() from error
        self.seconds += len(block) / self.rate
        if self.seconds > self._most:
            raise self._too_long()
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        if not np.isfinite(mono).all():
            raise DataError("the recording holds samples that are not finite; save it again.")
        return mono

    def close(self) -> None:
        """Let go of the bytes."""
        self._own.close()

    def _too_long(self) -> HttpError:
        return HttpError(
            413, "audio_too_long",
            f"the recording lasts longer than {self._most:g} s; send it in parts.", param="file",
        )  # fmt: skip


def _no_audio() -> HttpError:
    return HttpError(
        400, "invalid_audio", f"the file is no audio that is read here; give {FORMATS}.",
        param="file",
    )  # fmt: skip
