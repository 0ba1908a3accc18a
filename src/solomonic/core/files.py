"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from solomonic.core.errors import StorageError


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash leaves what was there or all of it.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".unfinished-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # the temporary file's 0600 is for secrets
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path} ({error.strerror}): what was there before is unharmed; free "
            "some space and try again."
        ) from error
