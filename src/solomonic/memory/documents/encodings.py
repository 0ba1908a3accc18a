"""Bytes of a text file to characters: which encoding they are in, found without guessing much.

1. the encoding that was asked for
2. a byte order mark (UTF-8, UTF-16, UTF-32)
3. UTF-16 without one, where every other byte of the beginning is NUL
4. UTF-8, if all of the file is
5. windows-1252, if the file holds no control characters and none of its five unused bytes

Anything else is refused: a text that was decoded wrongly would be kept verbatim, and cited.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from solomonic.core import DataError
from solomonic.memory.documents.part import storable

BLOCK = 1 << 16
"""Bytes read at a time."""
WESTERN = "windows-1252"
# UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(b"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_UNUSED = re.compile(b"[\x81\x8d\x8f\x90\x9d]")


class Survey(NamedTuple):
    """What one pass over a file tells. `encoding` is None where the bytes are no text."""

    sha256: str
    size: int
    encoding: str | None


def identity(stream: BinaryIO) -> tuple[str, int]:
    """SHA-256 and size of all of `stream`."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def survey(stream: BinaryIO, encoding: str | None = None) -> Survey:
    """Read all of `stream` once: its hash, its size, and the encoding to read it in."""
    digest, size = hashlib.sha256(), 0
    found: str | None = encoding
    utf8 = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = is_western = True
    while block := stream.read(BLOCK):
        if size == 0 and encoding is None:
            found = marked(block)
        digest.update(block)
        size += len(block)
        if found is None and (is_utf8 or is_western):
            is_western = is_western and not (_CONTROL.search(block) or _UNUSED.search(block))
            try:
                is_utf8 = is_utf8 and b"\0" not in block and utf8.decode(block) is not None
            except UnicodeDecodeError:
                is_utf8 = False
    if found is None:
        try:
            utf8.decode(b"", final=is_utf8)
        except UnicodeDecodeError:  # the file ends within a character
            is_utf8 = False
        found = "utf-8" if is_utf8 else WESTERN if is_western else None
    return Survey(digest.hexdigest(), size, found)


def marked(beginning: bytes) -> str | None:
    """The encoding that a byte order mark names, or that NUL at every other place gives away."""
    for mark, name in _MARKS:
        if beginning.startswith(mark):
            return name
    sample = beginning[:4096]
    if len(sample) >= 4:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if odd > 0.4 * len(sample[1::2]) and even == 0:
            return "utf-16-le"
        if even > 0.4 * len(sample[::2]) and odd == 0:
            return "utf-16-be"
    return None


def check_encoding(name: str | None) -> str | None:
    """Python's name of an encoding.

    Raises:
        DataError: there is none of this name, or it is no encoding of text.
    """
    if name is None:
        return None
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # 'hex' and 'zip' are codecs too, but not of text
    except (LookupError, ValueError, TypeError):
        raise DataError(
            f"there is no text encoding '{name}'; use a name such as utf-8, utf-16 or windows-1252."
        ) from None
    return found.name


def decoded(stream: BinaryIO, encoding: str, name: str) -> Iterator[str]:
    """The text of `stream` in blocks, line ends as "\\n".

    Raises:
        DataError: bytes that the encoding does not have; `name` tells whose.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    kept = ""  # "\r" at a block's end may be half of "\r\n"
    while True:
        block = stream.read(BLOCK)
        try:
            text = kept + decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise DataError(
                f"{name} is no {encoding} text ({error}); name its encoding, or leave it out."
            ) from None
        kept = "\r" if block and text.endswith("\r") else ""
        text = text.removesuffix("\r") if kept else text
        if text:
            yield storable(text.replace("\r\n", "\n").replace("\r", "\n"))
        if not block:
            return
