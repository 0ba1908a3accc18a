"""The recogniser: a model and its settings, serving any number of streams.

recognizer = Recognizer.from_pretrained()
stream = recognizer.create_stream(bias=["siobhan"])
stream.accept_waveform(16000, samples)
for event in stream.events(): ...
stream.input_finished()
stream.result().text
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch

from solomonic.core import ConfigError, require
from solomonic.speech.audio import RATE
from solomonic.speech.biasing import Biasing
from solomonic.speech.biasing.request import Personal
from solomonic.speech.decode import DecodeConfig, Decoder, Search
from solomonic.speech.endpoint import EndpointConfig
from solomonic.speech.endpoint.voice import VoiceConfig, VoiceDetector
from solomonic.speech.features import FeatureConfig
from solomonic.speech.files import audio_blocks
from solomonic.speech.lattice import word_lattice
from solomonic.speech.model import Heard
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import SpeechModel, load_speech_model
from solomonic.speech.result import Alternative, Result
from solomonic.speech.stream import Stream
from solomonic.state import concatenate, gather


class Recognizer:
    """Streaming speech recognition.

    Args:
        model: what `load_speech_model` reads.
        decode: the search; greedy and the beam's width are chosen here.
        endpoint: when utterances begin and end.
        voice: the voice detector's settings.
        threads: PyTorch's threads while audio is decoded. The products of a few streams are too
            small to share, and a thread that waits for a core another program holds costs a
            hundred times what it saves.

    Raises:
        ConfigError: the model was made for other features.
    """

    def __init__(
        self,
        model: SpeechModel,
        decode: DecodeConfig | None = None,
        endpoint: EndpointConfig | None = None,
        voice: VoiceConfig | None = None,
        threads: int = 1,
    ) -> None:
        require(threads >= 1, f"threads = {threads} must be at least 1.")
        self.threads = threads
        settings = model.transducer.config
        self.model = model
        self.features = FeatureConfig(bins=settings.bins, shift_ms=settings.shift_ms)
        self.decoder = Decoder(model.transducer, model.pieces, decode or model.decode)
        self.endpoint = endpoint or EndpointConfig()
        self.voice = VoiceDetector(voice)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        device: str = "cpu",
        decode: DecodeConfig | None = None,
        endpoint: EndpointConfig | None = None,
    ) -> Self:
        """A recogniser from a model's folder; None: the small English model of the package.

        Raises:
            CheckpointError: the folder holds no speech model, or one that is cut short or newer.
        """
        model = load_speech_model(SHIPPED if path is None else path, device)
        return cls(model, decode, endpoint)

    @property
    def frame_seconds(self) -> float:
        """Seconds of audio that one encoder frame stands for."""
        return self.model.transducer.config.frame_seconds

    def create_stream(
        self,
        bias: Sequence[str] | Biasing | None = None,
        *,
        attention: bool = True,
        endpointing: bool = True,
    ) -> Stream:
        """A stream of its own state.

        Args:
            bias: personal words: phrases, or a `Biasing` with weights and classes. None or empty:
                plain recognition, bit for bit.
            attention: let the model's attention look at them as well as the search, where the
                model has it. The search then pays a part of their weights
                (`PointerConfig.search_scale`): what is heard need not be paid twice.
            endpointing: cut the audio into utterances; False takes all of it as one.

        Raises:
            DataError: phrases that cannot be used.
        """
        return Stream(self, self._personal(bias, attention), endpointing)

    def transcribe(
        self,
        audio: str | Path | np.ndarray,
        sample_rate: int = RATE,
        *,
        bias: Sequence[str] | Biasing | None = None,
        attention: bool = True,
        endpointing: bool = True,
    ) -> Result:
        """A whole recording: a file that soundfile reads, or samples (n,) in [-1, 1].

        Raises:
            DataError: the file is no audio, is empty, or holds samples that are not finite.
        """
        stream = self.create_stream(bias, attention=attention, endpointing=endpointing)
        if isinstance(audio, str | Path):
            for rate, samples in audio_blocks(audio):
                stream.accept_waveform(rate, samples)
                stream.events()  # decodes; hours of audio are never in memory together
        else:
            stream.accept_waveform(sample_rate, audio)
        stream.input_finished()
        return stream.result()

    @torch.inference_mode()
    def decode_streams(self, streams: Sequence[Stream]) -> None:
        """Decode what has arrived in every stream, in step where several have audio."""
        if len({id(stream) for stream in streams}) < len(streams):
            raise ConfigError("a stream is in the call twice; give each of them once.")
        with _limited(self.threads):
            waiting = list(streams)
            while waiting:
                waiting = [stream for stream in waiting if stream._ready]
                self._round([(stream, stream._next()) for stream in waiting])

    def _round(self, pending: list[tuple[Stream, list[np.ndarray]]]) -> None:
        """Read what every stream wants read now: usually a block each."""
        while any(blocks for _, blocks in pending):
            speaking = [(stream, blocks) for stream, blocks in pending if blocks]
            self._read([stream for stream, _ in speaking], [b.pop(0) for _, b in speaking])
            for stream, blocks in speaking:
                if not blocks:
                    stream._after()

    def result_of(self, search: Search, start: float, end: float, reason: str) -> Result:
        """What a search has found so far; it is not disturbed. Times in seconds."""
        found = self.decoder.finish(search)
        lattice = None if found.lattice is None else word_lattice(found.lattice)
        return Result(
            text=found.best.text,
            words=found.best.words,
            nbest=tuple(
                Alternative(text=other.text, acoustic=other.log_prob, bias=other.bias)
                for other in found.nbest
            ),
            lattice=lattice,
            start=start,
            end=end,
            reason=reason,
        )

    def _read(self, streams: list[Stream], blocks: list[np.ndarray]) -> None:
        """One encoder frame of each stream through encoder and search."""
        net = self.model.transducer
        lives = [live for stream in streams if (live := stream._live) is not None]
        features = torch.from_numpy(np.stack(blocks)).to(net.joint.bias.device)
        hidden, state, _ = net.hidden(features, _joined([live.encoder for live in lives]))
        contexts = [stream._personal.context for stream in streams]
        if all(context is None for context in contexts):
            acoustic = net.acoustic(hidden)
        else:
            rows = [net.acoustic(hidden[i : i + 1], c) for i, c in enumerate(contexts)]
            acoustic = torch.cat(rows)
        self.decoder.advance([live.search for live in lives], acoustic)
        for row, live in enumerate(lives):
            live.encoder = state if len(lives) == 1 else gather(state, torch.tensor([row]))
            live.hidden = hidden[row : row + 1]

    def _personal(self, bias: Sequence[str] | Biasing | None, attention: bool) -> Personal:
        """What the search and the model's attention take of the phrases.

        Compiled for the model's own vocabulary; a bare string would be read letter by letter.
        """
        if bias is None:
            return Personal()
        if isinstance(bias, str):
            raise ConfigError('bias is one string; give a list of phrases, such as ["siobhan"].')
        if not isinstance(bias, Biasing):
            bias = Biasing(bias, pieces=self.model.pieces)
        elif bias.pieces != self.model.pieces:
            raise ConfigError(
                "these personal words were compiled for another vocabulary; make the Biasing with "
                "pieces=recognizer.model.pieces."
            )
        net, tokens = self.model.transducer, bias.tokens if attention else []
        if not tokens:
            return Personal(bias.graph)
        with torch.inference_mode():
            context = None if net.context is None else net.context.embed(tokens)
            personal = Personal(bias.graph, context)
            if net.pointer is None:
                return personal
            scale = net.pointer.config.search_scale
            return personal.attended(net.pointer.embed(tokens), scale)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """PyTorch with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _joined(states: list[Heard]) -> Heard:
    return states[0] if len(states) == 1 else concatenate(states)
