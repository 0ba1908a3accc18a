"""The update file: what it applies to, what comes out, and checked sections.

offset  bytes
0       8     magic
8       4     version (1)
12      8     bytes of the whole file
20      32    SHA-256 of the base, the whole file
52      32    SHA-256 of the result
84      8 x 5 of each section: bytes, CRC-32
124     4     CRC-32 of bytes 0 to 123
128           the sections one after the other; all numbers little-endian

words   JSON, deflated: names, layouts (update.py)
text    settings, vocabulary, signature: what changed of a device file without its tensors
        (text.py); or the whole result, deflated, where "whole" is said
rules   hash and low-rank rules (rules.py)
first, second   coded symbols (tables.py): rows, zeros and changed floats; then values
"""

import dataclasses
import json
import struct
import zlib
from typing import Any, NoReturn

from solomonic.compress.delta.errors import DamagedUpdateError, NewerUpdateError

MAGIC = b"\x93SOLU\r\n\x1a"
VERSION = 1
SECTIONS = ("words", "text", "rules", "first", "second")
_HEADER = struct.Struct("<8sIQ32s32s10II")
_MOST_WORDS = 1 << 26


@dataclasses.dataclass(frozen=True)
class Update:
    """The sections of an update file.

    base, result: SHA-256 of the files before and after.
    words: JSON. offsets: where each section began in the file, for messages.
    """

    base: bytes
    result: bytes
    words: dict[str, Any]
    text: bytes = b""
    rules: bytes = b""
    first: bytes = b""
    second: bytes = b""
    offsets: tuple[int, ...] = (0,) * len(SECTIONS)


def write_update(update: Update) -> bytes:
    """The bytes of the file."""
    words = zlib.compress(json.dumps(update.words, separators=(",", ":")).encode(), 9)
    parts = (words, update.text, update.rules, update.first, update.second)
    places = [number for part in parts for number in (len(part), zlib.crc32(part))]
    size = _HEADER.size + sum(map(len, parts))
    head = _HEADER.pack(MAGIC, VERSION, size, update.base, update.result, *places, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(parts)


def read_update(data: bytes, name: str) -> Update:
    """The reverse; `name` is for the message.

    Raises:
        DamagedUpdateError: cut short, corrupted or foreign.
        NewerUpdateError: its version is unknown here.
    """

    def refuse(at: int, why: str) -> NoReturn:
        raise DamagedUpdateError(f"{name}, byte {at}: {why}; copy the update again.")

    if not data or data[: len(MAGIC)] != MAGIC[: len(data)]:
        refuse(0, "this is no update (its first bytes are others)")
    if len(data) >= 12 and (version := int.from_bytes(data[8:12], "little")) > VERSION:
        raise NewerUpdateError(
            f"{name}, byte 8: the update has version {version} and this program reads up to "
            f"{VERSION}; update solomonic."
        )
    if len(data) < _HEADER.size:
        refuse(len(data), f"cut short in the header of {_HEADER.size} bytes")
    _, version, size, base, result, *places, crc = _HEADER.unpack_from(data)
    if crc != zlib.crc32(data[: _HEADER.size - 4]):
        refuse(_HEADER.size - 4, "the header is corrupted (its checksum is wrong)")
    if version == 0:
        refuse(8, "version 0 does not exist")
    if len(data) != size:
        where = min(len(data), size)
        refuse(where, f"{len(data)} bytes where {size} are announced (byte 12)")
    at, parts, offsets = _HEADER.size, [], []
    for index, section in enumerate(SECTIONS):
        part = data[at : at + places[2 * index]]
        if len(part) < places[2 * index]:
            refuse(84 + 8 * index, f"the section '{section}' reaches beyond the end")
        if zlib.crc32(part) != places[2 * index + 1]:
            refuse(at, f"the section '{section}' is corrupted (its checksum is wrong)")
        parts.append(part)
        offsets.append(at)
        at += len(part)
    if at != size:
        refuse(at, f"{size - at} bytes belong to no section")
    words = _read_words(parts[0])
    if words is None:
        refuse(offsets[0], "the section 'words' is no description of an update")
    text, rules, first, second = parts[1:]
    return Update(base, result, words, text, rules, first, second, tuple(offsets))


def _read_words(part: bytes) -> dict[str, Any] | None:
    inflate = zlib.decompressobj()
    try:
        found = json.loads(inflate.decompress(part, _MOST_WORDS))
    except (zlib.error, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and inflate.eof else None
