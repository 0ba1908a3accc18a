"""Where models lie: the one of the package, and device files in folders.

Apart from what loads them, so that finding a model for the native core needs no PyTorch.
"""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parent / "models" / "english-small"
"""The model that comes with the package."""
CONFIG_FILE = "config.json"
"""In the folder of a model that is stored as several files (`solomonic.speech.pretrained`)."""
DEVICE_FILE = "model.solo"
"""In the folder of a model that is stored as one (`solomonic.speech.device_file`)."""


def device_file_of(path: str | Path) -> Path | None:
    """`path` if it is a file, or the device file of the folder `path`; None where it has none."""
    path = Path(path)
    if path.is_file():
        return path
    inside = path / DEVICE_FILE
    return inside if inside.is_file() and not (path / CONFIG_FILE).is_file() else None
