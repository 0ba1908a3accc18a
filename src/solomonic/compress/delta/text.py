"""Bytes that are no weights (settings, vocabulary): pieces of the old ones and what is new."""

import struct
import zlib

from solomonic.core import CheckpointError

_SEED = 8  # bytes that must agree before a piece of the old text is taken
_COPY = struct.Struct("<II")  # where in the old bytes, how many
_LITERAL = struct.Struct("<I")
_HEAD = struct.Struct("<II")  # size of the new bytes, number of copies


def write_text(old: bytes, new: bytes) -> bytes:
    """`new` as copies out of `old` with literals between them, deflated."""
    seen = {old[at : at + _SEED]: at for at in range(len(old) - _SEED, -1, -1)}
    moves, literals, at, last = [], bytearray(), 0, 0
    while at <= len(new) - _SEED:
        found = seen.get(new[at : at + _SEED])
        if found is None:
            at += 1
            continue
        size = _agree(old, found, new, at)
        moves.append(_LITERAL.pack(at - last) + _COPY.pack(found, size))
        literals += new[last:at]
        at = last = at + size
    literals += new[last:]
    head = _HEAD.pack(len(new), len(moves))
    return zlib.compress(head + b"".join(moves) + literals, 9)


def read_text(old: bytes, data: bytes, limit: int = 1 << 28) -> bytes:
    """The bytes that `write_text` was given.

    Raises:
        CheckpointError: the data do not fit the old bytes.
    """
    inflate = zlib.decompressobj()
    raw = inflate.decompress(data, limit)
    if not inflate.eof or len(raw) < _HEAD.size:
        raise CheckpointError("its text is cut short")
    size, count = _HEAD.unpack_from(raw)
    at, width = _HEAD.size, _LITERAL.size + _COPY.size
    literal = at + count * width
    found = bytearray()
    for _ in range(count):
        if at + width > len(raw) or len(found) > size:
            raise CheckpointError("its text is cut short")
        (fresh,) = _LITERAL.unpack_from(raw, at)
        start, length = _COPY.unpack_from(raw, at + _LITERAL.size)
        if start + length > len(old) or literal + fresh > len(raw):
            raise CheckpointError("its text reaches beyond the old one")
        found += raw[literal : literal + fresh] + old[start : start + length]
        literal += fresh
        at += width
    found += raw[literal:]
    if len(found) != size:
        raise CheckpointError("its text has a wrong length")
    return bytes(found)


def _agree(old: bytes, start: int, new: bytes, at: int) -> int:
    """How many bytes are equal from there on."""
    size, most = _SEED, min(len(old) - start, len(new) - at)
    while size < most and old[start + size : start + size + 64] == new[at + size : at + size + 64]:
        size += 64
    size = min(size, most)
    while size < most and old[start + size] == new[at + size]:
        size += 1
    return size
