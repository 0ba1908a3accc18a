"""Lattices from files, by the endings that `solomonic transcribe --format lattice` gives them."""

from pathlib import Path

from solomonic.core import DataError
from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.kaldi import from_kaldi
from solomonic.speech.lattice.openfst import ENDINGS, from_openfst, load_openfst
from solomonic.speech.lattice.slf import from_slf
from solomonic.speech.lattice.wire import decode_message

LATTICE_ENDINGS = (ENDINGS["total"], ".slf", ".lat.txt", ".slm")
"""OpenFst text, SLF, Kaldi text, lattice message."""


def is_lattice_file(path: str | Path) -> bool:
    """Whether the name ends as a lattice's does."""
    return Path(path).name.endswith(LATTICE_ENDINGS)


def load_lattice(path: str | Path) -> Lattice:
    """The lattice in a file; of several in a Kaldi text the first.

    Raises:
        DataError: its name has no such ending, it cannot be read, or it is damaged.
    """
    path = Path(path)
    if not is_lattice_file(path):
        raise DataError(
            f"{path} is no lattice by its name; give one that ends in {', '.join(LATTICE_ENDINGS)}."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path.") from error
    try:
        return _parse(path, data)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text, so no lattice; write it again.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _parse(path: Path, data: bytes) -> Lattice:
    """The lattice in the bytes of a file, by its ending."""
    if path.name.endswith(".slm"):
        return _of_message(data)
    text = data.decode()
    if path.name.endswith(".slf"):
        return from_slf(text)
    if path.name.endswith(".lat.txt"):
        return next(iter(from_kaldi(text).values()))
    stem = str(path).removesuffix(ENDINGS["total"])
    # With the files beside it where they are there, else the costs alone.
    if Path(f"{stem}{ENDINGS['acoustic']}").is_file():
        return load_openfst(stem)
    return from_openfst(text)


def _of_message(data: bytes) -> Lattice:
    message = decode_message(data)
    if message.lattice is None:
        raise DataError("this message has no lattice; give another one.")
    return message.lattice
