"""A recogniser in a device file, run by the native core; streams as `speech.recognizer` has them.

recognizer = NativeRecognizer("english.solo")
stream = recognizer.create_stream(["siobhan"])
stream.accept_waveform(16000, samples)
for event in stream.events(): ...
stream.input_finished()
stream.result().text

Features, encoder, search, end-pointers and lattices are computed without Python and torch
(native/src/speech); what is said is the same (tests/speech/test_native_recognizer.py).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import CheckpointError, Config, ConfigError, DataError
from solomonic.kernels import native
from solomonic.speech.audio import RATE, check_samples
from solomonic.speech.biasing.phrases import Phrase
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.endpoint import EndpointConfig
from solomonic.speech.endpoint.voice import VoiceConfig
from solomonic.speech.events import (
    Event,
    Final,
    Partial,
    Reset,
    SpeculativeEnd,
    SpeechStart,
    StableWords,
)
from solomonic.speech.files import audio_blocks
from solomonic.speech.lattice import Lattice
from solomonic.speech.result import Alternative, Result, join
from solomonic.speech.words import Word

ENDING = ".solo"
"""Of the names of device files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PersonalWords:
    """Personal words as text; compiled for a stream when it is made. See `biasing.Biasing`."""

    phrases: Sequence[str | Phrase] = ()
    classes: Mapping[str, Sequence[str | Phrase]] = dataclasses.field(default_factory=dict)
    carriers: Sequence[str] = ()


class NativeRecognizer:
    """Streaming speech recognition from a device file (`solomonic compress`).

    Args:
        path: the file.
        decode, endpoint, voice: settings in place of those in the file.
        threads: that one step may use.
        budget: share of one core that a stream may take, above 0 and at most 1; the search is
            narrowed before it is exceeded. 0: no limit.
        mapped: map the file instead of reading it into memory.

    Raises:
        CheckpointError: no such file, or one that is damaged, foreign or newer.
        ConfigError: there is no native core here, or a setting is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        decode: DecodeConfig | None = None,
        endpoint: EndpointConfig | None = None,
        voice: VoiceConfig | None = None,
        *,
        threads: int = 1,
        budget: float = 0.0,
        mapped: bool = False,
    ) -> None:
        self.path = Path(path)
        self._core = _core()
        try:
            self._own = self._core.Recognizer(str(path), mapped)
        except ValueError as error:
            raise CheckpointError(str(error)) from None
        if decode is not None:
            settings = decode.to_json()
            greedy = settings.pop("method") == "greedy"
            self.set(**{f"decode.{name}": value for name, value in settings.items()})
            self.set(**{"decode.greedy": greedy})
        self._give("endpoint", endpoint)
        self._give("voice", voice)
        self.set(threads=threads, budget=budget)

    def set(self, **settings: float | bool) -> None:
        """Settings by the names of solomonic_speech.h; they hold for streams made later.

        Raises:
            ConfigError: an unknown name or a value out of range.
        """
        for name, value in settings.items():
            try:
                self._own.set(name, float(value))
            except ValueError as error:
                raise ConfigError(str(error)) from None

    def describe(self) -> dict[str, Any]:
        """Model, sizes, kernels and settings."""
        return json.loads(self._own.describe())

    @property
    def frame_seconds(self) -> float:
        """Seconds of audio that one encoder frame stands for."""
        return self._own.frame_seconds()

    @property
    def nbytes(self) -> int:
        """Bytes of weights and tables; streams have their own."""
        return self._own.bytes()

    def create_stream(
        self,
        bias: Sequence[str | Phrase] | PersonalWords | None = None,
        *,
        attention: bool = True,
        endpointing: bool = True,
    ) -> "NativeStream":
        """A stream of its own state; arguments as `Recognizer.create_stream`.

        Raises:
            DataError: phrases that cannot be used.
        """
        if isinstance(bias, str):
            raise ConfigError('bias is one string; give a list of phrases, such as ["siobhan"].')
        if not isinstance(bias, PersonalWords):
            if bias is not None and not isinstance(bias, Sequence):
                raise ConfigError(
                    "the native recogniser compiles personal words itself; give a list of phrases "
                    "or native_recognizer.PersonalWords."
                )
            bias = PersonalWords(phrases=bias or ())
        classes = [(name, _lines(entries)) for name, entries in bias.classes.items()]
        try:
            own = self._own.stream(
                _lines(bias.phrases), classes, list(bias.carriers), endpointing, attention
            )
        except ValueError as error:
            raise DataError(str(error)) from None
        return NativeStream(self, own)

    def transcribe(
        self,
        audio: str | Path | np.ndarray,
        sample_rate: int = RATE,
        *,
        bias: Sequence[str | Phrase] | PersonalWords | None = None,
        attention: bool = True,
        endpointing: bool = True,
    ) -> Result:
        """A whole recording: a file that soundfile reads, or samples (n,) in [-1, 1].

        Raises:
            DataError: the file is no audio, is empty, or holds samples that are not finite.
        """
        stream = self.create_stream(bias, attention=attention, endpointing=endpointing)
        blocks = audio_blocks(audio) if isinstance(audio, str | Path) else [(sample_rate, audio)]
        for rate, samples in blocks:
            stream.accept_waveform(rate, samples)
            self.decode_streams([stream])
        stream.input_finished()
        return stream.result()

    def decode_streams(self, streams: Sequence["NativeStream"]) -> None:
        """Decode what has arrived in every stream, in step where several have audio."""
        try:
            self._core.decode([stream._own for stream in streams])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        for stream in streams:
            stream._take()

    def _give(self, prefix: str, config: Config | None) -> None:
        if config is not None:
            given = {f"{prefix}.{name}": value for name, value in config.to_json().items()}
            self.set(**{name: -1.0 if value is None else value for name, value in given.items()})


class NativeStream:
    """Made by `NativeRecognizer.create_stream`; as `speech.stream.Stream`.

    Attributes:
        results: of the utterances that are over, in order; of those without words only the last.
    """

    def __init__(self, recognizer: NativeRecognizer, own: Any) -> None:
        self._recognizer, self._own = recognizer, own
        self._events: list[Event] = []
        self._finished = self._live = False
        self._rate: int | None = None
        self.results: list[Result] = []

    def accept_waveform(self, sample_rate: int, samples: Any) -> None:
        """Take mono samples in [-1, 1] at any rate; nothing is decoded yet.

        Raises:
            ConfigError: the rate is not that of the audio before, or is no rate.
            DataError: a sample is not finite, there are several channels, or the input was
                finished. The stream is as it was before the call.
        """
        if self._finished:
            raise DataError("the input of this stream is finished; create another stream.")
        if self._rate is not None and sample_rate != self._rate:
            raise ConfigError(
                f"this stream's audio has {self._rate} samples a second, not {sample_rate}; create "
                "another stream for audio of another rate."
            )
        checked = np.ascontiguousarray(check_samples(samples))
        try:
            self._own.accept(float(sample_rate), checked.ctypes.data, len(checked))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._rate = sample_rate

    def input_finished(self) -> None:
        """No more audio will come. The last word is not lost: silence is added behind it."""
        self._own.finish()
        self._finished = True

    def events(self) -> list[Event]:
        """Decode what has arrived, and give the events since the last call, in order of time."""
        self._recognizer.decode_streams([self])
        events, self._events = self._events, []
        return events

    def result(self) -> Result:
        """The utterance that is under way, or else the last one; empty when there was none.

        After `input_finished` it is the whole recording: `utterances` has its parts.
        """
        self._recognizer.decode_streams([self])
        if self._live:
            return _result(self._own.result())
        if self._finished:
            return join(self.results)
        return self.results[-1] if self.results else Result(text="")

    @property
    def time(self) -> float:
        """Seconds of audio that have been decoded."""
        return self._own.time()

    @property
    def nbytes(self) -> int:
        """Bytes that the stream holds; most are reserved for long utterances and never touched."""
        return self._own.bytes()

    @property
    def counters(self) -> dict[str, float]:
        """blocks, encoded, macs, seconds (of processor time), beam, lowered, raised; see
        solomonic_speech.h."""
        return self._own.counters()

    def _take(self) -> None:
        for plain in self._own.events():
            event = _event(plain)
            self._live = not isinstance(event, Final)
            self._events.append(event)
            if isinstance(event, Final):
                if self.results and not self.results[-1].text:
                    self.results.pop()
                self.results.append(event.result)


def _core() -> Any:
    core = native.load()
    if core is None or not hasattr(core, "speech_stream"):
        raise ConfigError(
            "device files are recognised by the native core, which is not built here; install "
            "solomonic with a C++ compiler, or give the folder of a model."
        )
    return core.speech_stream


def _lines(phrases: Sequence[str | Phrase]) -> list[str]:
    return [
        phrase
        if isinstance(phrase, str)
        else phrase.text + ("" if phrase.boost is None else f"\t{phrase.boost!r}")
        for phrase in phrases
    ]


def _words(plain: Sequence[tuple]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in plain)


def _result(plain: Mapping[str, Any]) -> Result:
    lattice = plain["lattice"]
    return Result(
        text=plain["text"],
        words=_words(plain["words"]),
        nbest=tuple(Alternative(text=t, acoustic=a, bias=b) for t, a, b in plain["nbest"]),
        lattice=None if lattice is None else Lattice(**lattice),
        start=plain["start"],
        end=plain["end"],
        reason=plain["reason"],
    )


def _event(plain: Mapping[str, Any]) -> Event:
    kind, at = plain["kind"], {"time": plain["time"], "utterance": plain["utterance"]}
    if kind == SpeechStart.kind:
        return SpeechStart(**at, start=plain["start"])
    if kind == Partial.kind:
        words = _words(plain["words"])
        return Partial(**at, text=plain["text"], words=words, stable=plain["stable"])
    if kind == StableWords.kind:
        return StableWords(**at, words=_words(plain["words"]))
    if kind == Reset.kind:
        return Reset(**at, revision=plain["revision"])
    result = _result(plain["result"])
    at |= {"revision": plain["revision"], "result": result, "reason": result.reason}
    return Final(**at, commit=plain["commit"]) if kind == Final.kind else SpeculativeEnd(**at)
