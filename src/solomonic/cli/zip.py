"""`solomonic zip` and `unzip`: files in the coder's bytes, by any predictor."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import ConfigError, DataError, StorageError

if TYPE_CHECKING:
    from solomonic.induction.archive import Codec

ENDING = ".slz"
_PAUSE = 10.0  # seconds between lines of progress
_SLOW_BLOCK = 1 << 14  # bytes of text a block where a byte takes a millisecond

Predictor = Annotated[
    str,
    typer.Option(
        metavar="mix|ctw|bmojo+mix|lm:DIR",
        help="What predicts: the context mixer, context-tree weighting, the mixer with a language "
        "model that learns as it reads (slow), or a trained model.",
    ),
]


def zip_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to compress.")],
    predictor: Predictor = "mix",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help=f"The archive; FILE{ENDING} by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Compress a file losslessly with a predictor; `unzip` gives it back, to the last bit.

    Nothing is read twice and memory does not grow with the file.
    """
    from solomonic.induction.archive import BLOCK, compress

    target = out or file.with_name(file.name + ENDING)
    _must_not_exist(target)
    with _opened(file) as source, _whole(target) as sink:
        told = _Told(source)
        block = BLOCK if predictor in ("mix", "ctw") else _SLOW_BLOCK
        written = compress(codec_of(predictor), told, sink, block)
        size = source.tell()
    _tell(file, target, size, written, json)


def unzip_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive of `solomonic zip`.")],
    predictor: Annotated[
        str | None,
        typer.Option(
            metavar="mix|ctw|bmojo+mix|lm:DIR",
            help="Where the model is now; by default what the archive names.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help=f"The file; FILE without {ENDING}.")
    ] = None,
    json: Json = False,
) -> None:
    """Give back what `zip` compressed; a damaged, cut or foreign archive is refused."""
    from solomonic.induction.archive import ArchiveReader

    if out is None and file.suffix != ENDING:
        raise ConfigError(f"{file} does not end in {ENDING}; name the result with --out.")
    target = out or file.with_suffix("")
    _must_not_exist(target)
    with _opened(file) as source:
        reader = ArchiveReader(_Told(source))
        codec = codec_of(predictor or reader.name)
        reader.check(codec)
        size = 0
        with _whole(target) as sink:
            for data in reader.text(codec):
                size += sink.write(data)
    _tell(file, target, size, reader.offset, json)


def codec_of(name: str) -> Codec:
    """The codec with a new predictor that a name stands for.

    Raises:
        ConfigError: there is no such name.
    """
    from solomonic.induction import ByteTree, Mixer
    from solomonic.induction.archive import ByteCodec

    if name.startswith("lm:"):
        from solomonic.lm.predictor import lm_codec

        return lm_codec(name[3:])
    if name == "bmojo+mix":
        from solomonic.induction.hinted import Hinted
        from solomonic.lm.online import OnlineLm

        both = Hinted(OnlineLm(), Mixer())
        return ByteCodec(name, both, both.identity())
    kinds: dict[str, Any] = {"mix": Mixer, "ctw": ByteTree}
    if name not in kinds:
        raise ConfigError(f"there is no predictor '{name}'; use mix, ctw, bmojo+mix or lm:DIR.")
    made = kinds[name]()
    return ByteCodec(name, made, made.identity())


class _Told:
    """A file whose reader says on standard error, now and then, how much of it is done."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self._last = time.monotonic()

    def read(self, size: int, /) -> bytes:
        if (now := time.monotonic()) - self._last >= _PAUSE:  # all that was read before is done
            self._last = now
            console.say(f"{self._file.tell():,} of {self._size:,} bytes")
        return self._file.read(size)


def _must_not_exist(target: Path) -> None:
    if target.exists():
        raise ConfigError(f"{target} is there already; remove it or choose another --out.")


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}); check the path.") from None
    with stream:
        yield stream


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that appears at `target` when all of it is written."""
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=".unfinished-", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"cannot write {target} ({error.strerror or error}); free some space and try again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _tell(file: Path, target: Path, text: int, archive: int, json: bool) -> None:
    ratio = 8 * archive / text if text else 0.0
    record = {
        "from": str(file), "to": str(target), "text_bytes": text, "archive_bytes": archive,
        "bits_per_byte": round(ratio, 4),
    }  # fmt: skip
    if json:
        console.emit(record)
    else:
        console.say(
            f"{target}: {text:,} bytes of text, {archive:,} of archive, {ratio:.3f} bits a byte"
        )
