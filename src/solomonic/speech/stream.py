"""One stream of audio on its way through the recogniser: what is buffered, searched and said.

Audio of any rate and cut -> samples at 16 kHz -> frames every 10 ms -> blocks of one encoder frame
(60 ms). Everything behind the blocks works block by block, counted from the start of the stream, so
nothing that is said depends on how the audio was handed over.

While nobody speaks the encoder and the search do not run: the last blocks are kept, and go in first
once the voice detector hears speech. So a silent hour costs no words and no memory.
"""

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from solomonic.core import ConfigError, DataError
from solomonic.speech.audio import StreamResampler, check_samples
from solomonic.speech.data.online import SILENCE
from solomonic.speech.endpoint import Endpointer, Observation, Utterances
from solomonic.speech.endpoint.features import EndFeatures, pause_vector
from solomonic.speech.events import Event, Partial, StableWords
from solomonic.speech.features import FeatureStream
from solomonic.speech.result import Result, join

if TYPE_CHECKING:
    from torch import Tensor

    from solomonic.speech import decode
    from solomonic.speech.biasing.request import Personal
    from solomonic.speech.decode import Search
    from solomonic.speech.endpoint.head import EndHeadState
    from solomonic.speech.endpoint.voice import VoiceState
    from solomonic.speech.model import Heard
    from solomonic.speech.recognizer import Recognizer

LEAD_BLOCKS = 10
"""Blocks up to the detected start that are decoded too: 600 ms. The voice detector is later than
360 ms in 2 to 6% of real recordings (docs/end-pointing.md)."""
TAIL_BLOCKS = 8
"""Blocks of silence behind the end of the input, so that the last word comes out: 480 ms."""
_NO_FRAMES = np.empty((0, 0), np.float32)


@dataclasses.dataclass
class Live:
    """The utterance under way.

    first: number of the block at which the search began.
    hidden: the encoder's last output (1, 1, D).
    head: the memory of the end head, where the model has one.
    silence: blocks since the voice detector heard speech.
    said: the text and the count of stable words that events have told.
    """

    search: "Search"
    encoder: "Heard"
    first: int
    hidden: "Tensor | None" = None
    head: "EndHeadState | None" = None
    silence: int = 0
    said: tuple[str, int] = ("", 0)


class Stream:
    """Made by `Recognizer.create_stream`; feed it, then read `events()` or `result()`.

    Attributes:
        results: of the utterances that are over, in order; of those without words only the last
            is kept. A stream that runs for days may be relieved of them with `results.clear()`.
        observations: set it to a list, and what the end-pointers are told about every block of an
            utterance is added to it (for measuring and training them); None: not kept.
    """

    def __init__(self, recognizer: "Recognizer", personal: "Personal", endpointing: bool) -> None:
        self._recognizer, self._personal = recognizer, personal
        self._endpointing = endpointing
        self._resampler: StreamResampler | None = None
        self._rate: int | None = None
        config = recognizer.model.transducer.config
        self._block, self._seconds = config.frames_per_step, config.frame_seconds
        self._features = FeatureStream(recognizer.features)
        self._voice = recognizer.voice
        self._voice_state: VoiceState | None = None
        self._endpointer = Endpointer(recognizer.endpoint, self._seconds)
        self._utterances = Utterances()
        self._rest = _NO_FRAMES  # frames short of a block
        self._blocks: deque[np.ndarray] = deque()  # not looked at yet
        self._lead: deque[np.ndarray] = deque(maxlen=LEAD_BLOCKS)
        self._heard: deque[bool] = deque(maxlen=LEAD_BLOCKS)  # a frame of speech in them
        self._read = 0  # blocks looked at
        self._real: int | None = None  # blocks with audio, once the input is finished
        self._events: list[Event] = []
        self.results: list[Result] = []
        self.observations: list[Observation] | None = None
        self._live: Live | None = None

    def accept_waveform(self, sample_rate: int, samples: Any) -> None:
        """Take mono samples in [-1, 1], any number of them, at any rate; nothing is decoded yet.

        Raises:
            ConfigError: the rate is not that of the audio before, or is no rate.
            DataError: a sample is not finite, there are several channels, or the input was
                finished. The stream is as it was before the call.
        """
        if self._real is not None:
            raise DataError("the input of this stream is finished; create another stream.")
        if self._rate is not None and sample_rate != self._rate:
            raise ConfigError(
                f"this stream's audio has {self._rate} samples a second, not {sample_rate}; create "
                "another stream for audio of another rate."
            )
        checked = check_samples(samples)
        if self._rate is None:
            self._resampler = StreamResampler(sample_rate, self._features.config.sample_rate)
            self._rate = sample_rate
        assert self._resampler is not None
        self._take(self._features.accept(self._resampler.accept(checked)))

    def input_finished(self) -> None:
        """No more audio will come. The last word is not lost: silence is added behind it."""
        if self._real is not None:
            return
        if self._resampler is not None:
            self._take(self._features.accept(self._resampler.finish()))
        self._take(self._features.finish())
        if len(self._rest):
            missing = self._block - len(self._rest)
            self._take(np.full((missing, self._rest.shape[1]), SILENCE, np.float32))
        self._real = self._read + len(self._blocks)
        tail = np.full((self._block, self._features.config.bins), SILENCE, np.float32)
        self._blocks.extend([tail] * TAIL_BLOCKS)

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
        if self._live is not None:
            return self._now("not finished")
        if self._real is not None:
            return join(self.results)
        return self.results[-1] if self.results else Result(text="")

    @property
    def time(self) -> float:
        """Seconds of audio that have been decoded."""
        blocks = self._read if self._real is None else min(self._read, self._real)
        return round(blocks * self._seconds, 6)  # 3.6 and not 3.5999999999999996

    def _take(self, frames: np.ndarray) -> None:
        """Cut frames into blocks; what is left over waits."""
        if not len(frames):
            return
        rest = np.concatenate((self._rest, frames)) if len(self._rest) else frames
        whole = len(rest) // self._block
        for index in range(whole):
            self._blocks.append(rest[index * self._block : (index + 1) * self._block])
        self._rest = rest[whole * self._block :].copy()

    # What follows is called by the recogniser, which reads many streams together.

    @property
    def _ready(self) -> bool:
        """Whether there is a block to look at; at the end the stream is also closed here."""
        if self._blocks:
            return True
        if self._real is not None:
            self._close()
        return False

    def _next(self) -> list[np.ndarray]:
        """Look at the next block and give those that the encoder has to read now: none while
        nobody speaks, several at the start of an utterance."""
        block = self._blocks.popleft()
        self._read += 1
        self._speech = self._voice_of(block)
        if self._live is not None:
            return [block]
        if self._read - 1 == self._real and any(self._heard):
            # Speech too short to be sure of, but nothing more comes: what was kept is decoded.
            self._tell(self._utterances.start(self.time))
            return self._begin([*self._lead, block])
        self._lead.append(block)
        if not self._endpointing:
            if self._read == 1:
                self._tell(self._utterances.start(self.time))
        elif self._endpointer.step(self._unsaid()) == "start":
            self._tell(self._utterances.start(self.time, self._endpointer.began))
        else:
            return []
        return self._begin(list(self._lead))

    def _begin(self, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """A new search of the last blocks, which it gives back."""
        self._lead.clear()
        self._heard.clear()
        first = self._read - len(blocks)
        personal = self._personal
        search = self._recognizer.decoder.start(personal.graph, first, personal.listed)
        self._live = Live(search, self._recognizer.model.transducer.init_state(1), first)
        return blocks

    def _voice_of(self, block: np.ndarray) -> float:
        if self._live is not None and self._real is not None and self._read > self._real:
            return 0.0  # our own padding; before a start it gives a late detector time
        heard, self._voice_state = self._voice.step(block, self._voice_state)
        self._heard.append(bool(heard.max() >= self._recognizer.endpoint.speech_threshold))
        return float(heard.mean())

    def _seen(self, partial: "decode.Partial", end_probability: float | None) -> Observation:
        """What the end-pointers are told about the block just read."""
        return Observation(
            time=self.time,
            speech_probability=self._speech,
            pause_frames=partial.pause_frames,
            blank_probability=partial.blank_probability,
            n_tokens=len(partial.tokens),
            end_probability=end_probability,
            hypothesis=tuple(partial.tokens),
        )

    def _after(self) -> None:
        """The search has read the block: say what is new and ask the end-pointers."""
        assert self._live is not None
        partial = self._recognizer.decoder.partial(self._live.search)
        self._say_words(partial)
        if not self._endpointing and self.observations is None:
            return
        seen = self._seen(partial, self._end_probability(partial))
        if self.observations is not None:
            self.observations.append(seen)
        if not self._endpointing:
            return
        if self._real is not None and self._read > self._real:
            return  # in our own padding the end of the input decides, at `_close`
        decision = self._endpointer.step(seen)
        if decision == "speculative":
            result = self._now(self._endpointer.reason)
            self._tell(self._utterances.speculative(self.time, result, self._endpointer.reason))
        elif decision == "reset":
            self._tell(self._utterances.reset(self.time))
        elif decision == "final":
            self._finish(self._endpointer.reason)

    def _unsaid(self) -> Observation:
        """The same while no search runs."""
        return Observation(time=self.time, speech_probability=self._speech)

    def _end_probability(self, partial: "decode.Partial") -> float | None:
        """What the end head thinks of the block just read; None where the model has none."""
        live, end = self._live, self._recognizer.model.end
        assert live is not None
        heard = self._speech >= self._endpointer.config.speech_threshold
        live.silence = 0 if heard else live.silence + 1
        if end is None or live.hidden is None:
            return None
        pauses = pause_vector(
            partial.blank_frames,
            partial.pause_frames,
            partial.blank_probability,
            live.silence,
            len(partial.tokens),
            self._seconds,
        )
        label = torch.from_numpy(self._recognizer.decoder.label(live.search))
        features = EndFeatures(live.hidden, label[None, None], torch.from_numpy(pauses)[None, None])
        probability, live.head = end.stream(features, live.head or end.init_state(1))
        return float(probability)

    def _say_words(self, partial: "decode.Partial") -> None:
        assert self._live is not None
        (text, before), number = self._live.said, self._utterances.utterance
        words, stable = tuple(partial.words), max(partial.stable_words, before)
        if partial.text != text:
            self._tell(
                Partial(
                    time=self.time, utterance=number, text=partial.text, words=words, stable=stable
                )
            )
        if stable > before:
            fresh = words[before:stable]
            self._tell(StableWords(time=self.time, utterance=number, words=fresh))
        self._live.said = (partial.text, stable)

    def _close(self) -> None:
        """The input and its padding have been read."""
        if self._live is None:
            return
        self._endpointer.finish()
        self._finish("input finished")

    def _finish(self, reason: str) -> None:
        result = self._now(reason)
        if self.results and not self.results[-1].text:
            self.results.pop()  # hours of false alarms take no memory
        self.results.append(result)
        self._tell(*self._utterances.final(self.time, result, reason))
        self._live = None
        self._lead.clear()
        self._heard.clear()

    def _now(self, reason: str) -> Result:
        """The result as it stands; the search goes on undisturbed."""
        assert self._live is not None
        start = round(self._live.first * self._seconds, 6)
        return self._recognizer.result_of(self._live.search, start, self.time, reason)

    def _tell(self, *events: Event) -> None:
        self._events.extend(events)
