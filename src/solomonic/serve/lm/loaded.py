"""A language model as the server holds it: what reads tokens, its tokenizer, and who it is."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.core import CheckpointError
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.lm.native import NativeModel

ENDING = ".solo"
"""Of the names of device files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A language model ready to serve.

    Attributes:
        name: what clients call it.
        reader: the native core's model, or PyTorch's where there is no core.
        tokenizer: of the model.
        fingerprint: identifies configuration and weights; states belong to one of them.
        engine: which kernels, threads and weights run, in words.
        created: unix time of the file.
    """

    name: str
    reader: "NativeModel | LanguageModel"
    tokenizer: Tokenizer
    fingerprint: str
    engine: str
    created: int = 0

    @property
    def vocab_size(self) -> int:
        """Tokens of the model."""
        return self.reader.config.vocab_size

    def describe(self) -> dict[str, Any]:
        """Name, engine and identity."""
        return {"name": self.name, "engine": self.engine, "fingerprint": self.fingerprint}


def load_lm(
    path: str | Path | None = None, *, weights: str = "int8", threads: int = 1
) -> LoadedModel:
    """Read a model folder or a device file; None is the model that comes with the package.

    Args:
        weights: type of the native core's matrices (`lm.native.WEIGHTS`).
        threads: of one call.

    Raises:
        CheckpointError: nothing there, or damaged, foreign, newer.
        ConfigError: `weights` is unknown.
    """
    from solomonic.kernels import native
    from solomonic.lm.device_file import read_device_model
    from solomonic.lm.native import NativeModel, refuses
    from solomonic.lm.pretrained import load_pretrained
    from solomonic.lm.shipped import ASSISTANT

    place = ASSISTANT if path is None else Path(path)
    if not place.exists():
        raise CheckpointError(
            f"there is no language model at {place}; give the folder of one (`solomonic train lm "
            "--out`) or a device file (`solomonic compress`)."
        )
    read = read_device_model if place.suffix == ENDING else load_pretrained
    model, tokenizer = read(place)
    why = native.why_not() or refuses(model.config)
    reader = model if why else NativeModel(model, weights, threads)
    return LoadedModel(
        name=place.stem if place.suffix == ENDING else place.name,
        reader=reader,
        tokenizer=tokenizer,
        fingerprint=model.fingerprint(),
        engine=reader.describe() if isinstance(reader, NativeModel) else f"torch on cpu ({why})",
        created=int(place.stat().st_mtime),
    )
