"""Items as rows of the truth, and rows as items."""

import json
import math
import time
from typing import Any

import numpy as np

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.memory.item import Item, NewItem, Vector
from solomonic.memory.truth import Row

LEAST_WEIGHT = 1e-12
"""Below this all weights count alike, so that their logarithms stay finite."""


def key(vector: Vector, dim: int | None, name: str) -> np.ndarray:
    """A vector as the store keeps it: (dim,) float16, finite.

    Args:
        dim: what the memory has; None if it has no vectors yet.
        name: what the vector is, for messages.

    Raises:
        ShapeError: it is no vector, or of another dimension.
        DataError: it has numbers that float16 cannot keep.
    """
    array = np.asarray(vector)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiub":
        raise ShapeError(
            f"{name} has shape {array.shape} and type {array.dtype}; give one row of numbers."
        )
    if dim is not None and len(array) != dim:
        raise ShapeError(
            f"{name} has {len(array)} dimensions and this memory has {dim}; use the model that the"
            " memory was written with, or another memory."
        )
    with np.errstate(over="ignore"):
        kept = array.astype("<f2")
    if not np.isfinite(kept).all():
        raise DataError(
            f"{name} has numbers that are not finite in float16 (beyond 65,504); scale it first."
        )
    return kept


def row_of(new: NewItem, dim: int | None, place: tuple[int, int, int]) -> list[Any]:
    """The row of a new item, in the order of `schema.COLUMNS`.

    Args:
        place: number, segment and step of the item.

    Raises:
        DataError: a text that is not Unicode, a time that is no number, or meta beyond JSON.
    """
    id_, segment, step = place
    for name in ("text", "source", "kind"):
        value = getattr(new, name)
        if not isinstance(value, str):
            raise DataError(f"{name} of an item is a {type(value).__name__}; give a string.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{name} of an item holds a lone surrogate at {error.start}, which is no"
                    " Unicode; decode its bytes with errors='replace' first."
                ) from error
    start, end = new.valid
    written = time.time() if new.time is None else new.time
    for value in (start, end, written):
        if value is not None and not math.isfinite(value):
            raise DataError(f"a time of an item is {value}; give unix seconds, or None.")
    if not (isinstance(new.offset, int | np.integer) and 0 <= new.offset < 1 << 62):
        raise DataError(f"offset of an item is {new.offset!r}; it counts characters from 0.")
    if start is not None and end is not None and end < start:
        raise DataError(f"an item is valid from {start} to {end}, which is earlier; swap them.")
    if not new.log_weight <= 0:
        raise ConfigError(f"log_weight is {new.log_weight}; it is a number of at most 0.")
    try:
        meta = json.dumps(dict(new.meta), allow_nan=False) if new.meta else None
    except (TypeError, ValueError) as error:
        raise DataError(f"meta of an item is not JSON ({error}); give plain values.") from error
    vector = None if new.vector is None else key(new.vector, dim, "the vector").tobytes()
    return [
        id_, float(written), new.kind, new.text, new.source, int(new.offset), start, end, segment,
        step, float(new.log_weight), 0, meta, vector,
    ]  # fmt: skip


def item_of(row: Row, survival: float = 1.0) -> Item:
    """The item of a row, where `survival` is the probability that nothing has changed since."""
    vector = row[13]
    return Item(
        id=row[0],
        time=row[1],
        kind=row[2],
        text=row[3],
        source=row[4],
        offset=row[5],
        valid_from=row[6],
        valid_to=row[7],
        segment=row[8],
        step=row[9],
        log_weight=row[10] + math.log(max(survival, LEAST_WEIGHT)),
        hits=row[11],
        meta=json.loads(row[12]) if row[12] else {},
        vector=None if vector is None else np.frombuffer(vector, dtype="<f2"),
    )
