"""Contents to a device file, whole or not at all."""

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

from solomonic.compress.pack.contents import Pack, Signature, Vocabulary
from solomonic.compress.pack.layout import (
    ENTRY,
    FLAG_SIGNED,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    MOST_DIMS,
    PATTERN_NUMBERS,
    PIECE,
    SIGNATURE,
    SIGNATURE_MAGIC,
    VERSION,
    VOCABULARIES,
    VOCABULARY,
    align,
)
from solomonic.compress.pack.payload import Payload, Shape, encode_tensor
from solomonic.core import write_whole


def write_pack(path: str | Path, contents: Pack) -> str:
    """Write the file; equal contents give equal bytes.

    Returns:
        its identity (`pack_identity`).

    Raises:
        StorageError: the disk is full or the place cannot be written; what was there is unharmed.
    """
    data = build_pack(contents)
    write_whole(Path(path), data)
    return hashlib.sha256(data[: content_size(data)]).hexdigest()


def build_pack(contents: Pack) -> bytes:
    """The bytes of the file."""
    config = _config(contents)
    vocabulary = b"" if contents.vocabulary is None else _vocabulary(contents.vocabulary)
    encoded = {name: encode_tensor(tensor) for name, tensor in contents.tensors.items()}
    sizes = [len(config), len(vocabulary), sum(ENTRY.size + len(name) for name in encoded)]
    offsets = [HEADER_BYTES]
    for size in sizes:
        offsets.append(align(offsets[-1] + size))
    directory, data = _tensors(encoded, offsets[3])
    counts = (
        len(contents.config),
        0 if contents.vocabulary is None else len(contents.vocabulary.pieces),
        len(encoded),
    )
    parts = (config, vocabulary, directory)
    sections = []
    for offset, part, count in zip(offsets, parts, counts, strict=False):
        sections += [offset, len(part), count, zlib.crc32(part)]
    sections += [offsets[3], len(data), 0, 0]
    flags = 0 if contents.signature is None else FLAG_SIGNED
    header = HEADER.pack(MAGIC, VERSION, flags, offsets[3] + len(data), *sections, 0, 0)
    header = header[:-4] + zlib.crc32(header[:-4]).to_bytes(4, "little")
    body = header + b"".join(_padded(part) for part in parts) + data
    return body + (b"" if contents.signature is None else _signature(contents.signature))


def content_size(data: bytes) -> int:
    """Bytes of a file's contents, which is all but a signature."""
    return int.from_bytes(data[16:24], "little")


def _config(contents: Pack) -> bytes:
    lines = (f"{key}={contents.config[key]}\n" for key in sorted(contents.config))
    return "".join(lines).encode()


def _vocabulary(vocabulary: Vocabulary) -> bytes:
    flags = (
        1 * vocabulary.dummy_prefix
        | 2 * vocabulary.squeeze_spaces
        | 4 * vocabulary.escape_spaces
        | 8 * vocabulary.rewrites
    )
    kind = VOCABULARIES.index(vocabulary.kind)
    parts = [VOCABULARY.pack(kind, flags, len(vocabulary.pieces), len(vocabulary.rest))]
    for piece in vocabulary.pieces:
        parts += [PIECE.pack(len(piece.text), piece.type, 0, piece.score), piece.text]
    return b"".join((*parts, vocabulary.rest))


def _tensors(encoded: dict[str, tuple[Shape, Payload]], start: int) -> tuple[bytes, bytes]:
    """The directory, and the data section that begins at byte `start` of the file."""
    directory, data, at = [], [], start
    for name, (shape, payload) in encoded.items():
        places: list[int] = []
        for part in payload[1:]:
            places += [at if part else 0, len(part)]
            data.append(_padded(part))
            at += len(data[-1])
        sides = [*shape.shape, *[1] * (MOST_DIMS - len(shape.shape))]
        crc = checksum(payload[1:])
        pattern = PATTERN_NUMBERS[shape.pattern]
        kind = (payload.format, shape.bits, len(shape.shape), pattern)
        directory += [ENTRY.pack(len(name), *kind, 0, *sides, *places, crc, 0), name.encode()]
    return b"".join(directory), b"".join(data)


def checksum(parts: Sequence[bytes]) -> int:
    """CRC-32 of byte strings one after the other."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def _padded(part: bytes) -> bytes:
    return part + bytes(align(len(part)) - len(part))


def _signature(signature: Signature) -> bytes:
    algorithm, data = signature
    head = SIGNATURE.pack(SIGNATURE_MAGIC, algorithm, len(data), 0)[:-4]
    return head + checksum((head, data)).to_bytes(4, "little") + data
