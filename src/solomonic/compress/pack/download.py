"""The form in which a device file is sent: its levels entropy-coded, bit for bit the same after.

zstandard's entropy coder over the levels as bytes comes within 3% of what independent levels need
(../shared/design/kernels.md, section 6), single zeros included, so that no map of them is sent.
Zeros by vectors of 16 are not independent: there a map says which vectors live, and their levels
alone follow (since version 2; with their zeros between them they took more than the file itself).
FORMAT.md, "Download form", has the bytes.
"""

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from solomonic.compress import tiles
from solomonic.compress.matrix import VECTOR, QuantisedMatrix, by_vectors
from solomonic.compress.pack.layout import ENTRY, FORMATS, HEADER, HEADER_BYTES, align
from solomonic.compress.pack.payload import five, from_five
from solomonic.compress.pack.reader import Entry, PackParser, parse_pack
from solomonic.compress.pack.writer import content_size
from solomonic.core import CheckpointError, ConfigError, ShapeError, SolomonicError, write_whole

MAGIC = b"\x93SQZ\r\n\x1a\0"
VERSION = 2
LEVEL = 19
"""zstandard's effort; decoding is as fast at any."""
_HEADER = struct.Struct("<8sIIQ32sI")
_STREAM = struct.Struct("<B3xIQQ")
_STORED, _ZSTD = 0, 1
_BY_VECTORS = (FORMATS["v16_4"], FORMATS["v16_8"])
_MOST_AMPLIFIED = 256
"""Levels that one byte of a payload can stand for, at most: the bits of vectors that are zero."""


class Squeezed(NamedTuple):
    """What `squeeze` did.

    device, download: bytes of both forms.
    weights: quantised levels among them, and the bytes they take in the download form.
    """

    device: int
    download: int
    weights: int
    weight_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Of the levels alone, without scales."""
        return 8 * self.weight_bytes / max(self.weights, 1)


def squeeze(path: str | Path, out: str | Path, level: int = LEVEL) -> Squeezed:
    """Write the download form of the device file `path` to `out`.

    Raises:
        CheckpointError: `path` is no sound device file.
        ConfigError: zstandard is not installed.
        StorageError: the disk is full or the place cannot be written.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the device file {path} ({error.strerror}).") from error
    found, report = squeeze_bytes(data, level, str(path))
    write_whole(Path(out), found)
    return report


def expand(path: str | Path, out: str | Path) -> None:
    """Write the device file whose download form is `path` to `out`.

    Raises:
        CheckpointError: `path` is cut short, corrupted, foreign or newer.
        ConfigError: zstandard is not installed.
        StorageError: the disk is full or the place cannot be written.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror}).") from error
    write_whole(Path(out), expand_bytes(data, str(path)))


def squeeze_bytes(
    data: bytes, level: int = LEVEL, name: str = "the device file"
) -> tuple[bytes, Squeezed]:
    """The download form of a device file's bytes."""
    parse_pack(data, name)
    entries = PackParser(data, name).entries()
    begin, end = HEADER.unpack_from(data)[16], content_size(data)
    compressor = _zstandard().ZstdCompressor(level=level, write_checksum=False)
    streams = [_stream(data[:begin] + data[end:], compressor)]
    weights = weight_bytes = 0
    for entry in entries:
        levels, others = _parts(entry)
        coded = [_stream(part, compressor) for part in levels]
        streams += coded + [_stream(part, compressor) for part in others]
        if levels:
            weights += entry.shape.shape[0] * entry.shape.shape[1]
            weight_bytes += sum(map(len, coded))
    head = _HEADER.pack(MAGIC, VERSION, len(streams), len(data), hashlib.sha256(data).digest(), 0)
    head = head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little")
    found = head + b"".join(streams)
    if expand_bytes(found, name) != data:
        raise CheckpointError(f"{name} was not written by solomonic; make it again.")
    return found, Squeezed(len(data), len(found), weights, weight_bytes)


def expand_bytes(data: bytes, name: str = "the download form") -> bytes:
    """The device file in its download form.

    Raises:
        CheckpointError: cut short, corrupted, foreign or newer.
    """
    reader = _Reader(bytes(data), name)
    size, digest = reader.header()
    head = reader.stream(size)
    if len(head) < HEADER_BYTES:
        reader.refuse("the first stream holds no header")
    begin, end = HEADER.unpack_from(head)[16], content_size(head)
    if not HEADER_BYTES <= begin <= min(len(head), end) or size != end + len(head) - begin:
        reader.refuse("the sizes of the device file do not fit")
    made = bytearray(head[:begin])
    for entry in _directory(head, reader):
        for (offset, length), part in zip(entry.places, _payload(entry, reader), strict=True):
            if len(part) != length or (length and offset != len(made)):
                reader.refuse(f"'{entry.name}' does not fit its place")
            made += part
            made += bytes(align(len(made)) - len(made))
    made += head[begin:]
    if reader.at != len(data) or reader.streams:
        reader.refuse("there are streams that belong to nothing")
    if hashlib.sha256(made).digest() != digest:
        reader.refuse("the device file that comes out has another SHA-256")
    return bytes(made)


class _Place(NamedTuple):
    """A tensor of the directory: without its payload, which is being made."""

    name: str
    format: int
    sides: list[int]
    places: list[tuple[int, int]]


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.at, self.streams, self.version = data, name, 0, 0, VERSION
        self.decompressor = _zstandard().ZstdDecompressor()

    def refuse(self, why: str) -> NoReturn:
        raise CheckpointError(f"{self.name}, byte {self.at}: {why}; fetch it again.")

    def header(self) -> tuple[int, bytes]:
        """Size and SHA-256 of the device file."""
        if self.data[:8] != MAGIC[: len(self.data)] or not self.data:
            self.refuse("this is no download form of a device file")
        if len(self.data) < _HEADER.size:
            self.refuse(f"cut short in the header of {_HEADER.size} bytes")
        _, version, self.streams, size, digest, crc = _HEADER.unpack_from(self.data)
        if version > VERSION:
            raise CheckpointError(
                f"{self.name}, byte 8: the file has version {version} and this program reads up "
                f"to {VERSION}; update solomonic."
            )
        self.version = version
        if version == 0 or crc != zlib.crc32(self.data[: _HEADER.size - 4]):
            self.refuse("the header is corrupted")
        self.at = _HEADER.size
        return size, digest

    def stream(self, most: int) -> bytes:
        """The next stream, of up to so many bytes when decoded."""
        if not self.streams or len(self.data) - self.at < _STREAM.size:
            self.refuse("cut short where a stream should begin")
        coding, crc, size, length = _STREAM.unpack_from(self.data, self.at)
        begin = self.at + _STREAM.size
        if any(self.data[self.at + 1 : self.at + 4]) or size > most:
            self.refuse(f"a stream of {size} bytes, where at most {most} can be")
        if length > len(self.data) - begin:
            self.refuse(f"cut short in a stream of {length} bytes")
        coded = self.data[begin : begin + length]
        if zlib.crc32(struct.pack("<QQ", size, length) + coded) != crc:
            self.refuse("the stream is corrupted (its checksum is wrong)")
        if coding == _ZSTD:
            try:
                found = self.decompressor.decompress(coded, max_output_size=size)
            except _zstandard().ZstdError as error:
                self.refuse(f"the stream cannot be decoded ({error})")
        elif coding == _STORED:
            found = coded
        else:
            self.refuse(f"the coding {coding} is unknown")
        if len(found) != size:
            self.refuse(f"the stream gives {len(found)} bytes instead of {size}")
        self.at = begin + length
        self.streams -= 1
        return found


def _stream(part: bytes, compressor: Any) -> bytes:
    coded = compressor.compress(part)
    coding = _ZSTD if len(coded) < len(part) else _STORED
    coded = coded if coding == _ZSTD else part
    crc = zlib.crc32(struct.pack("<QQ", len(part), len(coded)) + coded)
    return _STREAM.pack(coding, crc, len(part), len(coded)) + coded


def _parts(entry: Entry) -> tuple[list[bytes], list[bytes]]:
    """What is coded of a tensor: of its levels, and else."""
    _, shape, payload, _ = entry
    if payload.format == FORMATS["f32"]:
        bytes_apart = np.frombuffer(payload.data, np.uint8).reshape(-1, 4).T
        return [], [bytes_apart.tobytes()]
    outputs, inputs = shape.shape
    others = [payload.scales, *([payload.table] if payload.table else [])]
    if payload.format == FORMATS["q5"]:
        return [from_five(payload.data, outputs, inputs).tobytes()], others
    name = next(name for name, number in FORMATS.items() if number == payload.format)
    levels = tiles.unpack_levels(tiles.Tiles(name, outputs, inputs, payload.data, payload.scales))
    if payload.format not in _BY_VECTORS:
        return [levels.tobytes()], others
    vectors = by_vectors(levels).transpose(0, 2, 1)
    alive = vectors.any(axis=2)
    return [np.packbits(alive).tobytes(), vectors[alive].tobytes()], others


def _from_vectors(place: "_Place", reader: _Reader) -> np.ndarray:
    """(N, K) levels from the map of living vectors and their levels."""
    outputs, inputs = place.sides[:2]
    groups = -(-outputs // VECTOR)
    size = -(-groups * inputs // 8)
    bits = reader.stream(size)
    if len(bits) != size:
        reader.refuse(f"'{place.name}' has a map of {len(bits)} bytes")
    alive = np.unpackbits(np.frombuffer(bits, np.uint8), count=groups * inputs).astype(bool)
    kept = np.frombuffer(reader.stream(int(alive.sum()) * VECTOR), np.int8)
    if len(kept) != int(alive.sum()) * VECTOR:
        reader.refuse(f"'{place.name}' has {len(kept)} levels")
    vectors = np.zeros((groups * inputs, VECTOR), np.int8)
    vectors[alive] = kept.reshape(-1, VECTOR)
    levels = vectors.reshape(groups, inputs, VECTOR).transpose(0, 2, 1).reshape(-1, inputs)
    if levels[outputs:].any():
        reader.refuse(f"'{place.name}' has levels behind its last output")
    return np.ascontiguousarray(levels[:outputs])


def _directory(head: bytes, reader: _Reader) -> list[_Place]:
    """The tensors named in the first stream; the finished file is checked as a whole."""
    offset, size, count = HEADER.unpack_from(head)[12:15]
    found, at = [], offset
    for _ in range(count):
        if size > len(head) - offset or offset + size - at < ENTRY.size:
            reader.refuse("the directory is cut short")
        length, kind, _, _, _, _, *rest = ENTRY.unpack_from(head, at)
        name = head[at + ENTRY.size : at + ENTRY.size + length].decode("ascii", "replace")
        places = list(zip(rest[4:10:2], rest[5:10:2], strict=True))
        found.append(_Place(name, kind, rest[:4], places))
        at += ENTRY.size + length
    return found


def _payload(place: _Place, reader: _Reader) -> tuple[bytes, bytes, bytes]:
    (_, size), (_, scale_bytes), (_, table_bytes) = place.places
    if place.format == FORMATS["f32"]:
        apart = np.frombuffer(reader.stream(size), np.uint8)
        if len(apart) % 4:
            reader.refuse(f"'{place.name}' is no float32")
        return apart.reshape(4, -1).T.tobytes(), b"", b""
    outputs, inputs = place.sides[:2]
    if outputs * inputs > _MOST_AMPLIFIED * size:
        reader.refuse(f"'{place.name}' has more levels than {size} bytes hold")
    if reader.version > 1 and place.format in _BY_VECTORS:
        levels = _from_vectors(place, reader).ravel()
    else:
        levels = np.frombuffer(reader.stream(outputs * inputs), np.int8)
    scales = reader.stream(scale_bytes)
    table = reader.stream(table_bytes) if table_bytes else b""
    if len(levels) != outputs * inputs:
        reader.refuse(f"'{place.name}' has {len(levels)} levels")
    try:
        return _tiles(place, levels.reshape(outputs, inputs)), scales, table
    except (SolomonicError, StopIteration) as error:
        reader.refuse(f"'{place.name}' cannot be packed: {error}")


def _tiles(place: _Place, levels: np.ndarray) -> bytes:
    if place.format == FORMATS["q5"]:
        if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) < 32:
            raise ShapeError("an index is not 0 to 31")
        return five(levels)
    name = next((name for name, number in FORMATS.items() if number == place.format), "")
    groups = (-(-levels.shape[1] // tiles.GROUP),) if name == "q4" else ()
    scales = np.zeros((len(levels), *groups), np.float32)
    return tiles.pack_tiles(QuantisedMatrix(levels, scales, 8), name).data


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ConfigError(
            "the download form needs zstandard; install solomonic[compress]."
        ) from error
    return zstandard
