"""Numbers of the device file that writer and reader share (FORMAT.md explains each)."""

import struct

from solomonic.compress.tiles import FORMATS as TILE_FORMATS

MAGIC = b"\x93SOLO\r\n\x1a"
"""Not ASCII, and with line ends that a copy as text would change."""
VERSION = 1
ALIGN = 64
"""Sections and payloads begin at multiples of it: a cache line."""

HEADER = struct.Struct("<8sIIQ QQII QQII QQII QQII II")
HEADER_BYTES = 128
SECTIONS = ("config", "vocabulary", "directory", "data")
FLAG_SIGNED = 1

ENTRY = struct.Struct("<HBBBBH4I6QII")
"""Of one tensor, with its name behind it."""
PIECE = struct.Struct("<HBBf")
"""Of one piece, with its text behind it."""
VOCABULARY = struct.Struct("<IIII")
SIGNATURE = struct.Struct("<4sIII")
SIGNATURE_MAGIC = b"SIGN"

FORMATS = TILE_FORMATS | {"q5": 16}
"""Kinds of payload and their numbers; slm::MatrixFormat in C++, but for q5: only files have it."""
PATTERN_NUMBERS = {"dense": 0, "2:4": 1, "vec16": 2, "unstructured": 3}
VOCABULARIES = ("none", "pieces", "tokens")

MOST_DIMS = 4
MOST_CONFIG = 1 << 20
MOST_VOCABULARY = 1 << 26
MOST_TENSORS = 1 << 16
MOST_NAME = 255
MOST_SIDE = 1 << 24
"""Rows or columns of a tensor, so that no product of two overflows 63 bits."""
MOST_SIGNATURE = 1 << 12

assert HEADER.size == HEADER_BYTES and ENTRY.size == 80 and PIECE.size == 8


def align(offset: int) -> int:
    """The next multiple of ALIGN."""
    return -(-offset // ALIGN) * ALIGN
