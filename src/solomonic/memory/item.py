"""What a memory holds and hands out: items, hits, segments."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.core import SolomonicError

Vector = np.ndarray | Sequence[float]


class NotFoundError(SolomonicError, LookupError):
    """What was asked for is not in the memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Item:
    """One verbatim memory.

    Attributes:
        id: grows by one with every item; the number of a forgotten item never comes again.
        time: unix seconds when it was written.
        kind: what sort of thing it is ("text", "fact", "solution"); searches can ask for one kind.
        text: verbatim.
        vector: its key, float16 of shape (dim,); None for an item that only words find.
        source: where the text is from, such as a path or an address.
        offset: characters of `source` before `text`.
        valid_from: unix seconds from which it holds; None since ever.
        valid_to: unix seconds from which it no longer holds; None for ever.
        segment: number of the segment of the stream in which it was written.
        log_weight: logarithm of what it counts for now, at most 0: what it was given when written,
            plus the logarithm of the probability that the world has not changed since.
        hits: how often a search has answered with it.
        meta: whatever else was given, in JSON's types.
        step: of the change detector, when it was written.
    """

    id: int
    time: float
    kind: str
    text: str
    vector: np.ndarray | None
    source: str
    offset: int
    valid_from: float | None
    valid_to: float | None
    segment: int
    log_weight: float
    hits: int
    meta: dict[str, Any]
    step: int = 0


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NewItem:
    """What `Memory.write_many` takes; the fields are those of `Item`.

    Attributes:
        valid: (from, to), unix seconds or None.
        time: None for now.
        log_weight: at most 0; what the item counts for before anything changes.
    """

    text: str
    vector: Vector | None = None
    source: str = ""
    offset: int = 0
    kind: str = "text"
    valid: tuple[float | None, float | None] = (None, None)
    time: float | None = None
    meta: Mapping[str, Any] | None = None
    log_weight: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Hit:
    """An answer of a search.

    Attributes:
        score: similarity plus the logarithm of the weight; answers are ordered by it.
        similarity: by vectors, the memory's metric; by words, BM25; by both, between 0 and 1.
        weight: in (0, 1], what the item counts for now.
    """

    item: Item
    score: float
    similarity: float
    weight: float


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of the stream without a change.

    Attributes:
        t0: step of the change detector at which it began.
        t1: step at which it ended; None while it lasts.
        stats: what was kept of it when it ended.
    """

    id: int
    t0: int
    t1: int | None
    stats: bytes
