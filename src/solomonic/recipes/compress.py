"""A trained model made small: without data in seconds, with data by training it on.

The model that is trained on is also its teacher, so that what is lost is known at every frame.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from solomonic.compress.config import CompressConfig
from solomonic.core import CheckpointError, Config, ConfigError, require
from solomonic.recipes.settings import sort_settings
from solomonic.speech.data.online import OnlineConfig
from solomonic.speech.distill import DistillConfig
from solomonic.speech.task import SpeechTaskConfig
from solomonic.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from solomonic.compress.matrix import QuantisedMatrix
    from solomonic.compress.task import CompressedTask
    from solomonic.recipes.asr_data import Banks
    from solomonic.speech.pretrained import SpeechModel
    from solomonic.speech.task import TrainingModel

_Run = TypeVar("_Run", bound=Config)
STARTS = ("calibrated", "dense")
_FILE = "run.json"
_PARTS = {
    "compress": CompressConfig,
    "train": TrainConfig,
    "task": SpeechTaskConfig,
    "online": OnlineConfig,
    "distill": DistillConfig,
}
_TRAIN = TrainConfig(
    steps=2000,
    lr=4e-4,
    min_lr_ratio=0.02,
    weight_decay=0.0,  # a pull to zero fights the pull to the levels
    betas=(0.9, 0.98),
    grad_clip=5.0,
    eval_every=250,
    save_every=250,
    log_every=25,
)
# The heads only choose where the joint network is computed; they must not teach the encoder anew.
_TASK = SpeechTaskConfig(warm_steps=0, ramp_steps=0, ctc_scale=0.02, simple_scale=0.05)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressRun(Config):
    """All of a compression by training but the model and the recordings.

    Raises:
        ConfigError: a value out of range.
    """

    PARTS: ClassVar[Mapping[str, type[Config]]] = _PARTS

    compress: CompressConfig = dataclasses.field(
        default_factory=lambda: CompressConfig(method="straight-through")
    )
    train: TrainConfig = _TRAIN
    task: SpeechTaskConfig = _TASK
    online: OnlineConfig = dataclasses.field(default_factory=OnlineConfig)
    distill: DistillConfig = dataclasses.field(
        default_factory=lambda: DistillConfig(hidden_scale=1.0)
    )
    start: str = "calibrated"
    """"calibrated": the model is compressed at once, with what recordings say, and trained from
    there; "dense": zeros and levels come in gradually, by the spans of `compress`."""
    calibration_batches: int = 24
    copies: int = 1
    """Perturbed copies of the training recordings."""
    held_out: float = 0.05

    def __post_init__(self) -> None:
        require(
            self.start in STARTS, f"start = '{self.start}' is unknown; use {' or '.join(STARTS)}."
        )
        require(self.calibration_batches >= 1, "calibration_batches must be at least 1.")
        # One clock: masks and levels settle over the steps and seconds that training has.
        steps = self.train.steps * self.train.accumulate
        compress = self.compress.replace(steps=steps, max_seconds=self.train.max_seconds)
        object.__setattr__(self, "compress", compress)
        object.__setattr__(self, "task", self.task.replace(seed=self.train.seed))

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This run with single settings of any of its parts changed by name.

        Raises:
            ConfigError: a setting is unknown or does not fit.
        """
        parts = {name: getattr(self, name) for name in ("train", *_PARTS)}  # steps are training's
        *found, own = sort_settings(settings, *parts.values(), self)
        changes = {
            name: part.replace(**change)
            for (name, part), change in zip(parts.items(), found, strict=True)
        }
        return self.replace(**changes, **own)


def build_task(
    run: CompressRun,
    model: "SpeechModel",
    banks: "Banks",
    device: str = "cpu",
    student: "TrainingModel | None" = None,
) -> "CompressedTask":
    """The task that trains `model` small, with the model as it is now for its teacher.

    The torch generators are left alone.

    Args:
        student: what is trained; none: a copy of the model.

    Raises:
        ConfigError: a student that does not hear the same frames or say the same symbols.
        DataError: nothing to train on, or features that are not the model's.
    """
    from solomonic.compress.task import CompressedTask
    from solomonic.speech.distill import DistilledTransducerTask

    student = training_model(model) if student is None else student
    # Any: `Task.model` is assignable by its protocol, so to the checker no subclass will do.
    task: Any = DistilledTransducerTask(
        student.to(device),
        model.pieces,
        banks.train,
        banks.held_out,
        banks.noises,
        run.task,
        run.online,
        teacher=model.transducer,
        distill=run.distill,
    )
    compressed = CompressedTask(task, run.compress)
    if run.start == "calibrated":
        _begin_calibrated(run, compressed, student, model, banks)
    return compressed


def _begin_calibrated(
    run: CompressRun,
    task: "CompressedTask",
    student: "TrainingModel",
    model: "SpeechModel",
    banks: "Banks",
) -> None:
    from torch import nn

    from solomonic.compress.calibrate import choose_masks, compress_weights
    from solomonic.speech.pretrained import SpeechModel

    now = SpeechModel(student.averaged().cpu(), model.pieces)
    moments = calibration(now, banks, run.calibration_batches)
    whole = nn.ModuleDict({"transducer": now.transducer})
    masks = choose_masks(whole, run.compress, moments)
    task.compressor.begin_from(compress_weights(whole, run.compress, moments, masks), masks)


def training_model(model: "SpeechModel") -> "TrainingModel":
    """A copy of the recogniser that can be trained. The heads begin as the joint network without
    its tanh, so that they know from the first step where the labels are."""
    import torch

    from solomonic.speech.model import Transducer
    from solomonic.speech.task import TrainingModel

    with torch.random.fork_rng(devices=[]):
        net = Transducer(model.transducer.config)
        net.load_state_dict(model.transducer.plain_state())
        training = TrainingModel(net)
    with torch.no_grad():
        output = net.joint.weight
        training.simple_acoustic.weight.copy_(output @ net.to_joint.weight)
        training.ctc.weight.copy_(training.simple_acoustic.weight)
        training.simple_label.weight.copy_(output @ net.predictor.output.weight)
    return training


def finished(
    model: "SpeechModel", folder: Path
) -> tuple["SpeechModel", "dict[str, QuantisedMatrix]"]:
    """The recogniser that training left in `folder`, with the end head and the attention to
    personal words of `model`, and its matrices by the names of a device file.

    Raises:
        CheckpointError: the files are missing or damaged.
    """
    from solomonic.compress.files import read_matrices
    from solomonic.compress.task import MATRICES
    from solomonic.speech.model import ATTENTION
    from solomonic.speech.pretrained import load_speech_model

    trained = load_speech_model(folder)
    for part in ATTENTION:
        setattr(trained.transducer, part, getattr(model.transducer, part))
    small = dataclasses.replace(model, transducer=trained.transducer, weights="float32")
    return small, read_matrices(folder / MATRICES)


def at_once(
    model: "SpeechModel",
    config: CompressConfig,
    moments: "Mapping[str, Tensor] | None" = None,
    masks: "Mapping[str, Tensor] | None" = None,
) -> "dict[str, QuantisedMatrix]":
    """The recogniser's matrices compressed without training, by the names of a device file.

    Args:
        moments: what the matrices read, from `calibration`.
        masks: what is kept, by name; none: the least important weights go.
    """
    from torch import nn

    from solomonic.compress.calibrate import compress_weights
    from solomonic.speech.model import ATTENTION

    leave = (*config.leave, *(f"transducer.{part}.*" for part in ATTENTION))
    whole = nn.ModuleDict({"transducer": model.transducer})
    return compress_weights(whole, config.replace(leave=leave), moments, masks)


def calibration(model: "SpeechModel", banks: "Banks", batches: int = 20) -> "dict[str, Tensor]":
    """Second moments of what the matrices read on some batches of the recordings, by the names of
    a device file; the joint network's over the cells where paths pass."""
    import torch
    from torch import nn

    from solomonic.compress.calibrate import watch
    from solomonic.speech.task import TransducerTask

    online = OnlineConfig(noise=0.0, time_masks=0, bin_masks=0)
    task = TransducerTask(
        training_model(model), model.pieces, banks.train, config=_TASK, online=online
    )
    net = task.model.transducer.eval()
    whole, joint = nn.ModuleDict({"transducer": net}), "transducer.joint.weight"
    with torch.no_grad(), watch(whole) as moments:
        for (batch, _), _ in zip(task.batches(None), range(batches), strict=False):
            hidden, _, lengths = net.hidden(batch.data.features, None, batch.data.feature_lengths)
            assert lengths is not None
            label, sizes = net.predictor(batch.data.tokens), batch.data.token_lengths
            acoustic = net.acoustic(hidden)
            for row, (count, size) in enumerate(zip(lengths, sizes, strict=True)):
                # A straight line through the lattice is near enough to where labels come.
                where = torch.arange(int(count)) * int(size + 1) // max(int(count), 1)
                units = torch.tanh(acoustic[row, : int(count)] + label[row, where]).double()
                moments[joint] = moments.get(joint, 0) + units.T @ units
    return moments


def save_run(run: Config, out: Path, model: Path) -> None:
    """Write the run's record and the model it begins with, for resuming and for readers.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    from solomonic.train import write_files

    text = json.dumps({"model": str(model.resolve()), "run": run.to_json()}, indent=2) + "\n"
    write_files(out, lambda folder: _write(folder / _FILE, text))


def load_run(out: Path, kind: type[_Run] = CompressRun) -> tuple[_Run, Path] | None:
    """The recorded run and the model it began with, None if there is none.

    Args:
        kind: of run; a language model's is `LanguageCompressRun`.

    Raises:
        CheckpointError: the record is cut short or another kind of run's.
    """
    file = out / _FILE
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text("utf-8"))
        return kind.from_json(record["run"]), Path(record["model"])
    except (ValueError, TypeError, AttributeError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{file} is no record of a compression ({error}); remove it and give all settings."
        ) from error


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
