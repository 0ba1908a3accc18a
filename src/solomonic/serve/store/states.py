"""Model states: files beside a SQLite database, or bytes in the rows of PostgreSQL.

Why two ways: beside a file that one machine owns, a folder keeps the database small (SQLite copies
every change twice, VACUUM all of it). PostgreSQL is for several machines, which share no folder
but the database; there a state commits, replicates and is backed up with its row.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solomonic.core import CheckpointError, DataError, StorageError
from solomonic.core.files import write_whole

ENDING = ".safetensors"
UNFINISHED = ".unfinished-"  # what core.files.write_whole calls a file in the making
HEADER_LIMIT = 16 << 20  # bytes; more is no header of ours


class StateFiles:
    """A folder of state files, each written once and never changed.

    The bytes are put on the disk first, as the sweep of another process may meet them, under a
    name that says so. Within the transaction whose row names it the file gets its own name; the
    sweep runs in a transaction too, and as these take turns, it never meets a file that is named
    but has no row yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsynced = False

    def prepare(self) -> None:
        """Make the folder, for its owner's eyes only (StorageError where this fails)."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the folder of states {self.folder} cannot be made ({error.strerror}); give a "
                "place where the server may write."
            ) from error

    def stage(self, data: bytes) -> str | None:
        """Put bytes on the disk; the name to give to `adopt`, None where a sweep came between.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        name = UNFINISHED + uuid.uuid4().hex
        try:
            write_whole(self.folder / name, data)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return name

    def adopt(self, staged: str | None, name: str, data: bytes) -> None:
        """Give staged bytes their name; within a transaction that calls `settle` at its end."""
        self._unsynced = True
        if staged is not None:
            try:
                os.replace(self.folder / staged, self.folder / name)
                return
            except FileNotFoundError:
                pass  # swept: written again below, where no sweep can run
            except OSError as error:
                raise StorageError(
                    f"a state file in {self.folder} cannot be named ({error.strerror}); free some "
                    "space and try again."
                ) from error
        write_whole(self.folder / name, data)

    def settle(self) -> None:
        """Wait until new names are on the disk, before the rows that name them are committed."""
        if self._unsynced:
            self.sync()
            self._unsynced = False

    def read(self, name: str) -> bytes:
        """The bytes of a file (FileNotFoundError when a newer commit has removed it)."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(
                f"state file {self.folder / name} cannot be read ({error.strerror}); check the "
                "disk and the permissions."
            ) from error

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that no row names any more."""
        try:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"a state file in {self.folder} cannot be deleted ({error.strerror}); the next "
                "start tries again."
            ) from error

    def sweep(self, named: set[str]) -> int:
        """Delete what a crash left: files that no row names. How many there were."""
        try:
            found = [entry.name for entry in os.scandir(self.folder)]
        except OSError as error:
            raise StorageError(
                f"the folder of states {self.folder} cannot be read ({error.strerror}); check "
                "its permissions."
            ) from error
        orphans = [
            name
            for name in found
            if name not in named and (name.endswith(ENDING) or name.startswith(UNFINISHED))
        ]
        self.remove(orphans)
        return len(orphans)

    def sync(self) -> None:
        """Wait until the disk knows which files there are."""
        if os.name != "posix":  # elsewhere folders cannot be opened
            return
        try:
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.folder} ({error.strerror}); check the disk."
            ) from error


def file_name(user_id: int, revision: int, data: bytes) -> str:
    """Whose state after which change, and the start of its content's hash. No user's name."""
    return f"{user_id}-{revision}-{hashlib.sha256(data).hexdigest()[:16]}{ENDING}"


def checked(data: bytes, sha256: bytes, what: str) -> bytes:
    """The bytes of a state, if they are the ones that were committed (CheckpointError)."""
    if hashlib.sha256(data).digest() != sha256:
        raise CheckpointError(
            f"{what} is damaged: its bytes are not the ones that were stored; restore a backup, "
            "or let the user's next utterance write a new one."
        )
    return data


def valid_state(data: bytes, fingerprint: str, limit: int) -> bytes:
    """`data` where it is a whole safetensors file within the limit, of this model.

    Raises:
        DataError: too large, no safetensors file, or one that names another model.
    """
    if len(data) > limit:
        raise DataError(
            f"a state of {len(data)} bytes is over the limit of {limit}; raise max_state_bytes."
        )
    header = _header(data)
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    begin = 8 + int.from_bytes(data[:8], "little")
    if begin + max(ends, default=0) != len(data):
        raise DataError("a state is cut short: its safetensors header names more or fewer bytes.")
    written = header.get("__metadata__", {}).get("fingerprint", "")
    if fingerprint and written and written != fingerprint:
        raise DataError(
            "a state names another model than the one it was given with; give it with its own."
        )
    return data


def _header(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 or size > min(HEADER_LIMIT, len(data) - 8):
            raise ValueError("too short")
        header = json.loads(data[8 : 8 + size])
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if not all(isinstance(entry["data_offsets"][1], int) for entry in tensors.values()):
            raise ValueError("offsets")
        if not isinstance(header.get("__metadata__", {}), dict):
            raise ValueError("metadata")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            "a state is the bytes of a safetensors file; these are something else."
        ) from error
    return header
