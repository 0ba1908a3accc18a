"""PDF to parts, one a page, by pypdf. All pages are read before the first is handed on: a file
that is broken in the middle leaves nothing half-read behind."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from solomonic.core import ConfigError, DataError
from solomonic.memory.documents.part import Part, storable

if TYPE_CHECKING:
    from pypdf import PdfReader

ASK = "`memory add --password` opens it, else save it without one"


def pages(stream: BinaryIO, name: str, password: str | None = None) -> list[Part]:
    """The text of every page that has some, each ending in a line end.

    Raises:
        ConfigError: pypdf is not installed.
        DataError: protected by a password, broken, or without any text.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError, FileNotDecryptedError
    except ImportError:
        raise ConfigError(
            "reading PDF needs pypdf; install it with: pip install 'solomonic[memory]'"
        ) from None
    with _quiet():
        try:
            reader = pypdf.PdfReader(stream)
            _unlock(reader, name, password)
            found = [
                Part(text, page=number, whole=True)
                for number, page in enumerate(reader.pages, 1)
                if (text := _text(page.extract_text()))
            ]
        except DataError:
            raise
        except (FileNotDecryptedError, DependencyError) as error:
            raise DataError(
                f"{name} is encrypted and cannot be opened ({_short(error)}); save it without a "
                "password."
            ) from None
        except MemoryError:
            raise
        # A parser of broken files fails in every way there is: its own errors, KeyError,
        # RecursionError, struct.error, zlib.error ...
        except Exception as error:
            raise DataError(
                f"{name} is a broken or cut PDF ({type(error).__name__}: {_short(error)}); get it "
                "again, or convert it to text."
            ) from None
    if not found:
        raise DataError(
            f"{name} has no text (pages of images, perhaps); recognise its text first (OCR)."
        )
    return found


def _unlock(reader: "PdfReader", name: str, password: str | None) -> None:
    if not reader.is_encrypted:
        return
    # Many files are encrypted with an empty password, to forbid printing: all may read them.
    if not reader.decrypt("") and not (password and reader.decrypt(password)):
        wrong = "the password given is not its own" if password else ASK
        raise DataError(f"{name} is protected by a password; {wrong}.")


def _text(extracted: str) -> str:
    """A page ends in a line end, so that its last word does not run into the next page."""
    text = storable(extracted.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.strip():
        return ""
    return text if text.endswith("\n") else text + "\n"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pypdf's remarks on what it mended."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # `disabled` would not reach its children
    try:
        yield
    finally:
        logger.setLevel(before)
