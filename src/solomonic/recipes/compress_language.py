"""A trained language model made small, with text: looked at once, or trained on.

The model that is trained on is also its teacher: what is lost is known at every token.
"""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from solomonic.compress.config import CompressConfig
from solomonic.core import Config, require
from solomonic.recipes.settings import sort_settings
from solomonic.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from solomonic.compress.matrix import QuantisedMatrix
    from solomonic.compress.task import CompressedTask
    from solomonic.lm.data import TokenData
    from solomonic.lm.model import LanguageModel
    from solomonic.text import Tokenizer

STARTS = ("calibrated", "dense")
PREFIX = "lm."
"""Before the names of a language model's tensors in a device file."""
_PARTS = {"compress": CompressConfig, "train": TrainConfig}
_TRAIN = TrainConfig(
    steps=2000,
    batch_size=16,
    lr=5e-4,
    min_lr_ratio=0.02,
    weight_decay=0.0,  # a pull to zero fights the pull to the levels
    eval_every=250,
    save_every=250,
    log_every=25,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageCompressRun(Config):
    """All of a compression but the model and the text.

    Raises:
        ConfigError: a value out of range.
    """

    PARTS: ClassVar[Mapping[str, type[Config]]] = _PARTS

    compress: CompressConfig = dataclasses.field(
        default_factory=lambda: CompressConfig(method="straight-through")
    )
    train: TrainConfig = _TRAIN
    start: str = "calibrated"
    """As `CompressRun.start`."""
    calibration_batches: int = 24
    length: int = 256
    """Tokens predicted per row of a batch."""
    eval_tokens: int | None = 131_072
    share: float = 0.7
    """Of the loss that is the teacher's."""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.start in STARTS, f"start = '{self.start}' is unknown; use {' or '.join(STARTS)}."
        )
        require(self.calibration_batches >= 1, "calibration_batches must be at least 1.")
        require(self.length >= 1, f"length = {self.length} must be at least 1.")
        require(0 <= self.share <= 1, f"share = {self.share} must lie between 0 and 1.")
        require(self.temperature > 0, f"temperature = {self.temperature} must be above 0.")
        # One clock: masks and levels settle over the steps and seconds that training has.
        steps = self.train.steps * self.train.accumulate
        compress = self.compress.replace(steps=steps, max_seconds=self.train.max_seconds)
        object.__setattr__(self, "compress", compress)

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This run with single settings of any of its parts changed by name.

        Raises:
            ConfigError: a setting is unknown or does not fit.
        """
        train, compress, own = sort_settings(settings, self.train, self.compress, self)
        return self.replace(
            train=self.train.replace(**train), compress=self.compress.replace(**compress), **own
        )


def language_task(
    run: LanguageCompressRun,
    model: "LanguageModel",
    tokenizer: "Tokenizer",
    tokens: "TokenData",
    device: str = "cpu",
) -> "CompressedTask":
    """The task that trains a copy of `model` small, with the model as it is for its teacher.

    Raises:
        DataError: the text is shorter than one window.
    """
    from solomonic.compress.calibrate import choose_masks, compress_weights
    from solomonic.compress.task import CompressedTask
    from solomonic.lm.distill import DistilledLanguageTask
    from solomonic.lm.task import TaskConfig

    config = TaskConfig(
        batch_size=run.train.batch_size,
        length=run.length,
        seed=run.train.seed,
        eval_tokens=run.eval_tokens,
    )
    student = copy.deepcopy(model).to(device).requires_grad_(True)
    # Any: `Task.model` is assignable by its protocol, so to the checker no subclass will do.
    inner: Any = DistilledLanguageTask(
        student, tokenizer, tokens, config,
        teacher=copy.deepcopy(model), share=run.share, temperature=run.temperature,
    )  # fmt: skip
    task = CompressedTask(inner, run.compress)
    if run.start == "calibrated":
        moments = language_calibration(run, model, tokenizer, tokens)
        masks = choose_masks(model, run.compress, moments)
        begin = compress_weights(model, run.compress, moments, masks)
        task.compressor.begin_from(begin, masks)
    return task


def language_calibration(
    run: LanguageCompressRun, model: "LanguageModel", tokenizer: "Tokenizer", tokens: "TokenData"
) -> "dict[str, Tensor]":
    """Second moments of what the model's matrices read on some windows of the text, by their names
    in the model.

    Raises:
        DataError: the text is shorter than one window.
    """
    import torch

    from solomonic.compress.calibrate import watch
    from solomonic.lm.task import LanguageModelTask, TaskConfig

    config = TaskConfig(batch_size=4, length=run.length, seed=run.train.seed)
    task = LanguageModelTask(model, tokenizer, tokens, config)
    device = next(model.parameters()).device
    with torch.no_grad(), watch(model) as moments:
        for (batch, _), _ in zip(task.batches(None), range(run.calibration_batches), strict=False):
            model(batch[:, :-1].to(device))
    return moments


def language_at_once(
    model: "LanguageModel", config: CompressConfig, moments: "Mapping[str, Tensor] | None" = None
) -> "dict[str, QuantisedMatrix]":
    """A language model's matrices compressed without training, by the names of a device file.

    Args:
        moments: what the matrices read, from `language_calibration`; none: they are rounded.
    """
    from solomonic.compress.calibrate import compress_weights

    return named(compress_weights(model, config, moments))


def finished_language(folder: Path) -> "tuple[LanguageModel, dict[str, QuantisedMatrix]]":
    """The model that training left in `folder`, and its matrices by the names of a device file.

    Raises:
        CheckpointError: the files are missing or damaged.
    """
    from solomonic.compress.files import read_matrices
    from solomonic.compress.task import MATRICES
    from solomonic.lm.pretrained import load_pretrained

    model, _ = load_pretrained(folder)
    return model, named(read_matrices(folder / MATRICES))


def named(matrices: "Mapping[str, QuantisedMatrix]") -> "dict[str, QuantisedMatrix]":
    """The matrices of a language model by the names of a device file."""
    return {PREFIX + name: matrix for name, matrix in matrices.items()}
