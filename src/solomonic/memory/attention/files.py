"""A memory of chunks as one file (npz without pickles), refused by another model."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from solomonic.core import CheckpointError, StorageError
from solomonic.memory.attention.chunks import ChunkMemory, ChunkPlace, Shape

FORMAT = "solomonic-chunks"
VERSION = 1


def save_chunks(memory: ChunkMemory, path: str | Path, fingerprint: str) -> None:
    """Write the memory whole or not at all.

    Args:
        fingerprint: of the model whose keys and values these are.

    Raises:
        StorageError: the disk is full or the place cannot be written; an older file survives.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint,
        "shape": list(memory.shape),
        "places": [list(place) for place in memory.places],
    }
    arrays = {
        "tokens": memory.tokens,
        "vectors": memory.vectors,
        "log_weight": memory.log_weight,
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
    }
    for layer in memory.shape.layers:
        arrays[f"pairs.{layer}"] = memory.pairs(layer, np.arange(len(memory)))
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"the memory {path} could not be written ({error}); free some space or choose another "
            "place, nothing that was there has been changed."
        ) from error


def load_chunks(path: str | Path, fingerprint: str) -> ChunkMemory:
    """Read what `save_chunks` wrote.

    Raises:
        CheckpointError: missing, cut short, foreign, newer, or of another model.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(bytes(arrays.pop("header")))
    except FileNotFoundError as error:
        raise CheckpointError(f"the memory {path} does not exist; check the path.") from error
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        raise CheckpointError(
            f"the memory {path} is cut short or is no memory of chunks ({error}); read its "
            "texts again."
        ) from error
    if header.get("format") != FORMAT or header.get("version", 0) > VERSION:
        raise CheckpointError(
            f"{path} has format '{header.get('format')}' version {header.get('version')}, this "
            f"program reads '{FORMAT}' up to {VERSION}; update solomonic or give another file."
        )
    if header["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"the memory {path} holds keys and values of another model; read its texts again with "
            "this one."
        )
    tokens, layers, groups, size, vector = header["shape"]
    shape = Shape(tokens, tuple(layers), groups, size, vector)
    kind = arrays[f"pairs.{layers[0]}"].dtype.type if layers else np.float16
    memory = ChunkMemory(shape, kind)
    for number, place in enumerate(header["places"]):
        pairs = {layer: arrays[f"pairs.{layer}"][number] for layer in shape.layers}
        memory.add(
            arrays["tokens"][number], pairs, arrays["vectors"][number], ChunkPlace(*place),
            float(arrays["log_weight"][number]),
        )  # fmt: skip
    return memory
