"""A device file back into its contents; right in every byte, or refused with offset and reason."""

import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple, NoReturn

from solomonic.compress.pack.contents import Pack, Piece, Signature, Tensor, Vocabulary
from solomonic.compress.pack.layout import (
    ALIGN,
    ENTRY,
    FLAG_SIGNED,
    FORMATS,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    MOST_CONFIG,
    MOST_DIMS,
    MOST_NAME,
    MOST_SIDE,
    MOST_SIGNATURE,
    MOST_TENSORS,
    MOST_VOCABULARY,
    PATTERN_NUMBERS,
    PIECE,
    SECTIONS,
    SIGNATURE,
    SIGNATURE_MAGIC,
    VERSION,
    VOCABULARIES,
    VOCABULARY,
    align,
)
from solomonic.compress.pack.payload import Payload, Shape, decode_tensor
from solomonic.compress.pack.writer import checksum
from solomonic.core import CheckpointError, ConfigError, ShapeError

_PATTERNS = {number: pattern for pattern, number in PATTERN_NUMBERS.items()}


def read_pack(path: str | Path) -> Pack:
    """What `write_pack` wrote.

    Raises:
        CheckpointError: missing, cut short, corrupted, foreign, or newer than this program.
    """
    return parse_pack(_read(path), str(path))


def parse_pack(data: bytes, name: str = "the device file") -> Pack:
    """The contents in a file's bytes; `name` is for the message.

    Raises:
        CheckpointError: as `read_pack`.
    """
    return PackParser(bytes(data), name).pack()


def pack_identity(path: str | Path) -> str:
    """SHA-256 (hexadecimal) of the file without its signature: which model this is, exactly.

    An update names it as the file that it applies to.

    Raises:
        CheckpointError: the file is damaged, so that it is no known model.
    """
    data = _read(path)
    parser = PackParser(data, str(path))
    parser.pack()
    return hashlib.sha256(data[: parser.end]).hexdigest()


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the device file {path} ({error.strerror}); give a file that "
            "`solomonic compress` wrote."
        ) from error


class Entry(NamedTuple):
    """A tensor as the file has it; places: offset and size of data, scales and codebook."""

    name: str
    shape: Shape
    payload: Payload
    places: list[int]


class PackParser:
    """One reading of a file's bytes; `name` is for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.end = 0
        """Where the contents end."""

    def pack(self) -> Pack:
        """The contents, all of them checked."""
        sections, signed = self._header()
        (config_at, config_size, lines), (words_at, words_size, pieces), directory, data = sections
        config = self._config(config_at, config_size, lines)
        vocabulary = self._vocabulary(words_at, words_size, pieces) if words_size else None
        tensors = self._tensors(directory, data)
        signature = self._signature() if signed else None
        try:
            return Pack(config, tensors, vocabulary, signature)
        except ConfigError as error:
            self._refuse(config_at, str(error))

    def entries(self) -> list[Entry]:
        """The directory with the payloads, which are checked against their sums but not read."""
        sections, _ = self._header()
        return self._entries(*sections[2:])

    def _refuse(self, at: int, why: str) -> NoReturn:
        raise CheckpointError(f"{self.name}, byte {at}: {why.rstrip('.')}; copy the file again.")

    def _header(self) -> tuple[list[tuple[int, int, int]], bool]:
        data = self.data
        if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
            self._refuse(0, "this is no device file (its first bytes are others)")
        if len(data) >= 12:
            version = int.from_bytes(data[8:12], "little")
            if version > VERSION:
                raise CheckpointError(
                    f"{self.name}, byte 8: the file has version {version} and this program reads "
                    f"up to {VERSION}; update solomonic."
                )
            if version == 0:
                self._refuse(8, "version 0 does not exist")
        if len(data) < HEADER_BYTES:
            self._refuse(len(data), f"cut short in the header of {HEADER_BYTES} bytes")
        fields = HEADER.unpack_from(data)
        if fields[-1] != zlib.crc32(data[: HEADER_BYTES - 4]):
            self._refuse(HEADER_BYTES - 4, "the header is corrupted (its checksum is wrong)")
        flags, self.end = fields[2:4]
        if flags & ~FLAG_SIGNED:
            self._refuse(12, f"the flags {flags} are unknown")
        if fields[-2]:
            self._refuse(120, "reserved bytes are not zero")
        if len(data) < self.end:
            self._refuse(len(data), f"cut short: {self.end} bytes are announced (byte 16)")
        sections, at = [], HEADER_BYTES
        most = (MOST_CONFIG, MOST_VOCABULARY, MOST_TENSORS * (ENTRY.size + MOST_NAME), self.end)
        for index, section in enumerate(SECTIONS):
            place = 24 + 24 * index
            offset, size, count, crc = fields[4 + 4 * index : 8 + 4 * index]
            if offset != at or size > most[index] or offset + size > self.end:
                self._refuse(place, f"the {section} section of {size} bytes at {offset} cannot be")
            if section == "data":
                if count or crc or size % ALIGN:
                    self._refuse(place, "the data section has a wrong size or reserved values")
            elif zlib.crc32(data[offset : offset + size]) != crc:
                self._refuse(offset, f"the {section} section is corrupted (wrong checksum)")
            at = align(offset + size)
            self._zeros(offset + size, at)
            sections.append((offset, size, count))
        if at != self.end:
            self._refuse(16, f"the contents end at {at}, not at {self.end}")
        if not flags & FLAG_SIGNED and len(data) > self.end:
            self._refuse(self.end, f"{len(data) - self.end} bytes after the end")
        return sections, bool(flags & FLAG_SIGNED)

    def _zeros(self, start: int, stop: int) -> None:
        if len(self.data) < stop:
            self._refuse(len(self.data), "cut short in padding")
        if any(self.data[start:stop]):
            self._refuse(start, "padding is not zero, the file is corrupted")

    def _config(self, at: int, size: int, count: int) -> dict[str, str]:
        try:
            text = self.data[at : at + size].decode("utf-8")
        except UnicodeDecodeError as error:
            self._refuse(at + error.start, "settings are no UTF-8")
        if text and not text.endswith("\n"):
            self._refuse(at + size, "the last setting has no end of line")
        lines = text.split("\n")[:-1]
        found: dict[str, str] = {}
        last = ""
        for line in lines:
            key, equals, value = line.partition("=")
            if not equals or (found and key <= last):
                self._refuse(at, f"setting '{line[:60]}' is out of order or has no '='")
            found[key] = value
            last = key
            at += len(line.encode()) + 1
        if len(found) != count:
            self._refuse(at, f"{len(found)} settings where {count} are announced")
        return found

    def _vocabulary(self, at: int, size: int, count: int) -> Vocabulary:
        stop = at + size
        if size < VOCABULARY.size:
            self._refuse(at, "the vocabulary is too short")
        kind, flags, pieces, rest = VOCABULARY.unpack_from(self.data, at)
        if not 1 <= kind < len(VOCABULARIES) or flags > 15 or pieces != count or not pieces:
            self._refuse(at, f"vocabulary of kind {kind}, flags {flags}, {pieces} pieces")
        at += VOCABULARY.size
        found = []
        for token in range(pieces):
            if stop - at < PIECE.size:
                self._refuse(at, f"the vocabulary ends before piece {token}")
            length, kind_of_piece, reserved, score = PIECE.unpack_from(self.data, at)
            at += PIECE.size
            if stop - at < length or reserved:
                self._refuse(at, f"piece {token} reaches beyond the vocabulary")
            found.append(Piece(self.data[at : at + length], score, kind_of_piece))
            at += length
        if stop - at != rest:
            self._refuse(at, f"{stop - at} bytes where the rest of the vocabulary has {rest}")
        try:
            return Vocabulary(
                VOCABULARIES[kind],
                tuple(found),
                dummy_prefix=bool(flags & 1),
                squeeze_spaces=bool(flags & 2),
                escape_spaces=bool(flags & 4),
                rewrites=bool(flags & 8),
                rest=self.data[at:stop],
            )
        except ConfigError as error:
            self._refuse(at, str(error))

    def _tensors(
        self, directory: tuple[int, int, int], data: tuple[int, int, int]
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, shape, payload, places in self._entries(directory, data):
            try:
                found[name] = decode_tensor(shape, payload)
            except (ConfigError, ShapeError) as error:
                self._refuse(places[0], f"'{name}' cannot be read: {error}")
        return found

    def _entries(self, directory: tuple[int, int, int], data: tuple[int, int, int]) -> list[Entry]:
        at, size, count = directory
        stop, data_at = at + size, data[0]
        names: set[str] = set()
        found: list[Entry] = []
        for index in range(count):
            if stop - at < ENTRY.size:
                self._refuse(at, f"the directory ends before tensor {index}")
            length, kind, bits, dims, pattern, zero, *rest = ENTRY.unpack_from(self.data, at)
            sides, places, (crc, zero_too) = rest[:4], rest[4:10], rest[10:]
            name_at = at + ENTRY.size
            if zero or zero_too or not 1 <= length <= min(MOST_NAME, stop - name_at):
                self._refuse(at, f"the entry of tensor {index} is wrong")
            raw = self.data[name_at : name_at + length]
            if not all(33 <= byte < 127 for byte in raw):
                self._refuse(name_at, f"the name of tensor {index} is no ASCII")
            name = raw.decode()
            if name in names:
                self._refuse(name_at, f"there are two tensors '{name}'")
            if kind not in FORMATS.values() or pattern not in _PATTERNS:
                self._refuse(at, f"'{name}' has the unknown format {kind} or pattern {pattern}")
            if not 1 <= dims <= MOST_DIMS or not all(1 <= side <= MOST_SIDE for side in sides):
                self._refuse(at, f"'{name}' has the impossible shape {sides}")
            if any(side != 1 for side in sides[dims:]):
                self._refuse(at, f"'{name}' has sides beyond its {dims} dimensions")
            parts, data_at = self._parts(name, at, places, data_at)
            if crc != checksum(parts):
                where = places[0]
                self._refuse(where, f"'{name}' is corrupted (its checksum is wrong)")
            shape = Shape(tuple(sides[:dims]), bits, _PATTERNS[pattern])
            found.append(Entry(name, shape, Payload(kind, *parts), places))
            names.add(name)
            at = name_at + length
        if at != stop:
            self._refuse(at, f"{stop - at} bytes left in the directory")
        if data_at != self.end:
            self._refuse(data_at, f"{self.end - data_at} bytes of data belong to no tensor")
        return found

    def _parts(self, name: str, entry: int, places: list[int], at: int) -> tuple[list[bytes], int]:
        """A tensor's payloads, which follow each other; where the next tensor begins."""
        parts = []
        for offset, size in zip(places[::2], places[1::2], strict=True):
            if not size:
                if offset:
                    self._refuse(entry, f"'{name}' has an offset of nothing")
                parts.append(b"")
                continue
            if offset != at or size > self.end - at:
                self._refuse(entry, f"'{name}' has {size} bytes at {offset}, which cannot be")
            parts.append(self.data[offset : offset + size])
            at = align(offset + size)
            self._zeros(offset + size, at)
        return parts, at

    def _signature(self) -> Signature:
        at, left = self.end, len(self.data) - self.end
        if left < SIGNATURE.size:
            self._refuse(len(self.data), "cut short in the signature")
        magic, algorithm, size, crc = SIGNATURE.unpack_from(self.data, at)
        if magic != SIGNATURE_MAGIC or not 1 <= size <= MOST_SIGNATURE:
            self._refuse(at, "the signature's beginning is wrong")
        if left != SIGNATURE.size + size:
            self._refuse(at, f"the signature has {left - SIGNATURE.size} bytes instead of {size}")
        if not 1 <= algorithm <= 255:
            self._refuse(at + 4, f"the signature's algorithm {algorithm} is unknown")
        found = self.data[at + SIGNATURE.size :]
        if zlib.crc32(found, zlib.crc32(self.data[at : at + 12])) != crc:
            self._refuse(at + 12, "the signature is corrupted (wrong checksum)")
        return Signature(algorithm, found)
