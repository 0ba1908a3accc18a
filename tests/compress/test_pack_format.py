"""The example in FORMAT.md is the file that this program writes, and the page alone can read it.

SOLOMONIC_WRITE=1 pytest tests/compress/test_pack_format.py writes the example.
"""

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from solomonic.compress.pack import Pack, Piece, Vocabulary, build_pack

PAGE = Path(__file__).resolve().parents[2] / "FORMAT.md"
BEGIN = "<!-- example: written by tests/compress/test_pack_format.py -->\n"
END = "<!-- end of example -->"
VOCABULARY = Vocabulary("pieces", (Piece(b"<blank>", 0.0, 2), Piece("▁a".encode(), -1.5)))
CONTENTS = Pack({"model.type": "tiny"}, {"b": np.array([1, -2], np.float32)}, VOCABULARY)
REMARKS = {
    0: "magic",
    8: "version 1, no flags",
    16: "the contents have 448 bytes",
    24: "settings: at 128, 16 bytes,",
    40: "1 line, CRC",
    48: "vocabulary: at 192, 43 bytes,",
    64: "2 pieces, CRC",
    72: "directory: at 256, 81 bytes,",
    88: "1 tensor, CRC",
    96: "data: at 384, 64 bytes",
    120: "0, CRC of the header",
    128: '"model.type=tiny" and 0a',
    192: "pieces; flags 1 + 2 + 4",
    200: "2 pieces, no rest",
    208: "7 bytes, unknown, score 0",
    216: '"<blank>"',
    223: "4 bytes, normal, score -1.5",
    231: '"▁a"',
    256: "name of 1 byte, f32, 32 bits, 1 dimension",
    264: "shape 2, 1, 1, 1",
    280: "data: at 384, 8 bytes",
    296: "no scales",
    312: "no codebook",
    328: "CRC, 0",
    336: '"b"',
    384: "1.0, -2.0",
}


def example() -> str:
    """The file in hexadecimal, with what it means."""
    data = build_pack(CONTENTS)
    stops = [*list(REMARKS)[1:], len(data)]
    lines = []
    for begin, stop in zip(REMARKS, stops, strict=True):
        part = data[begin:stop].rstrip(b"\0")
        zeros = stop - begin - len(part)
        if zeros < 16 or not part:
            part, zeros = data[begin:stop], 0
        for at in range(0, max(len(part), 1), 16):
            remark = REMARKS[begin] if at == 0 else ""
            lines.append(f"{begin + at:4}  {part[at : at + 16].hex(' '):47}  {remark}".rstrip())
        if zeros:
            lines.append(f"{stop - zeros:4}  {f'00 ... ({zeros} zeros)'}")
    intro = (
        f"A file of {len(data)} bytes: one setting, two pieces, and the tensor `b` with the "
        "numbers 1 and -2.\n\n"
    )
    return intro + "```text\n" + "\n".join(lines) + "\n```\n"


def test_the_example_is_what_is_written() -> None:
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    stored, after = rest.split(END)
    if os.environ.get("SOLOMONIC_WRITE"):
        PAGE.write_text(before + BEGIN + example() + END + after, "utf-8")
        return
    assert stored == example()


def test_a_reader_made_from_the_page_alone() -> None:
    data = build_pack(CONTENTS)
    assert data[:8] == bytes.fromhex("93 53 4f 4c 4f 0d 0a 1a")
    assert struct.unpack_from("<I", data, 124)[0] == zlib.crc32(data[:124])
    sections = [struct.unpack_from("<QQII", data, at) for at in (24, 48, 72, 96)]
    for offset, size, _, crc in sections[:3]:
        assert zlib.crc32(data[offset : offset + size]) == crc
    offset, size, lines, _ = sections[0]
    text = data[offset : offset + size].decode()
    assert text.count("\n") == lines
    assert text == "model.type=tiny\n"
    at = sections[1][0] + 16
    pieces = []
    for _ in range(struct.unpack_from("<I", data, sections[1][0] + 8)[0]):
        length, kind, _, score = struct.unpack_from("<HBBf", data, at)
        pieces.append((data[at + 8 : at + 8 + length].decode(), score, kind))
        at += 8 + length
    assert pieces == [("<blank>", 0.0, 2), ("▁a", -1.5, 1)]
    entry = sections[2][0]
    name = data[entry + 80 : entry + 80 + struct.unpack_from("<H", data, entry)[0]]
    where, size = struct.unpack_from("<QQ", data, entry + 24)
    assert name == b"b"
    assert struct.unpack_from("<2f", data, where) == (1.0, -2.0)
    assert zlib.crc32(data[where : where + size]) == struct.unpack_from("<I", data, entry + 72)[0]
