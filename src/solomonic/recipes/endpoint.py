"""The end head's training: spoken commands with pauses inside, read by a trained recogniser.

What is needed is where speech truly ends, and pauses that are no end. Synthetic speech gives both:
a command is spoken in one to three pieces, which are joined with pauses of 100 to 900 ms.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import DataError, require

if TYPE_CHECKING:
    from solomonic.speech.data.synthesis import Voice
    from solomonic.speech.endpoint.pauses import PausedSpeech
    from solomonic.speech.endpoint.training import EndSequence, EndTraining
    from solomonic.speech.pretrained import SpeechModel

_ROWS = 16  # recordings decoded together


@dataclasses.dataclass(frozen=True)
class PausedCommand:
    """A spoken command: its text, and the recording with the times of pauses and end."""

    text: str
    speech: "PausedSpeech"


def paused_commands(
    sentences: Sequence[str],
    voices: "Sequence[Voice]",
    seed: int = 0,
    paused: float = 0.5,
    snr_db: tuple[float, float] = (12.0, 35.0),
) -> Iterator[PausedCommand]:
    """Speak each sentence with a drawn voice, some with pauses inside, over a little noise.

    Args:
        paused: share of the sentences (of at least four words) with one or two pauses.
        snr_db: range of the signal-to-noise ratio.

    Raises:
        ConfigError: a share out of range, or espeak-ng or flite is missing.
    """
    from solomonic.speech.data.augment import add_noise, synthetic_noise
    from solomonic.speech.data.synthesis import speak
    from solomonic.speech.endpoint.pauses import make_paused

    require(0 <= paused <= 1, f"paused = {paused} must lie in [0, 1].")
    for number, text in enumerate(sentences):
        rng = np.random.default_rng((seed, number))
        voice = voices[int(rng.integers(len(voices)))]
        rate, pitch = float(rng.uniform(0.85, 1.2)), float(rng.uniform(0.85, 1.2))
        try:
            parts = [
                speak(part, voice, rate=rate, pitch=pitch).samples
                for part in _pieces(text, paused, rng)
            ]
        except DataError:
            continue  # a piece that this voice cannot say
        speech = make_paused(parts, rng)
        noise = synthetic_noise("pink", len(speech.audio), rng)
        audio = add_noise(speech.audio, noise, float(rng.uniform(*snr_db)), rng)
        peak = float(np.abs(audio).max()) or 1.0
        audio = audio * np.float32(rng.uniform(0.1, 0.9) / peak)
        yield PausedCommand(text, dataclasses.replace(speech, audio=audio.astype(np.float32)))


def end_sequences(
    model: "SpeechModel",
    commands: "Sequence[PausedCommand]",
    progress: Callable[[int, int], None] | None = None,
) -> "list[EndSequence]":
    """What the end head would have seen of each recording, frame by frame."""
    from solomonic.speech.decode import DecodeConfig, Decoder
    from solomonic.speech.features import features

    decoder = Decoder(model.transducer, model.pieces, DecodeConfig(lattice=False))
    frames = [features(command.speech.audio) for command in commands]
    order = sorted(range(len(commands)), key=lambda i: len(frames[i]))
    found: dict[int, EndSequence] = {}
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        made = _read(model, decoder, [frames[i] for i in rows], [commands[i] for i in rows])
        found |= dict(zip(rows, made, strict=True))
        if progress is not None:
            progress(len(found), len(commands))
    return [found[i] for i in range(len(commands))]


def train_end(
    model: "SpeechModel",
    sequences: "Sequence[EndSequence]",
    training: "EndTraining | None" = None,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Give `model` a new end head trained on `sequences`; the losses of the epochs.

    The torch generators are left alone.
    """
    import torch

    from solomonic.speech.endpoint.head import EndHead, EndHeadConfig
    from solomonic.speech.endpoint.training import train_end_head

    config = model.transducer.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if training is None else training.seed)
        head = EndHead(EndHeadConfig(hidden_size=config.hidden_size, label_size=config.joint_size))
        losses = train_end_head(head, sequences, training, progress)
    model.end = head.requires_grad_(False)
    return losses


def _pieces(text: str, paused: float, rng: np.random.Generator) -> list[str]:
    """The sentence in one to three parts, cut between words."""
    words = text.split()
    if len(words) < 4 or rng.random() >= paused:
        return [text]
    count = 2 if len(words) < 7 or rng.random() < 0.7 else 3
    cuts = sorted(rng.choice(np.arange(1, len(words)), size=count - 1, replace=False).tolist())
    edges = [0, *cuts, len(words)]
    return [" ".join(words[a:b]) for a, b in pairwise(edges)]


def _read(
    model: "SpeechModel", decoder: Any, frames: list[np.ndarray], commands: list[PausedCommand]
) -> "list[EndSequence]":
    """Encoder, search, voice detector and pauses of a few recordings, side by side."""
    import torch

    from solomonic.speech.data.batches import collate
    from solomonic.speech.endpoint.features import pause_vector, trailing_silence
    from solomonic.speech.endpoint.training import EndSequence
    from solomonic.speech.endpoint.voice import VoiceDetector

    config = model.transducer.config
    step, seconds = config.frames_per_step, config.frame_seconds
    counts = [len(one) // step for one in frames]
    batch = collate([(one[: n * step], [1]) for one, n in zip(frames, counts, strict=True)], step)
    silences = []
    for one, count in zip(frames, counts, strict=True):
        heard, _ = VoiceDetector().step(one[: count * step])
        silences.append(trailing_silence(heard.reshape(count, step).mean(axis=1))[0])
    with torch.inference_mode():
        hidden, _, _ = model.transducer.hidden(batch.features, None, batch.feature_lengths)
        acoustic = model.transducer.acoustic(hidden)
    searches = [decoder.start() for _ in frames]
    labels: list[list[np.ndarray]] = [[] for _ in frames]
    pauses: list[list[np.ndarray]] = [[] for _ in frames]
    for t in range(max(counts)):
        here = [i for i, count in enumerate(counts) if t < count]
        decoder.advance([searches[i] for i in here], acoustic[here, t : t + 1])
        for i in here:
            said = decoder.partial(searches[i])
            labels[i].append(decoder.label(searches[i]))
            pauses[i].append(
                pause_vector(
                    said.blank_frames,
                    said.pause_frames,
                    said.blank_probability,
                    int(silences[i][t]),
                    len(said.tokens),
                    seconds,
                )
            )
    return [
        EndSequence(
            hidden=hidden[i, :count].numpy().copy(),
            label=np.stack(labels[i]),
            pauses=np.stack(pauses[i]),
            end=int(np.ceil(command.speech.speech_end / seconds)),
            gaps=tuple(
                (int(a / seconds), int(np.ceil(b / seconds))) for a, b in command.speech.pauses
            ),
        )
        for i, (count, command) in enumerate(zip(counts, commands, strict=True))
    ]
