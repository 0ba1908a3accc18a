"""Safetensors files in which every bit is vouched for: what is damaged is refused, by its place.

A safetensors file notices that its end is missing but not that a weight has flipped. Here the
header names a CRC-32 of each tensor and a SHA-256 of itself (with the digest's own 64 characters
taken as zeros), so the reader can say which bytes are wrong. Other programs read such a file as
plain safetensors.
"""

import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from solomonic.core import CheckpointError
from solomonic.core.files import write_whole

_EMPTY = "0" * 64
_MARK = b'{"__metadata__"'
_LONGEST = 100_000_000  # bytes of a header, safetensors' own limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: its name in the header, the newest version read, and what people call it."""

    format: str
    version: int
    title: str


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, str], kind: Kind) -> bytes:
    """The file's bytes.

    Args:
        header: text by name, kept as it is; "format", "version", "crc" and "digest" are taken.
    """
    plain = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    sums = {
        name: zlib.crc32(x.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, x in plain.items()
    }
    metadata = dict(header) | {
        "format": kind.format,
        "version": str(kind.version),
        "crc": json.dumps(sums, sort_keys=True),
        "digest": _EMPTY,
    }
    data = bytearray(save_bytes(plain, metadata=metadata))
    end = 8 + int.from_bytes(data[:8], "little")
    place = data.index(f'"digest":"{_EMPTY}"'.encode(), 8, end) + len('"digest":"')
    data[place : place + 64] = hashlib.sha256(data[:end]).hexdigest().encode()
    return bytes(data)


def write(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], kind: Kind
) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk is full or the place cannot be written; an older file survives.
    """
    write_whole(Path(path), pack(tensors, header, kind))


def read(path: str | Path, kind: Kind) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file.

    Raises:
        CheckpointError: missing, another kind of file, newer, cut short or damaged; the message
            says at which byte.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = int.from_bytes(start, "little")
            # The header first: nobody should wait for 5 GB that turn out to be something else.
            head = file.read(size if size <= _LONGEST else len(_MARK))
            where = f"{kind.title} {path}"
            record = _header(start + head, where, kind)
            return _tensors(start + head + file.read(), record, where), record["__metadata__"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{kind.title} {path} does not exist; check the path.") from error
    except OSError as error:
        raise CheckpointError(f"{kind.title} {path} cannot be read ({error.strerror}).") from error


def format_of(path: str | Path) -> str | None:
    """The format that a file's header names, whether or not the file is whole; None: no such
    header is there."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(8)
            head = file.read(min(int.from_bytes(start, "little"), 1 << 20))
    except OSError:
        return None
    found = re.search(rb'"format":"([a-z-]+)"', head)
    return found[1].decode() if head.startswith(_MARK) and found else None


def unpack(data: bytes, where: str, kind: Kind) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`read` from bytes; `where` names them in messages.

    Raises:
        CheckpointError: as `read`.
    """
    record = _header(data, where, kind)
    return _tensors(data, record, where), record["__metadata__"]


def _header(data: bytes, where: str, kind: Kind) -> dict[str, Any]:
    """The header's record, once it is certain that nobody has touched it."""
    foreign = CheckpointError(f"{where} is no {kind.title} of solomonic; give another file.")
    if len(data) < 8:
        raise CheckpointError(
            f"{where} is cut short: it ends at byte {len(data)}, within the length of its header "
            "(bytes 0 to 8); write it again."
        )
    end = 8 + int.from_bytes(data[:8], "little")
    if not data[8:].startswith(_MARK[: len(data) - 8]):
        raise foreign
    if end > _LONGEST:
        raise _damaged(where, f"bytes 0 to 8 announce a header of {end - 8} bytes")
    if len(data) < end:
        raise CheckpointError(
            f"{where} is cut short: it ends at byte {len(data)}, and its header at byte {end}; "
            "write it again."
        )
    try:
        text = data[8:end].decode()
        record = json.loads(text)
        metadata = record["__metadata__"]
        mine = metadata["format"]
    except UnicodeDecodeError as error:
        raise _damaged(where, f"byte {8 + error.start} of the header is no text") from error
    except json.JSONDecodeError as error:
        place = 8 + len(text[: error.pos].encode())
        raise _damaged(where, f"the header breaks off at byte {place} ({error.msg})") from error
    except (TypeError, KeyError) as error:
        raise foreign from error
    _check_digest(data[:end], metadata, where, foreign)
    if mine != kind.format:
        raise foreign
    if int(metadata["version"]) > kind.version:
        raise CheckpointError(
            f"{where} has version {metadata['version']}, this program reads up to "
            f"{kind.version}; update solomonic."
        )
    return record


def _check_digest(
    data: bytes, metadata: dict[str, str], where: str, foreign: CheckpointError
) -> None:
    digest = metadata.get("digest")
    if not isinstance(digest, str):
        raise foreign
    blank = data.replace(f'"digest":"{digest}"'.encode(), f'"digest":"{_EMPTY}"'.encode(), 1)
    if hashlib.sha256(blank).hexdigest() != digest:
        raise _damaged(where, f"the header (bytes 0 to {len(data)}) does not fit its digest")


def _tensors(data: bytes, record: dict[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors, each held against its checksum."""
    begin = 8 + int.from_bytes(data[:8], "little")
    sums = json.loads(record["__metadata__"]["crc"])
    spans = {name: record[name]["data_offsets"] for name in record if name != "__metadata__"}
    end = begin + max((stop for _, stop in spans.values()), default=0)
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if len(data) < begin + stop:
            raise CheckpointError(
                f"{where} is cut short: it ends at byte {len(data)} of {end}, within '{name}' "
                f"(bytes {begin + start} to {begin + stop}); write it again."
            )
        if zlib.crc32(memoryview(data)[begin + start : begin + stop]) != sums[name]:
            span = f"bytes {begin + start} to {begin + stop}, '{name}',"
            raise _damaged(where, f"{span} do not fit their checksum")
    if len(data) > end:
        raise _damaged(where, f"it goes on to byte {len(data)} and should end at byte {end}")
    # Copies: tensors in one buffer are not aligned, which changes some products' last bit.
    return {name: tensor.clone() for name, tensor in load_bytes(data).items()}


def _damaged(where: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{where} is damaged: {reason}; write it again or take a copy.")
