"""SentencePiece's own file as the vocabulary of a device file, and back byte for byte.

A `.model` is a protocol buffer: the pieces (field 1), then how it was trained (2) and how text is
normalised (3). A device needs the pieces and four switches; the rest is kept as it is, so that the
file can be made again.
"""

import struct
from collections.abc import Iterator

from solomonic.compress.pack.contents import Piece, Vocabulary
from solomonic.core import ConfigError

_PIECE, _NORMALISER = 1, 3
_CHARSMAP, _DUMMY_PREFIX, _SQUEEZE, _ESCAPE, _RULES = 2, 3, 4, 5, 6


def vocabulary_of(model: bytes) -> Vocabulary:
    """The vocabulary in a SentencePiece `.model`.

    Raises:
        ConfigError: it is cut short, or written in a way that could not be given back.
    """
    try:
        fields = list(_fields(model))
        pieces = tuple(_piece(value) for number, value in fields if number == _PIECE)
        normaliser = {}
        for number, value in fields:
            if number == _NORMALISER and isinstance(value, bytes):
                normaliser = dict(_fields(value))
        rest = model[sum(len(_piece_field(piece)) for piece in pieces) :]
        vocabulary = Vocabulary(
            "pieces",
            pieces,
            dummy_prefix=bool(normaliser.get(_DUMMY_PREFIX, 1)),
            squeeze_spaces=bool(normaliser.get(_SQUEEZE, 1)),
            escape_spaces=bool(normaliser.get(_ESCAPE, 1)),
            rewrites=bool(normaliser.get(_CHARSMAP) or normaliser.get(_RULES)),
            rest=rest,
        )
    except (IndexError, struct.error, TypeError) as error:
        raise ConfigError("the word pieces are no SentencePiece model; copy them again.") from error
    if model_of(vocabulary) != model:
        raise ConfigError(
            "the word pieces were not written by SentencePiece itself; save them with it again."
        )
    return vocabulary


def model_of(vocabulary: Vocabulary) -> bytes:
    """The `.model` that `vocabulary_of` was given."""
    return b"".join(_piece_field(piece) for piece in vocabulary.pieces) + vocabulary.rest


def _piece(message: bytes | int) -> Piece:
    if isinstance(message, int):
        raise TypeError
    found = dict(_fields(message))
    text, score, kind = found.get(1, b""), found.get(2, b"\0\0\0\0"), found.get(3, 1)
    if isinstance(text, int) or isinstance(score, int) or not isinstance(kind, int):
        raise TypeError
    return Piece(text, struct.unpack("<f", score)[0], kind)


def _piece_field(piece: Piece) -> bytes:
    inner = (
        b"\x0a" + _varint(len(piece.text)) + piece.text + b"\x15" + struct.pack("<f", piece.score)
    )
    if piece.type != 1:
        inner += b"\x18" + _varint(piece.type)
    return b"\x0a" + _varint(len(inner)) + inner


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of each field; IndexError when it is cut."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            value, at = _read_varint(message, at)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, at = _read_varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7, len(message) + 1)
        if at + size > len(message):
            raise IndexError
        yield key >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
