"""Fine-tunes of the shipped recogniser in minutes, for benchmarks/updates.py.

Twelve words that no training text holds are spoken by espeak-ng and flite: by voices to train with,
and by others to test with. Real single words of Speech Commands, heard before, go along with them,
so that old words stay; their test speakers are in no training. All of it is kept in build/updates,
and what is there already is not made again.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from solomonic.evals.wer import count_errors
from solomonic.speech.audio import read_audio
from solomonic.speech.data.batches import collate
from solomonic.speech.data.manifest import read_manifest
from solomonic.speech.data.online import pad
from solomonic.speech.data.synthesis import HELD_OUT_VOICES, TRAIN_VOICES, synthesise
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.decode.decoder import Decoder
from solomonic.speech.features import FeatureConfig, features
from solomonic.speech.loss import joint_transducer_loss
from solomonic.speech.pretrained import SpeechModel, load_speech_model

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build/updates"
DATA = ROOT.parent / "shared/data"
SHIPPED = ROOT / "src/solomonic/speech/models/english-small"
WORDS = (
    "tiramisu",
    "kombucha",
    "ocarina",
    "bagheera",
    "marzipan",
    "gondola",
    "chinchilla",
    "rhubarb",
)
WORDS += ("walnut", "penguin", "cinnamon", "volcano")
HALF = 12  # utterances of new and of old words in a batch
TAIL = 30  # frames of silence behind an utterance, for a streaming model to finish in
Row = tuple[np.ndarray, str]
Rows = list[Row]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What there is to train on and to test with."""

    new: Rows
    old: Rows
    new_test: Rows
    old_test: Rows
    one_speaker: Rows


class WordsTask:
    """New words and old ones, half of each batch; a `solomonic.core.Task`.

    The model's parameters have the names of a device file.
    """

    model: nn.Module

    def __init__(self, speech: SpeechModel, new: Rows, old: Rows, seed: int = 0) -> None:
        self.speech, self._halves, self._seed = speech, (new, old), seed
        self.model = nn.ModuleDict({"transducer": speech.transducer})

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Batches without an end; `position` is not kept, these runs are short."""
        rng = np.random.default_rng(self._seed)
        while True:
            rows = [
                half[i] for half in self._halves if half for i in rng.integers(len(half), size=HALF)
            ]
            yield self._collated(rows), {}

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The exact loss of the transducer, nats a label."""
        net = self.speech.transducer
        hidden, _, lengths = net.hidden(batch.features, None, batch.feature_lengths)
        assert lengths is not None
        loss = joint_transducer_loss(
            net.acoustic(hidden),
            net.predictor(batch.tokens),
            net.joint.weight,
            net.joint.bias,
            batch.tokens,
            lengths,
            batch.token_lengths,
            reduction="sum",
        )
        return loss / float(batch.token_lengths.sum()), {}

    def evaluate(self) -> dict[str, float]:
        """Nothing: `word_errors` is what counts."""
        return {}

    def parameter_groups(self) -> dict[str, list[str]]:
        """As the transducer's."""
        return {
            key: [f"transducer.{name}" for name in names]
            for key, names in self.speech.transducer.parameter_groups().items()
        }

    def save(self, directory: str) -> None:
        """Nothing is kept here."""

    def _collated(self, rows: Rows) -> Any:
        step = self.speech.transducer.config.frames_per_step
        pieces = self.speech.pieces
        return collate([(filled(r, step), pieces.encode(text)) for r, text in rows], step)


def filled(frames: np.ndarray, step: int) -> np.ndarray:
    """With silence behind, up to whole steps of the encoder."""
    return pad(frames, 0, TAIL + -(len(frames) + TAIL) % step)


def corpus() -> Corpus:
    """Made once, then read."""
    file = PLACE / "corpus.npz"
    if not file.is_file():
        new = spoken("train", [word for word in WORDS for _ in range(16)], TRAIN_VOICES)
        new_test = spoken("test", [word for word in WORDS for _ in range(20)], HELD_OUT_VOICES)
        old = real("speech_commands_subset", "train", 384)
        old_test = real("speech_commands_subset", "test", 240)
        speaker = real("fsdd", "test", 160)
        keep(file, new=new, old=old, new_test=new_test, old_test=old_test, one_speaker=speaker)
    with np.load(file) as kept:
        return Corpus(**{f.name: unpacked(kept, f.name) for f in dataclasses.fields(Corpus)})


def spoken(split: str, texts: list[str], voices: Any) -> Rows:
    """Texts by synthetic voices."""
    manifest = synthesise(texts, voices, PLACE / split, seed=7, split=split, workers=1)
    return [(heard(u.audio), u.text or "") for u in read_manifest(manifest)]


def real(name: str, split: str, count: int) -> Rows:
    """Recordings drawn from a set of ../shared/data."""
    found = [u for u in read_manifest(DATA / name / "manifest.jsonl") if u.split == split]
    order = np.random.default_rng(0).permutation(len(found))[:count]
    return [(heard(found[i].audio), (found[i].text or "").lower()) for i in order]


def heard(path: str | Path) -> np.ndarray:
    """Features (T, bins) of a recording."""
    config = FeatureConfig()
    return features(read_audio(path, config.sample_rate), config)


def keep(file: Path, **sets: Rows) -> None:
    """Write the sets as flat arrays."""
    arrays: dict[str, Any] = {}
    for name, rows in sets.items():
        arrays[f"{name}.frames"] = np.concatenate([r for r, _ in rows]).astype(np.float16)
        arrays[f"{name}.lengths"] = np.array([len(r) for r, _ in rows])
        arrays[f"{name}.texts"] = np.array([text for _, text in rows])
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        np.savez(out, **arrays)


def unpacked(kept: Any, name: str) -> Rows:
    """The rows of one set."""
    ends = np.cumsum(kept[f"{name}.lengths"])
    frames = np.split(kept[f"{name}.frames"].astype(np.float32), ends[:-1])
    return list(zip(frames, map(str, kept[f"{name}.texts"]), strict=True))


@torch.no_grad()
def word_errors(speech: SpeechModel, rows: Rows) -> tuple[int, int]:
    """(errors, words) of greedy search."""
    net, step = speech.transducer.eval(), speech.transducer.config.frames_per_step
    decoder = Decoder(net, speech.pieces, DecodeConfig(method="greedy", lattice=False))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    said, found = [], []
    for start in range(0, len(order), 16):
        part = [rows[i] for i in order[start : start + 16]]
        batch = collate([(filled(r, step), [0]) for r, _ in part], step)
        hidden, _, lengths = net.hidden(batch.features, None, batch.feature_lengths)
        assert lengths is not None
        searches = [decoder.start() for _ in part]
        decoder.advance(searches, net.acoustic(hidden), lengths)
        found += [decoder.finish(search).best.text for search in searches]
        said += [text for _, text in part]
    errors = count_errors(said, found)
    return sum(e.edits for e in errors), sum(len(text.split()) for text in said)


def tuned(
    name: str,
    task: WordsTask,
    steps: int,
    lr: float,
    only: str = "",
) -> SpeechModel:
    """The task's model after a free fine-tune by Adam; kept under `name`.

    Args:
        lr: at the start; it falls to a tenth in a straight line.
        only: trains parameters whose names begin so.
    """
    file = PLACE / f"{name}.pt"
    model = task.model
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
        return task.speech
    chosen = [p for n, p in model.named_parameters() if n.startswith(only)]
    model.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(chosen, lr=lr, betas=(0.9, 0.98))
    batches = task.batches(None)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - 0.9 * step / steps)
        loss, _ = task.loss(next(batches)[0])
        loss.backward()
        nn.utils.clip_grad_norm_(chosen, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(f"{name}: step {step + 1} of {steps}, {float(loss.detach()):.3f}", flush=True)
    model.eval()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
    return task.speech


TUNES = ("new words", "more steps", "one layer", "one voice")


def made(name: str) -> WordsTask:
    """The task of a fine-tune, its model trained."""
    data = corpus()
    new, old, steps, lr, only = {
        "new words": (data.new, data.old, 48, 4e-4, ""),
        "more steps": ([], data.old, 24, 1e-4, ""),
        "one layer": (data.new, data.old, 24, 4e-4, "transducer.encoder.back.5."),
        "one voice": (data.one_speaker, [], 24, 1e-4, ""),
    }[name]
    task = WordsTask(shipped(), new, old)
    tuned(name.replace(" ", "-"), task, steps, lr, only)
    return task


def shipped() -> SpeechModel:
    """The model that all fine-tunes begin with."""
    return load_speech_model(SHIPPED)
