"""Sorted suffixes beside a memory's file, so that the next process need not sort its texts again.

    magic (8 bytes) | SHA-256 of the texts (32) | places, int32 | SHA-256 of all before (32)

Derived, as an index is: a file that is cut, changed or of other texts is not used and is written
anew. It is for the owner's eyes only, and what is forgotten takes it along (`Memory.forget`).
"""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from solomonic.core import StorageError
from solomonic.memory.quotes.suffixes import SuffixArray, sort_suffixes
from solomonic.memory.snapshot import DIGEST, sweep, write_parts

MAGIC = b"SOLMSUF1"
LEAST = 1 << 18
"""Bytes of texts below which sorting, a tenth of a second, costs less than another file."""


def suffix_array(data: bytes, path: Path | None) -> SuffixArray:
    """Of `data`, as the file at `path` holds it; sorted, and kept there, where it does not.

    Raises:
        ConfigError: more than `suffixes.LARGEST` bytes.
    """
    if path is None or len(data) < LEAST:
        return SuffixArray(data)
    head = MAGIC + hashlib.sha256(data).digest()
    order = _read(path, head, len(data))
    if order is None:
        order = sort_suffixes(data)
        # Without the right to write there, or without space, the next process sorts again.
        with contextlib.suppress(StorageError):
            write_parts(path, (head, order.astype("<i4", copy=False).data.cast("B"))).put()
            sweep(path)
    return SuffixArray(data, order)


def _read(path: Path, head: bytes, count: int) -> np.ndarray | None:
    """The places, int32 (count,), if the file is whole and begins with `head`."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    if not raw.startswith(head) or len(raw) != len(head) + 4 * count + DIGEST:
        return None
    if hashlib.sha256(memoryview(raw)[:-DIGEST]).digest() != raw[-DIGEST:]:
        return None
    return np.frombuffer(raw, "<i4", count, len(head)).astype(np.int32, copy=False)
