"""Snapshots of an index: whole or not there, and known to belong to the memory beside them.

    magic (8 bytes) | length of header (8) | header (JSON) | ids | keys | lists | SHA-256 (32)

A snapshot is derived: one that is cut, changed, foreign, of another version or older than what the
memory still knows how to bring up to date is left aside with its reason, and the index made again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from solomonic.core import StorageError

MAGIC = b"SOLMIDX1"
STEP = 1 << 24  # bytes hashed and written at once
DIGEST = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """What an index was made of, and up to where it had followed the memory.

    Attributes:
        uuid: of the memory.
        token: of this snapshot; the memory knows those that belong to it.
        last_id: newest item that it has looked at.
        last_gone: number in the log of the newest forgotten item that it has looked at.
        ids: (n,) int64, ascending.
        keys: (n, dim) float16.
        lists: state of an `IvfIndex`; empty for an exact index.
    """

    uuid: str
    token: str
    metric: str
    last_id: int
    last_gone: int
    ids: np.ndarray
    keys: np.ndarray
    lists: bytes


def save(path: Path, snapshot: Snapshot) -> "Pending":
    """Write a snapshot beside its place; `Pending.put` gives it its name.

    Raises:
        StorageError: no space, or no right to write there; nothing is left behind.
    """
    header = json.dumps(
        {
            "uuid": snapshot.uuid,
            "token": snapshot.token,
            "metric": snapshot.metric,
            "last_id": snapshot.last_id,
            "last_gone": snapshot.last_gone,
            "rows": len(snapshot.ids),
            "dim": snapshot.keys.shape[1],
            "lists": len(snapshot.lists),
        }
    ).encode()
    parts = (
        MAGIC + len(header).to_bytes(8, "little") + header,
        snapshot.ids.astype("<i8", copy=False).data.cast("B"),
        np.ascontiguousarray(snapshot.keys, dtype="<f2").data.cast("B"),
        snapshot.lists,
    )
    return write_parts(path, parts)


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> "Pending":
    """Write parts and the SHA-256 of them all beside `path`, for the owner's eyes only.

    Raises:
        StorageError: no space, or no right to write there; nothing is left behind.
    """
    digest = hashlib.sha256()
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}-unfinished-", delete=False
        ) as file:
            temporary = Path(file.name)
            for part in parts:
                for start in range(0, len(part), STEP):
                    piece = part[start : start + STEP]
                    digest.update(piece)
                    file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _unwritten(path, error) from error
    return Pending(temporary, path)


@dataclasses.dataclass(frozen=True)
class Pending:
    """A snapshot that is on the disk under another name."""

    temporary: Path
    path: Path

    def put(self) -> None:
        """Give it its name, in place of the one before."""
        try:
            os.replace(self.temporary, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self.drop()
            raise _unwritten(self.path, error) from error

    def drop(self) -> None:
        """Leave the one before in its place."""
        self.temporary.unlink(missing_ok=True)


class UnusableError(Exception):
    """A snapshot cannot be used; the message is the end of a sentence that begins with its path."""


def load(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        FileNotFoundError: there is none.
        UnusableError: it is not what was written.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(16)
        if start[:8] != MAGIC:
            raise UnusableError("is no index of this version" if start else "is empty")
        length = int.from_bytes(start[8:], "little")
        if not 0 < length <= min(size, 1 << 16):
            raise UnusableError("is cut short")
        header = file.read(length)
        with _damage():
            said = json.loads(header)
            n, dim, lists = said["rows"], said["dim"], said["lists"]
        if size != 16 + length + 8 * n + 2 * n * dim + lists + DIGEST:
            raise UnusableError("is cut short")
        digest = hashlib.sha256(start + header)
        ids = np.empty(n, dtype="<i8")
        keys = np.empty((n, dim), dtype="<f2")
        state = bytearray(lists)
        for part in (ids.data.cast("B"), keys.data.cast("B"), memoryview(state)):
            for place in range(0, len(part), STEP):
                piece = part[place : place + STEP]
                file.readinto(piece)
                digest.update(piece)
        if file.read(DIGEST) != digest.digest():
            raise UnusableError("has changed since it was written")
    with _damage():
        return Snapshot(
            said["uuid"], said["token"], said["metric"], said["last_id"], said["last_gone"],
            ids, keys, bytes(state),
        )  # fmt: skip


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableError("has changed since it was written") from error


def sweep(path: Path) -> None:
    """Remove what a killed process left unfinished."""
    for left in path.parent.glob(f".{path.name}-unfinished-*"):
        left.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the index {path} was not saved ({error.strerror}); nothing is lost, but the next opening"
        " takes longer: free some space."
    )
