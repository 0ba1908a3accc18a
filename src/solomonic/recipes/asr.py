"""Speech recognition runs: whole configurations, and how one becomes a task for training."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from solomonic.core import CheckpointError, Config, ConfigError, require
from solomonic.recipes.asr_data import AsrData, Banks, Progress, build_banks, read_sets, statistics
from solomonic.recipes.settings import sort_settings
from solomonic.speech.branching.task import BranchingTaskConfig
from solomonic.speech.config import TransducerConfig
from solomonic.speech.data.online import OnlineConfig
from solomonic.speech.task import SpeechTaskConfig
from solomonic.train.config import TrainConfig

if TYPE_CHECKING:
    from solomonic.speech.model import Transducer
    from solomonic.speech.task import TrainingModel, TransducerTask
    from solomonic.text.pieces import WordPieces

WARMUP = 300
"""Steps of warm-up of a run that the clock ends."""
_FILE = "run.json"
_PARTS = {
    "model": TransducerConfig,
    "train": TrainConfig,
    "task": SpeechTaskConfig,
    "online": OnlineConfig,
    "branching": BranchingTaskConfig,
}
_TRAIN = TrainConfig(
    steps=12_000,
    lr=7e-4,  # at 1.5e-3 and above the encoder never learns to align (docs/log.md)
    weight_decay=0.05,
    betas=(0.9, 0.98),
    grad_clip=5.0,
    eval_every=500,
    save_every=500,
    log_every=25,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsrRun(Config):
    """All of a run but the recordings.

    Raises:
        ConfigError: a value out of range.
    """

    PARTS: ClassVar[Mapping[str, type[Config]]] = _PARTS

    model: TransducerConfig = dataclasses.field(default_factory=TransducerConfig)
    train: TrainConfig = _TRAIN
    task: SpeechTaskConfig = dataclasses.field(default_factory=SpeechTaskConfig)
    online: OnlineConfig = dataclasses.field(default_factory=OnlineConfig)
    branching: BranchingTaskConfig = dataclasses.field(default_factory=BranchingTaskConfig)
    """Prices of computation and delay; read where the model has a `small_pattern`."""
    copies: int = 2
    """Perturbed copies of the training recordings: speed, rooms, noise, level."""
    held_out: float = 0.05
    """Share of the utterances that is held out where manifests have no split."""

    def __post_init__(self) -> None:
        require(self.copies >= 0, f"copies = {self.copies} must not be negative.")
        require(0 <= self.held_out < 1, f"held_out = {self.held_out} must lie in [0, 1).")
        task = self.task.replace(seed=self.train.seed)  # one seed for all of a run
        object.__setattr__(self, "task", task)

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This run with single settings of any of its parts changed by name.

        Raises:
            ConfigError: a setting is unknown or does not fit.
        """
        if "batch_size" in settings:
            raise ConfigError(
                "a batch of speech is measured in frames, not rows; set frames_per_batch."
            )
        model, train, task, online, branching, own = sort_settings(
            settings, self.model, self.train, self.task, self.online, self.branching, self
        )
        return self.replace(
            model=self.model.replace(**model),
            train=self.train.replace(**train),
            task=self.task.replace(**task),
            online=self.online.replace(**online),
            branching=self.branching.replace(**branching),
            **own,
        )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that is ready to be trained.

    Attributes:
        task: for `solomonic.train.train`.
        run: with the vocabulary's true size.
        hours: of audio trained on, without the copies.
        utterances: of the training sets, without the copies, and held out.
        left_out: utterances not used, by the reason.
    """

    task: "TransducerTask"
    run: AsrRun
    hours: float
    utterances: tuple[int, int]
    left_out: dict[str, int]


def small() -> AsrRun:
    """5.7 million parameters, state-space layers and windows in turn: real time on any CPU."""
    return AsrRun()


def lstm() -> AsrRun:
    """The article's LSTM encoder at the same number of parameters."""
    return AsrRun(
        model=TransducerConfig(front="L", pattern="LLLL", hidden_size=336, intermediate_size=0)
    )


def bmojo() -> AsrRun:
    """A B'MOJO encoder at the same number of parameters."""
    return AsrRun(model=TransducerConfig(front="BB", pattern="BBBB", intermediate_size=384))


def build_task(
    run: AsrRun,
    data: AsrData,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    init: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Word pieces, features in `out/data`, a fresh model or that of `init`.

    Equal runs on equal recordings give equal models. The torch generators are left alone.

    Args:
        resume: use the word pieces that the run began with.
        init: a trained model to go on from; its word pieces and statistics are kept.

    Raises:
        DataError: the recordings cannot be used.
        CheckpointError: `init` or the word pieces are damaged or missing.
        StorageError: the disk is full.
    """
    import torch

    from solomonic.speech.features import FeatureConfig

    sets, left_out = read_sets(data, run.held_out)
    pieces = _pieces(run, [u.text or "" for item in sets for u in item.train], out, resume, init)
    run = run.replace(model=run.model.replace(vocab_size=pieces.size))
    features = FeatureConfig(bins=run.model.bins, shift_ms=run.model.shift_ms)
    banks = build_banks(sets, data, out / "data", features, run.copies, progress)
    model = _model(run, init)
    if init is None:
        encoder = model.transducer.encoder
        for buffer, values in zip(
            (encoder.mean, encoder.deviation), statistics(banks.plain), strict=True
        ):
            buffer.copy_(torch.from_numpy(values))
    task = _task(run, model.to(device), pieces, banks)
    counted = " (copies counted)" if run.copies else ""
    left_out |= {f"{reason}{counted}": count for reason, count in task.left_out.items()}
    frames = sum(int(bank.lengths.sum()) for bank in banks.plain)
    return Prepared(
        task,
        run,
        frames * run.model.shift_ms / 3_600_000,
        (sum(map(len, banks.plain)), sum(map(len, banks.held_out))),
        left_out,
    )


def model_of(directory: Path) -> TransducerConfig:
    """The configuration of a trained model, for a run that goes on from it.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from solomonic.speech.pretrained import load_speech_model

    return load_speech_model(directory).transducer.config


def save_run(run: AsrRun, out: Path) -> None:
    """Write the run's record into its directory, for resuming and for readers.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    from solomonic.train import write_files

    text = json.dumps(run.to_json(), indent=2) + "\n"
    write_files(out, lambda folder: _write(folder / _FILE, text))


def load_run(out: Path) -> AsrRun | None:
    """The run recorded in a directory, None if there is none.

    Raises:
        CheckpointError: the record is cut short or no speech run's.
    """
    file = out / _FILE
    if not file.is_file():
        return None
    try:
        return AsrRun.from_json(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{file} is no record of a speech training run ({error}); remove it and give all "
            "settings."
        ) from error


def _pieces(
    run: AsrRun, texts: list[str], out: Path, resume: bool, init: Path | None
) -> "WordPieces":
    """The run's vocabulary: stored by it, of the model it goes on from, or now trained."""
    from solomonic.speech.pretrained import load_speech_model
    from solomonic.text.pieces import WordPieces
    from solomonic.text.spoken import normalise

    file = out / "data" / "pieces.model"
    if resume:
        return WordPieces.load(file)
    if init is None:
        pieces = WordPieces.train(map(normalise, texts), run.model.vocab_size)
    else:
        pieces = load_speech_model(init).pieces
    pieces.save(file)
    return pieces


def _model(run: AsrRun, init: Path | None) -> "TrainingModel":
    """A transducer with the seed's weights, or those of a trained one, and fresh heads."""
    import torch

    from solomonic.speech.model import Transducer
    from solomonic.speech.task import TrainingModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        net = Transducer(run.model)
        if init is not None:
            _copy_trained(net, init)
        return TrainingModel(net)


def _task(
    run: AsrRun, model: "TrainingModel", pieces: "WordPieces", banks: Banks
) -> "TransducerTask":
    """The task of the model's kind."""
    from solomonic.speech.branching.task import BranchingTransducerTask
    from solomonic.speech.task import TransducerTask

    given = (model, pieces, banks.train, banks.held_out, banks.noises, run.task, run.online)
    if run.model.small_pattern:
        return BranchingTransducerTask(*given, branching=run.branching)
    return TransducerTask(*given)


def _copy_trained(net: "Transducer", directory: Path) -> None:
    from solomonic.speech.branching.start import start_from
    from solomonic.speech.pretrained import load_speech_model

    start = load_speech_model(directory).transducer
    if net.config.small_pattern and not start.config.small_pattern:
        return start_from(net, start)
    before, now = start.config.to_json(), net.config.to_json()
    for name, value in before.items():
        if name != "dropout" and now.get(name) != value:
            raise ConfigError(
                f"{name} = {now.get(name)} differs from {value} of the model in {directory}; leave "
                "it out or train from scratch."
            )
    net.load_state_dict(start.plain_state())


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
