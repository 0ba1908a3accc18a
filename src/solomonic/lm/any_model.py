"""Reading a language model whatever form it is in: a folder, a device file, the shipped one."""

from pathlib import Path
from typing import TYPE_CHECKING

from solomonic.core import CheckpointError
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

SHIPPED = "shipped"
"""Stands for the model that comes with the package."""
_DEVICE_FILE = ".solo"


def load_any(
    place: str | Path | None = None, device: str = "cpu"
) -> tuple["LanguageModel", Tokenizer, str]:
    """The model in torch, its tokenizer and a name for it.

    Args:
        place: a folder of `train lm` or `save_pretrained`, a device file, or None or "shipped" for
            the model that comes with the package.

    Raises:
        CheckpointError: nothing there, or damaged, foreign, newer.
    """
    from solomonic.lm.device_file import read_device_model
    from solomonic.lm.pretrained import load_pretrained
    from solomonic.lm.shipped import ASSISTANT

    wanted = ASSISTANT if place is None or str(place) == SHIPPED else Path(place)
    if not wanted.exists():
        raise CheckpointError(
            f"there is no language model at {wanted}; give the folder of one (`solomonic train lm "
            f"--out`), a device file, or '{SHIPPED}' for the one that comes with the package."
        )
    read = read_device_model if wanted.suffix == _DEVICE_FILE else load_pretrained
    model, tokenizer = read(wanted, device)
    return model, tokenizer, wanted.stem if wanted.suffix == _DEVICE_FILE else wanted.name
