"""A tiny recogniser that nobody trained, and sounds on which a voice detector fires.

For tests of everything around the model: streams, events, files, the command line. One unit of the
joint network is set by hand to hear speech, so that words come and go with the sound.
"""

from pathlib import Path

import numpy as np
import torch

from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig
from solomonic.speech.config import TransducerConfig
from solomonic.speech.features import features
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel, save_speech_model
from solomonic.text.pieces import WORD_START, WordPieces

RATE = 16000
SENTENCES = [
    "turn on the kitchen lights", "set a timer for ten minutes", "play some music please",
    "call my brother now", "what is the weather like today", "stop", "volume up", "go back home",
]  # fmt: skip


def tiny_pieces() -> WordPieces:
    """Forty or so pieces."""
    return WordPieces.train(SENTENCES, size=48)


def tiny_model(pieces: WordPieces | None = None, seed: int = 5) -> SpeechModel:
    """An untrained model that speaks while it hears something and is silent while it does not."""
    pieces = pieces or tiny_pieces()
    config = TransducerConfig(
        vocab_size=pieces.size,
        hidden_size=32,
        front="M",
        pattern="W",
        intermediate_size=0,
        window_size=8,
        ssm_state_size=8,
        num_attention_heads=2,
        predictor_size=32,
        joint_size=32,
        dropout=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transducer = Transducer(config).eval().requires_grad_(False)
    transducer.encoder.mean.fill_(-8.0)
    transducer.encoder.deviation.fill_(4.0)
    weight, bias = _hearing(transducer)
    transducer.to_joint.weight.mul_(2.0)
    transducer.to_joint.weight[0], transducer.to_joint.bias[0] = weight, bias
    transducer.predictor.output.weight.mul_(6.0)  # so that the last label matters
    transducer.predictor.output.weight[0] = transducer.predictor.output.bias[0] = 0.0
    transducer.joint.weight.mul_(3.0)
    transducer.joint.weight[:, 0] = 0.0
    transducer.joint.weight[0, 0] = -4.0
    transducer.joint.bias[0] = 5.5
    starts = [piece.startswith(WORD_START) for piece in pieces.pieces]
    transducer.joint.bias[torch.tensor(starts)] += 2.0
    return SpeechModel(transducer, pieces)


def _hearing(transducer: Transducer) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (D,) and bias of a unit that is 2 where the encoder hears speech and else -2."""
    sound = np.concatenate((silence(1.0), silence(1.0, 1e-3), speech(2.0)))
    frames = features(sound)
    step = transducer.config.frames_per_step
    whole = torch.from_numpy(frames[: len(frames) // step * step])[None]
    hidden = transducer.hidden(whole)[0][0].double()
    wanted = torch.full((len(hidden), 1), -2.0, dtype=torch.float64)
    wanted[len(hidden) // 2 :] = 2.0
    rows = torch.cat((hidden, torch.ones(len(hidden), 1, dtype=torch.float64)), dim=1)
    ridge = rows.T @ rows + 0.1 * torch.eye(rows.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(ridge, rows.T @ wanted)[:, 0].float()
    return solved[:-1], solved[-1]


def save_tiny(folder: Path) -> Path:
    """The tiny model on disk."""
    save_speech_model(folder, tiny_model(), card="# tiny\n")
    return folder


def silence(seconds: float, level: float = 0.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(n,) float32; `level` is the deviation of white noise in it."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return (level * noise).astype(np.float32)


def speech(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(n,) float32: syllables of a buzz with two wandering formants, and noise between them."""
    random = np.random.default_rng(seed)
    count = round(seconds * rate)
    time = np.arange(count) / rate
    pitch = 110 + 20 * np.sin(2 * np.pi * 0.7 * time + random.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = [500 + 300 * np.sin(2 * np.pi * (1.3 + k) * time + random.uniform(0, 6)) + 900 * k
                for k in range(3)]  # fmt: skip
    sound = np.zeros(count)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        gain = sum(np.exp(-(((frequency - f) / 150) ** 2)) for f in formants)
        sound += gain * np.sin(harmonic * phase) * (frequency < rate / 2 - 200)
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time) * 2, 0.02, 1.0)
    sound = 0.15 * sound * syllables + 0.003 * random.standard_normal(count)
    return np.clip(sound, -1, 1).astype(np.float32)


def command(rate: int = RATE, seed: int = 0, before: float = 0.4, after: float = 1.8) -> np.ndarray:
    """Speech of 1.2 s between two stretches of quiet noise."""
    parts = (silence(before, 1e-3, rate, seed), speech(1.2, rate, seed))
    return np.concatenate((*parts, silence(after, 1e-3, rate, seed + 1)))


def attentive(seed: int = 1) -> SpeechModel:
    """The tiny recogniser with an attention of which nothing is zero."""
    model = tiny_model()
    torch.manual_seed(seed)
    config = PointerConfig(vocab_size=model.pieces.size, joint_size=32, embedding_size=12, size=20)
    pointer = PointerBiasing(config)
    for parameter in pointer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.constant_(pointer.depth, 3.0)
    model.transducer.pointer = pointer.requires_grad_(False)
    return model
