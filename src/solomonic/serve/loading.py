"""Models from the disk, once, before the server answers."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.serve.rescore import Reranker
    from solomonic.speech.native_recognizer import NativeRecognizer


def load_asr(path: str | Path | None = None, *, threads: int = 1) -> "NativeRecognizer":
    """A recogniser: a device file, or a folder (turned into one for the time being); None is the
    model of the package.

    Raises:
        CheckpointError: nothing there, or damaged, foreign, newer.
        ConfigError: there is no native core here.
    """
    from solomonic.kernels import native
    from solomonic.speech.native_recognizer import NativeRecognizer
    from solomonic.speech.places import SHIPPED, device_file_of

    if (why := native.why_not()) is not None:
        raise ConfigError(
            f"speech is served by the native core ({why}); install solomonic with a C++ compiler, "
            "or leave speech out with --asr none."
        )
    place = SHIPPED if path is None else Path(path)
    found = device_file_of(place)
    if found is not None:
        return NativeRecognizer(found, threads=threads)
    from solomonic.speech.device_file import write_device_model  # reads it with PyTorch
    from solomonic.speech.pretrained import load_speech_model

    model = load_speech_model(place)
    with tempfile.TemporaryDirectory(prefix="solomonic-") as folder:
        file = Path(folder) / f"{place.resolve().name}.solo"
        write_device_model(file, model)
        return NativeRecognizer(file, threads=threads)  # reads it into memory


def load_reranker(
    lm: "LoadedModel", weights: str | Path | None = None, asr: str | Path | None = None
) -> "Reranker":
    """What picks sentences from lattices.

    Args:
        weights: of `solomonic tune-rerank`; None: the package's where they are for this model,
            else the defaults.
        asr: the recogniser, which is read where the weights ask for its own language model.

    Raises:
        CheckpointError, DataError: a file is missing or damaged.
        ConfigError: settings that no reranker can have.
    """
    from solomonic.serve import rescore

    return rescore.load_reranker(lm, weights, asr)
