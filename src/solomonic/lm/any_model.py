"""Reading a language model whatever form it is in: a folder, a device file, the shipped one."""

from pathlib import Path
from typing import TYPE_CHECKING

from solomonic.core import CheckpointError
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

SHIPPED = "shipped"
"""Stands for the model that comes with the package."""


def find_model(place: str | Path | None = None) -> Path:
    """The folder or device file that `place` names; None or "shipped" is the package's own.

    Raises:
        CheckpointError: nothing is there.
    """
    from solomonic.lm.shipped import ASSISTANT

    found = ASSISTANT if place is None or str(place) == SHIPPED else Path(place)
    if not found.exists():
        raise CheckpointError(
            f"there is no language model at {found}; give the folder of one (`solomonic train lm "
            f"--out`), a device file, or '{SHIPPED}' for the one that comes with the package."
        )
    return found


def load_any(
    place: str | Path | None = None, device: str = "cpu"
) -> tuple["LanguageModel", Tokenizer, str]:
    """The model in torch, its tokenizer and a name for it.

    A device file's weights are multiplied out to float32: same model, more memory.

    Args:
        place: as `find_model` takes it.

    Raises:
        CheckpointError: nothing there, or damaged, foreign, newer.
    """
    from solomonic.lm.device_file import read_device_model
    from solomonic.lm.pretrained import load_pretrained

    found = find_model(place)
    read = read_device_model if found.is_file() else load_pretrained
    model, tokenizer = read(found, device)
    return model, tokenizer, found.stem if found.is_file() else found.name
