"""Language-model runs: whole configurations, and how one becomes a task for the training loop."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from solomonic.core import CheckpointError, Config, ConfigError, require
from solomonic.layers.config import ModelConfig
from solomonic.recipes.parameters import match_parameters
from solomonic.recipes.settings import sort_settings
from solomonic.train.config import TrainConfig

if TYPE_CHECKING:
    from solomonic.lm.data import DataConfig
    from solomonic.lm.task import LanguageModelTask
    from solomonic.text import Tokenizer

BYTES = 257
"""`vocab_size` of the byte tokenizer; any other size trains a BPE on the text."""
_FILE = "run.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LmRun(Config):
    """All of a run but the text: the model, how it is trained, and the shape of what it reads.

    Raises:
        ConfigError: a value out of range.
    """

    PARTS: ClassVar[Mapping[str, type[Config]]] = {"model": ModelConfig, "train": TrainConfig}

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    length: int = 256
    """Tokens predicted per row of a batch."""
    eval_tokens: int | None = 131_072
    """Held-out tokens read per evaluation; None: all."""
    parameters: int | None = None
    """Wanted number of parameters, reached by the width of the MLPs; None: as the model says."""
    gradient_checkpointing: bool = False
    """Recompute blocks in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        require(self.length >= 1, f"length = {self.length} must be at least 1.")
        if self.parameters is not None:
            model = match_parameters(self.model, self.parameters)
            object.__setattr__(self, "model", model)

    def changed(self, settings: Mapping[str, Any], layers: int | None = None) -> Self:
        """This run with single settings of the model, the training or itself changed by name.

        A changed `pattern` is repeated to `layers`; without them to as many layers as there were,
        if they are a multiple of its letters, else once.

        Raises:
            ConfigError: a setting is unknown or does not fit.
        """
        settings = dict(settings)
        if isinstance(settings.get("pattern"), str) and "num_hidden_layers" not in settings:
            letters, depth = len(settings["pattern"]), len(self.model.layers)
            again = letters > 0 and depth % letters == 0
            settings["num_hidden_layers"] = layers or (depth if again else None)
        model, train, own = sort_settings(settings, self.model, self.train, self)
        return self.replace(
            model=self.model.replace(**model), train=self.train.replace(**train), **own
        )


def small() -> LmRun:
    """About 2.3 million parameters over bytes: minutes on a CPU."""
    # 0.02 is a habit of wide models; at this width it starts slowly (docs/log.md).
    model = ModelConfig(hidden_size=192, num_attention_heads=6, initializer_range=0.05)
    return LmRun(model=model, train=TrainConfig(steps=2000, batch_size=16))


def base() -> LmRun:
    """About 32 million parameters over bytes: an hour on one GPU."""
    model = ModelConfig(
        hidden_size=512,
        num_attention_heads=8,
        num_hidden_layers=8,
        window_size=256,
        eidetic_slots=256,
        ssm_state_size=64,
        ssm_head_dim=64,
        initializer_range=0.03,
    )
    return LmRun(
        model=model,
        train=TrainConfig(steps=20_000, batch_size=32, lr=1e-3),
        length=1024,
        eval_tokens=524_288,
    )


def build_task(
    run: LmRun, data: "DataConfig", out: Path, device: str = "cpu", progress: bool = True
) -> "LanguageModelTask":
    """The task `solomonic.train.train` drives: text tokenised into `out/data`, a fresh model.

    Equal runs give equal models. The torch generators are left alone.

    Raises:
        DataError: the text is missing, empty, binary or too short.
        StorageError: the disk is full.
    """
    import torch

    from solomonic.lm.data import prepare
    from solomonic.lm.model import LanguageModel
    from solomonic.lm.task import LanguageModelTask, TaskConfig

    tokenizer = _tokenizer(run, data, out)
    tokens = prepare(data, tokenizer, out / "data", progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        model = LanguageModel(run.model).to(device)
    model.gradient_checkpointing = run.gradient_checkpointing
    config = TaskConfig(
        batch_size=run.train.batch_size,
        length=run.length,
        seed=run.train.seed,
        eval_tokens=run.eval_tokens,
    )
    return LanguageModelTask(model, tokenizer, tokens, config)


def save_run(run: LmRun, out: Path) -> None:
    """Write the run's record into its directory, for resuming and for readers.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    from solomonic.train import write_files

    text = json.dumps(run.to_json(), indent=2) + "\n"
    write_files(out, lambda folder: _write(folder / _FILE, text))


def load_run(out: Path) -> LmRun | None:
    """The run recorded in a directory, None if there is none.

    Raises:
        CheckpointError: the record is cut short or no run's.
    """
    file = out / _FILE
    if not file.is_file():
        return None
    try:
        return LmRun.from_json(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is no record of a training run ({error}); remove it and give all settings."
        ) from error


def _tokenizer(run: LmRun, data: "DataConfig", out: Path) -> "Tokenizer":
    """Bytes, or the BPE that this directory has or that is now trained on the text."""
    from solomonic.lm.corpus import Corpus
    from solomonic.text import BpeTokenizer, ByteTokenizer, load_tokenizer
    from solomonic.train import write_directory

    if run.model.vocab_size == BYTES:
        return ByteTokenizer()
    folder = out / "tokenizer"
    if not folder.is_dir():
        texts = Corpus(data.path, data.text_key).texts()
        trained = BpeTokenizer.train(texts, run.model.vocab_size)
        write_directory(folder, trained.save)
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > run.model.vocab_size:
        raise ConfigError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, more than vocab_size = "
            f"{run.model.vocab_size}; remove it to train another."
        )
    return tokenizer


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
