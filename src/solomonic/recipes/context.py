"""Attention to personal words for a trained recogniser: a run, and how it becomes a task."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from solomonic.core import Config, require
from solomonic.recipes.asr_data import AsrData, Progress, build_banks, read_sets
from solomonic.recipes.settings import sort_settings
from solomonic.speech.context_task import ContextTaskConfig
from solomonic.train.config import TrainConfig

if TYPE_CHECKING:
    from solomonic.speech.biasing.attention import ContextBiasing
    from solomonic.speech.biasing.pointer import PointerBiasing
    from solomonic.speech.context_task import ContextTask
    from solomonic.speech.model import Transducer
    from solomonic.speech.pretrained import SpeechModel

ATTENTIONS = ("joint", "frames", "both")
PARTS = {"task": ContextTaskConfig, "train": TrainConfig}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextRun(Config):
    """All of a run but recogniser and recordings.

    Raises:
        ConfigError: a value out of range.
    """

    task: ContextTaskConfig = dataclasses.field(default_factory=ContextTaskConfig)
    train: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(
            steps=1500, lr=1e-3, weight_decay=0.01, grad_clip=5.0, eval_every=0
        )
    )
    attention: str = "joint"
    """Who attends: the "joint" network (`speech.biasing.pointer`), the "frames"
    (`speech.biasing.attention`), or "both"."""
    combiner: str = "add"
    """How a frame takes what it found, see `speech.biasing.attention`."""
    grain: str = "piece"
    """What a frame looks for: whole phrases, or their pieces."""
    copies: int = 1
    """Perturbed copies of the recordings to train on as well."""

    def __post_init__(self) -> None:
        require(
            self.attention in ATTENTIONS,
            f"attention '{self.attention}' is unknown; choose from {', '.join(ATTENTIONS)}.",
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        return super().from_json(
            {key: PARTS[key].from_json(v) if key in PARTS else v for key, v in record.items()}
        )

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This run with single settings changed by name.

        Raises:
            ConfigError: a setting is unknown or does not fit.
        """
        task, train, own = sort_settings(settings, self.task, self.train, self)
        return self.replace(
            task=self.task.replace(**task), train=self.train.replace(**train), **own
        )


def build_context_task(
    run: ContextRun,
    model: Path,
    data: AsrData,
    out: Path,
    phrases: Sequence[str] = (),
    progress: Progress | None = None,
) -> "tuple[ContextTask, SpeechModel]":
    """The recogniser of `model` with a fresh attention (its own is replaced), features in
    `out/data`. The torch generators are left alone.

    Args:
        phrases: what else lists are filled with, such as names.

    Raises:
        CheckpointError: `model` is no recogniser.
        DataError: the recordings or phrases cannot be used.
    """
    import torch

    from solomonic.speech.context_task import ContextTask
    from solomonic.speech.features import FeatureConfig
    from solomonic.speech.pretrained import load_speech_model
    from solomonic.text.spoken import normalise

    speech = load_speech_model(model)
    net = speech.transducer
    settings = net.config
    sets, left_out = read_sets(data, 0.0)
    features = FeatureConfig(bins=settings.bins, shift_ms=settings.shift_ms)
    banks = build_banks(sets, data, out / "data", features, run.copies, progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        net.context = of_frames(run, net) if run.attention != "joint" else None
        net.pointer = of_joint(net) if run.attention != "frames" else None
    pool = [tuple(speech.pieces.encode(normalise(phrase))) for phrase in phrases]
    task = ContextTask(speech, banks.train, pool=pool, config=run.task)
    task.left_out = left_out | task.left_out
    return task, speech


def of_frames(run: ContextRun, net: "Transducer") -> "ContextBiasing":
    """An untrained attention of the frames of `net`."""
    from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig

    config = ContextConfig(
        vocab_size=net.config.vocab_size,
        hidden_size=net.config.hidden_size,
        heads=2 if run.grain == "piece" else 4,  # `start_from` puts the joint network in one
        combiner=run.combiner,
        grain=run.grain,
    )
    attention = ContextBiasing(config)
    if run.grain == "piece":
        attention.start_from(net.joint.weight, net.to_joint.weight)
    return attention


def of_joint(net: "Transducer") -> "PointerBiasing":
    """An untrained attention of the joint network of `net`."""
    from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig

    sizes = {"vocab_size": net.config.vocab_size, "joint_size": net.config.joint_size}
    pointer = PointerBiasing(PointerConfig.from_json(sizes))
    pointer.start_from(net.joint.weight)
    return pointer
