"""Audio in: files, raw samples on a pipe, a microphone; all of it as 16 kHz mono float32.

Samples lie in [-1, 1]. Files are whatever `soundfile` (libsndfile) reads; rates are changed by
soxr at its high quality; a stream's output does not depend on how its input is cut.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import ConfigError, DataError, ShapeError

RATE = 16000
_FORMATS = {"s16le": ("<i2", 1 / 32768), "f32le": ("<f4", 1.0)}
_FULL_SCALE = 1 - 2**-10


def read_audio(path: str | Path, rate: int = RATE) -> np.ndarray:
    """The recording at `rate` Hz, channels averaged: (n,) float32.

    n is round(seconds * rate) to within a sample. Clipped audio is read as it is (`clipping`).

    Raises:
        DataError: there is no such file, it is no audio, it holds no sample, or a sample is not
            finite.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no recording {path}; give the path of an audio file.")
    try:
        samples, source_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = "it is empty" if path.stat().st_size == 0 else str(error).rstrip(".")
        raise DataError(
            f"cannot read {path} as audio ({reason}); give a WAV, FLAC, Ogg, Opus or MP3 file."
        ) from error
    if not len(samples):
        raise DataError(f"{path} holds no sample; give a recording that is longer than nothing.")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise DataError(
            f"{path} holds samples that are not finite (NaN or infinite); save it again."
        )
    try:
        stream = StreamResampler(source_rate, rate)  # so that a file gives what its stream gives
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    return np.concatenate([stream.accept(np.ascontiguousarray(mono)), stream.finish()])


def resample(samples: np.ndarray, source_rate: float, rate: float) -> np.ndarray:
    """The whole of (n,) float32 at another rate, soxr's high quality."""
    import soxr

    if source_rate == rate or not len(samples):
        return samples
    return soxr.resample(samples, source_rate, rate, quality="HQ")


def check_samples(samples: Any) -> np.ndarray:
    """What a stream is given, as (n,) float32 in [-1, 1].

    Signed integers of 8, 16 or 32 bits are scaled; unsigned bytes are PCM around 128.

    Raises:
        ShapeError: it is not one row of numbers.
        DataError: a sample is not finite, or of a kind of integer that has no scale in audio.
    """
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise ShapeError(
            f"samples have shape {array.shape} and type {array.dtype}; give one channel as a row "
            "(n,) of numbers in [-1, 1]."
        )
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128.0) / np.float32(128.0)
    elif array.dtype.kind == "i" and array.dtype.itemsize < 8:
        array = array / np.float32(2.0 ** (8 * array.dtype.itemsize - 1))
    elif array.dtype.kind in "iu":
        raise DataError(
            f"samples of type {array.dtype} have no scale; give int16, or floats in [-1, 1]."
        )
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DataError(
            "the audio holds samples that are not finite (NaN or infinite); check what records it."
        )
    return array


def clipping(samples: np.ndarray) -> float:
    """Share of samples, 0 to 1, at the end of the scale: above 0.001 the level was too high."""
    return float((np.abs(samples) >= _FULL_SCALE).mean()) if len(samples) else 0.0


class StreamResampler:
    """Changes the rate of audio that arrives in pieces.

    It is always fed blocks of 5 ms, counted from the start of the stream, so that any cut of the
    input gives the same samples: soxr 1.1 gives them for other sizes too, but promises it nowhere.
    Its filter holds back 21 ms on average at 48 kHz and 64 ms at 8 kHz; `finish` gives that out.
    At equal rates samples pass through untouched and at once.

    Args:
        source_rate: Hz of what comes in, at least 1000.
        rate: Hz of what goes out.

    Raises:
        ConfigError: a rate is out of range.
    """

    def __init__(self, source_rate: float, rate: float = RATE) -> None:
        if not (1000 <= source_rate <= 768_000 and 1000 <= rate <= 768_000):
            raise ConfigError(
                f"sample rates {source_rate} and {rate} Hz must lie between 1,000 and 768,000."
            )
        self.source_rate, self.rate = source_rate, rate
        self._soxr: Any = None
        if source_rate != rate:
            import soxr

            self._soxr = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
        self._block = max(round(source_rate / 200), 1)
        self._waiting = np.empty(0, np.float32)
        self._finished = False

    def accept(self, samples: Any) -> np.ndarray:
        """Take any number of samples (see `check_samples`), give those that are ready, (n,)."""
        if self._finished:
            raise DataError("this resampler is finished; begin another for more audio.")
        samples = check_samples(samples)
        if self._soxr is None:
            return samples
        waiting = np.concatenate([self._waiting, samples])
        whole = len(waiting) // self._block * self._block
        self._waiting = waiting[whole:]
        return self._feed(waiting[:whole])

    def finish(self) -> np.ndarray:
        """What was held back, (n,); none the second time."""
        if self._finished or self._soxr is None:
            self._finished = True
            return np.empty(0, np.float32)
        self._finished = True
        return self._soxr.resample_chunk(self._waiting, last=True)

    def _feed(self, samples: np.ndarray) -> np.ndarray:
        blocks = range(0, len(samples), self._block)
        parts = [self._soxr.resample_chunk(samples[i : i + self._block]) for i in blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


class PcmDecoder:
    """Raw mono samples from bytes that may be cut anywhere, also inside a sample.

    Args:
        encoding: "s16le" (16-bit integers) or "f32le", both little-endian.

    Raises:
        ConfigError: another encoding.
    """

    def __init__(self, encoding: str = "s16le") -> None:
        if encoding not in _FORMATS:
            raise ConfigError(f"raw audio is '{encoding}'; give one of {', '.join(_FORMATS)}.")
        self._type, self._scale = _FORMATS[encoding]
        self._rest = b""

    def accept(self, data: bytes) -> np.ndarray:
        """The whole samples in `data` and what was left of the last call, (n,) float32."""
        data = self._rest + data
        whole = len(data) - len(data) % np.dtype(self._type).itemsize
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], self._type).astype(np.float32)
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused below
            samples *= np.float32(self._scale)
        return check_samples(samples)


def decode_pcm(data: bytes, encoding: str = "s16le") -> np.ndarray:
    """Samples (n,) float32 of complete raw audio.

    Raises:
        DataError: the bytes end inside a sample.
    """
    size = np.dtype(_FORMATS[encoding][0]).itemsize if encoding in _FORMATS else 1
    if len(data) % size:
        raise DataError(
            f"{len(data)} bytes of {encoding} audio end inside a sample of {size} bytes; give "
            "whole samples, or use PcmDecoder for a stream."
        )
    return PcmDecoder(encoding).accept(data)


def microphone(
    rate: int = RATE, block_ms: int = 20, device: int | str | None = None
) -> Iterator[np.ndarray]:
    """Blocks (n,) float32 from the microphone, for ever; closing the generator closes it.

    Raises:
        ConfigError: `sounddevice` is not installed, or finds no microphone.
    """
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise ConfigError(
            "the microphone needs the extra solomonic[microphone] and PortAudio (Debian: "
            "libportaudio2); or pipe raw audio in: arecord -t raw -f S16_LE -r 16000 | "
            "solomonic listen --stdin."
        ) from error
    blocks: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

    def arrived(data: np.ndarray, *_: Any) -> None:
        blocks.put(data[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            samplerate=rate,
            blocksize=rate * block_ms // 1000,
            channels=1,
            dtype="float32",
            device=device,
            callback=arrived,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:  # ValueError: no such name
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"cannot open the microphone ({reason}); give another device (`python -m sounddevice` "
            "lists them), or pipe raw audio into `solomonic listen --stdin`."
        ) from error
    try:
        while True:
            yield blocks.get()
    finally:
        stream.close()
