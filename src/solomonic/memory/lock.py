"""One writer at a time: a lock that the system itself lets go when the process ends, however."""

import contextlib
import os
import time
from pathlib import Path

from solomonic.core import StorageError

try:
    import fcntl
except ImportError:  # Windows: SQLite alone orders the writers
    fcntl = None

POLL_SECONDS = 0.05


class WriterLock:
    """Holds `PATH-writer` locked, with the number of this process in it.

    SQLite orders transactions of several writers, but two change detectors cannot both say what
    the stream is like, and numbers of items are given out by one.

    Raises:
        StorageError: another process, or another `Memory` of this one, writes; or no right to.
    """

    def __init__(self, memory: Path, timeout: float) -> None:
        path = memory.with_name(f"{memory.name}-writer")
        end = time.monotonic() + timeout
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(
                f"the memory {memory} cannot be written ({error.strerror}); give a place that you"
                " may write, or open it with read_only."
            ) from error
        while not self._taken():
            if time.monotonic() >= end:
                who = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip() or "?"
                self.release()
                raise StorageError(
                    f"the memory {memory} is being written by process {who}; wait until it ends,"
                    " or open it with read_only."
                )
            time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.truncate(self._handle, 0)
            os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def _taken(self) -> bool:
        if fcntl is None or self._handle is None:
            return True
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let another write; may be called twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
