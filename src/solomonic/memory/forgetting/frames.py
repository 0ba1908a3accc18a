"""Bytes of a forgetting's state: kind, settings and arrays, with a checksum; no pickle.

    "SLFG" version (1 byte) CRC-32 (4) | length of the header (4) | header (JSON) | arrays

The header names every array with its type and shape; they follow in that order, little-endian.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from solomonic.core import CheckpointError

_MAGIC, _VERSION = b"SLFG", 1
_TYPES = ("<f8", "<i8")


def pack(
    kind: str,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> bytes:
    """One state. `facts` are plain JSON values; arrays are stored as float64 or int64."""
    stored = {name: _plain(array) for name, array in arrays.items()}
    listed = {name: [array.dtype.str, list(array.shape)] for name, array in stored.items()}
    record = {"kind": kind, "settings": settings, "facts": facts, "arrays": listed}
    head = json.dumps(record, sort_keys=False).encode()
    body = len(head).to_bytes(4, "little") + head + b"".join(a.tobytes() for a in stored.values())
    return _MAGIC + bytes([_VERSION]) + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(data: bytes) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Kind, settings, facts and arrays (the caller's own) of `pack`'s bytes.

    Raises:
        CheckpointError: they are cut short, damaged, newer, or no state of a forgetting.
    """
    if data[:4] != _MAGIC:
        raise CheckpointError(
            "this is no state of a forgetting (it does not begin with SLFG), or it is cut short "
            "or damaged."
        )
    if data[4:5] > bytes([_VERSION]):
        raise CheckpointError(
            f"the state of the forgetting has version {data[4]}, this program reads up to "
            f"{_VERSION}; update solomonic."
        )
    body = data[9:]
    if len(data) < 13 or zlib.crc32(body).to_bytes(4, "little") != data[5:9]:
        raise CheckpointError("the state of the forgetting is cut short or damaged.")
    size = int.from_bytes(body[:4], "little")
    record = json.loads(body[4 : 4 + size])
    arrays, offset = {}, 4 + size
    for name, (dtype, shape) in record["arrays"].items():
        if dtype not in _TYPES:
            raise CheckpointError(f"the state of the forgetting holds an array of type {dtype}.")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype, count, offset).reshape(shape).copy()
        offset += 8 * count
    return record["kind"], record["settings"], record["facts"], arrays


def _plain(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype="<f8" if array.dtype.kind == "f" else "<i8")
