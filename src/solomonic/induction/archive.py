"""Archives: the range coder's bytes in checked blocks, for files of any length in bounded memory.

    "SLMZ" version | identity of the predictor (CRC-32) | its name, one byte of length
    block: bytes of text | symbols | bytes of code (varints) | CRC-32 of the text | code
    end:   0 | blocks (varint) | CRC-32 of the whole text

The predictor goes on from block to block. A name is what the command line builds the predictor
from; the identity (settings, weights, engine) must be equal too, or nothing is decoded.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from solomonic.core import CheckpointError, DataError, Predictor
from solomonic.induction import coding

MAGIC, VERSION = b"SLMZ", 1
BLOCK = 1 << 18  # bytes of text a block
_MOST = 1 << 22  # what a reader accepts


class Readable(Protocol):
    """Bytes in order: an open file, or what stands for one."""

    def read(self, size: int, /) -> bytes: ...


class Codec(Protocol):
    """How text becomes symbols of a predictor; see `ByteCodec` and `solomonic.lm.predictor`."""

    name: str
    identity: str

    @property
    def predictor(self) -> Predictor:
        """What codes the symbols."""
        ...

    def symbols(self, data: bytes) -> list[int] | bytes:
        """The symbols that stand for `data`."""
        ...

    def text(self, symbols: list[int]) -> bytes:
        """The bytes that symbols stand for: the inverse."""
        ...


class ByteCodec:
    """Bytes are symbols of a predictor with an alphabet of 256."""

    def __init__(self, name: str, predictor: Predictor, identity: str) -> None:
        self.name, self.predictor, self.identity = name, predictor, identity

    def symbols(self, data: bytes) -> list[int] | bytes:
        return data

    def text(self, symbols: list[int]) -> bytes:
        return bytes(symbols)


def compress(codec: Codec, source: Readable, target: BinaryIO, block: int = BLOCK) -> int:
    """Write the archive of `source`; returns its bytes. The codec's predictor must be new."""
    name = codec.name.encode()[:255]
    head = MAGIC + bytes([VERSION]) + _crc(codec.identity.encode()) + bytes([len(name)]) + name
    written, count, total = target.write(head), 0, 0
    while data := source.read(block):
        symbols = codec.symbols(data)
        coded = coding.encode(codec.predictor, symbols)
        sizes = _varint(len(data)) + _varint(len(symbols)) + _varint(len(coded))
        written += target.write(sizes + _crc(data) + coded)
        total, count = zlib.crc32(data, total), count + 1
    written += target.write(b"\0" + _varint(count) + total.to_bytes(4, "little"))
    return written


class ArchiveReader:
    """Reads an archive's head, then its text.

    Raises:
        DataError: at any point: it is no archive, newer, cut short or damaged, with the offset.
    """

    def __init__(self, source: Readable) -> None:
        self._source, self.offset = source, 0
        if self._take(4, "its head") != MAGIC:
            raise DataError(
                "this is no archive of `solomonic zip` (it does not begin with SLMZ); give one "
                "that it wrote."
            )
        version = self._take(1, "its head")[0]
        if version > VERSION:
            raise DataError(
                f"the archive has version {version}, this program reads up to {VERSION}; update "
                "solomonic."
            )
        self._identity = self._take(4, "its head")
        name = self._take(self._take(1, "its head")[0], "its head")
        try:
            self.name = name.decode()
        except UnicodeDecodeError:
            raise self._damaged("its name") from None

    def check(self, codec: Codec) -> None:
        """Raise `CheckpointError` unless `codec` is the one the archive was made with."""
        if _crc(codec.identity.encode()) != self._identity:
            raise CheckpointError(
                f"the archive was made by another predictor or model than this '{codec.name}' "
                f"(it says '{self.name}'); give the one it was made with, in the same version, on "
                "the same kind of machine."
            )

    def text(self, codec: Codec) -> Iterator[bytes]:
        """The text, a checked block at a time. The codec's predictor must be new."""
        self.check(codec)
        total = count = 0
        while size := self._number():
            symbols, length = self._number(), self._number()
            begin = self.offset
            if max(size, symbols, length) > _MOST:
                raise self._damaged("impossible sizes")
            wanted, coded = self._take(4, "a block"), self._take(length, "a block")
            data = codec.text(coding.decode(codec.predictor, coded, symbols))
            if len(data) != size or _crc(data) != wanted:
                raise DataError(
                    f"the block at byte {begin} of the archive is damaged: its text does not match "
                    "its checksum; get the archive again."
                )
            total, count = zlib.crc32(data, total), count + 1
            yield data
        if self._number() != count or self._take(4, "its end") != total.to_bytes(4, "little"):
            raise self._damaged("blocks are missing")
        if self._source.read(1):
            raise self._damaged("there is more behind its end")

    def _damaged(self, what: str) -> DataError:
        return DataError(f"the archive is damaged at byte {self.offset}: {what}; get it again.")

    def _take(self, size: int, what: str) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise DataError(
                f"the archive is cut short: it ends at byte {self.offset + len(data)} within "
                f"{what}; get it again."
            )
        self.offset += size
        return data

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1, "a size")[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 35:
                raise self._damaged("a size")


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
