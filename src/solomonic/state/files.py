"""State files: safetensors with a header that names the format, its version and the model."""

import json
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from safetensors.torch import save_file

from solomonic.core import CheckpointError, StorageError
from solomonic.state.base import State

AnyState = TypeVar("AnyState", bound=State)

FORMAT = "solomonic-state"
VERSION = 1


def save(state: State, path: str | Path, fingerprint: str = "") -> None:
    """Write a state to one file, whole or not at all.

    Args:
        fingerprint: identifies the model; `load` refuses another one's states.

    Raises:
        StorageError: the disk is full or the place cannot be written; an older file survives.
    """
    path = Path(path)
    tensors, header = _plain(state, fingerprint)
    handle, temporary = None, None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        os.close(handle)
        save_file(tensors, temporary, metadata=header)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"state file {path} could not be written ({error}); free some space or choose "
            "another place, nothing that was there has been changed."
        ) from error


def load(path: str | Path, like: AnyState, fingerprint: str = "") -> AnyState:
    """Read a state written by `save` into the tree of `like` (one row each, or equal rows).

    Args:
        like: a state of the same model, `model.init_state(batch)`; gives names and sizes.
        fingerprint: when not empty, must equal the one in the file.

    Raises:
        CheckpointError: missing, cut short, foreign, newer, or of another model.
    """
    path = Path(path)
    return place(_read(path, fingerprint), like, f"state file {path}")


def dumps(state: State, fingerprint: str = "", notes: str = "") -> bytes:
    """The bytes of the file that `save` writes, for a data base.

    Args:
        notes: text that is kept in the header, such as JSON.
    """
    tensors, header = _plain(state, fingerprint)
    return save_bytes(tensors, metadata=header | ({"notes": notes} if notes else {}))


def loads(data: bytes, like: AnyState, fingerprint: str = "") -> tuple[AnyState, str]:
    """What `dumps` wrote: the state in the tree of `like`, and the notes.

    Raises:
        CheckpointError: as `load`.
    """
    where = "a stored state"
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
        tensors = load_bytes(data)
    except (SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"{where} is cut short or corrupted ({error}); it must be made anew."
        ) from error
    _check_header(header, where, fingerprint)
    return place(tensors, like, where), header.get("notes", "")


def _plain(state: State, fingerprint: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header as they are written."""
    header = {"format": FORMAT, "version": str(VERSION), "fingerprint": fingerprint}
    return {n: tensor.detach().cpu().contiguous() for n, tensor in state.leaves()}, header


def place(tensors: dict[str, torch.Tensor], like: AnyState, where: str) -> AnyState:
    """The tree of `like` with the tensors read, each checked by name and shape.

    Args:
        where: names the file in messages.

    Raises:
        CheckpointError: a name or shape that is not the model's.
    """
    expected = {name: grows for name, _, grows in like.entries()}
    names = sorted(set(expected) ^ set(tensors))
    if names:
        raise CheckpointError(
            f"{where} belongs to another model: tensor '{names[0]}' is not in both; "
            "use the model that wrote it."
        )

    pending = iter(list(expected))

    def put(_: float, old: torch.Tensor) -> torch.Tensor:
        name = next(pending)
        new = tensors[name]
        fixed = 2 if expected[name] else 1  # the first dimension that must be equal
        if new.dim() != old.dim() or new.shape[fixed:] != old.shape[fixed:]:
            raise CheckpointError(
                f"{where} belongs to another model: '{name}' has shape "
                f"{tuple(new.shape)} where this model has {tuple(old.shape)}."
            )
        return new.to(device=old.device)

    return like.map(put)


def _read(path: Path, fingerprint: str) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as reader:
            _check_header(reader.metadata() or {}, f"state file {path}", fingerprint)
            # Copies: the file's memory map is not aligned, which changes some products' last bit.
            return {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"state file {path} does not exist; check the path.") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"state file {path} is cut short or corrupted ({error}); write it again."
        ) from error


def _check_header(header: dict[str, str], where: str, fingerprint: str) -> None:
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{where} is not a state file of solomonic; give another file.")
    if int(header["version"]) > VERSION:
        raise CheckpointError(
            f"{where} has version {header['version']}, this program reads up to {VERSION}; update "
            "solomonic."
        )
    if fingerprint and header["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{where} was written by another model ({json.dumps(header['fingerprint'])}); load "
            "that model instead."
        )
