"""Updates between files: several in succession, and the way back, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from solomonic.compress.delta.update import Diff, apply_update, diff
from solomonic.core import CheckpointError, ConfigError, write_whole


def diff_files(old: str | Path, new: str | Path, out: str | Path) -> Diff:
    """Write the update that makes the device file `new` of `old`.

    Raises:
        CheckpointError: one of them is missing or no sound device file.
        ConfigError: `out` is one of them.
        StorageError: `out` cannot be written; what was there is unharmed.
    """
    _spare(out, "the update", (old, new))
    found = diff(_device_file(old), _device_file(new), names=(str(old), str(new)))
    write_whole(Path(out), found.data)
    return found


def patch_files(
    old: str | Path,
    updates: Sequence[str | Path],
    out: str | Path,
    undo: str | Path | None = None,
) -> int:
    """Apply updates one after the other and write the last result; `out` may be `old`.

    Nothing is written before the last result was checked.

    Args:
        undo: where to write the update that leads from the result back to `old`. It is complete on
            disk before `out` is replaced, and it restores `old` byte for byte.

    Returns:
        the size of the result.

    Raises:
        CheckpointError: a file is missing or damaged, or an update does not apply.
        ConfigError: `undo` or `out` would take the place of a file that is needed.
        StorageError: the disk is full or a place cannot be written; `old` is unharmed.
    """
    _spare(out, "the model", updates)
    if undo is not None:
        _spare(undo, "the way back", (old, out, *updates))
    before = _device_file(old)
    data, name = before, str(old)
    for update in updates:
        data = apply_update(data, _read(update, "the update"), str(update), name)
        name = f"{old} after {update}"
    if undo is not None:
        back = diff(data, before).data
        write_whole(Path(undo), back)
    write_whole(Path(out), data)
    return len(data)


def _spare(path: str | Path, what: str, needed: Sequence[str | Path]) -> None:
    """Refuse to write over a file that was given to be read."""
    if Path(path).resolve() in [Path(one).resolve() for one in needed]:
        raise ConfigError(f"{what} would be written over {path}; give it another name.")


def _device_file(path: str | Path) -> bytes:
    """A device file's bytes; a folder gets the advice that it needs."""
    if Path(path).is_dir():
        raise CheckpointError(
            f"{path} is a folder with a float model, and updates are exact only between device "
            f"files; make one with `solomonic compress {path} -o model.solo`, for both models with "
            "the same settings."
        )
    return _read(path, "the device file")


def _read(path: str | Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {what} {path} ({error.strerror}); check the name."
        ) from error
