"""Documents in a memory: added once, whole or to be gone on with, replaced by newer versions.

For every document the memory keeps a record under its bytes' hash, in the same transaction as its
passages: what was acknowledged is there, and an interrupted adding goes on behind it.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from solomonic.core import DataError
from solomonic.memory.documents.document import Document
from solomonic.memory.documents.passages import Passage, PassageConfig, cut
from solomonic.memory.item import NewItem
from solomonic.memory.store import Memory

if TYPE_CHECKING:
    import numpy as np

KIND = "passage"
"""Of the items that documents become."""
BATCH = 64
"""Passages written, and made into vectors, at a time."""

Embed = Callable[[Sequence[str]], "np.ndarray"]
Valid = tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True)
class Added:
    """What became of a document.

    Attributes:
        source: what the memory calls it: for a document that was known already, perhaps by
            another name than the one it came with now.
        status: "added", "known" (nothing was written), "resumed" (an interrupted adding was
            completed) or "replaced" (an older version was forgotten).
        passages: it has now.
        written: of them, just now.
        forgotten: passages of the older version.
        characters: of extracted text in its passages.
    """

    source: str
    status: str
    passages: int
    written: int
    forgotten: int = 0
    characters: int = 0


@dataclasses.dataclass
class _Record:
    """Of one document, by its hash: how far it is, and which items are its own."""

    source: str
    size: int  # of passages
    passages: int = 0
    characters: int = 0
    first: int = 0  # numbers of items
    last: int = 0
    done: bool = False


def add_document(
    memory: Memory,
    document: Document,
    config: PassageConfig | None = None,
    *,
    embed: Embed | None = None,
    valid: Valid = (None, None),
    keep_old: bool = False,
    watch: Callable[[int], None] | None = None,
) -> Added:
    """Keep a document's passages, each with its place.

    The same bytes are never stored twice, whatever their name. Another document of the same source
    is an older version: it is forgotten when the new one is complete.

    Args:
        embed: makes vectors of texts, such as `solomonic.lm.embed.Embedder`.
        valid: (from, to) in unix seconds, of all passages.
        keep_old: keep older versions as well.
        watch: is told after each batch how many passages are there.

    Raises:
        DataError: the document is broken or holds no text.
        StorageError: the disk is full; what was acknowledged is there, and the next call goes on.
    """
    config = config or PassageConfig()
    record, there = _begun(memory, document, config)
    if record.done:
        return Added(record.source, "known", there, 0, 0, record.characters)
    status, before = "resumed" if there else "added", record.passages
    passages = islice(cut(document.parts(), config), record.passages, None)
    while batch := list(islice(passages, BATCH)):
        _write(memory, document, record, _items_of(batch, document, embed, valid))
        if watch:
            watch(record.passages)
    if not record.passages:
        raise DataError(f"{document.source} holds no text.")
    gone = 0
    with memory.transaction():
        record.done = True
        _keep(memory, document.sha256, record)
        for sha256 in [] if keep_old else _older(memory, document):
            old = _record(memory, sha256)
            gone += _forget(memory, old) if old else 0
            memory.set_state(_name(sha256), b"")
        if gone:
            _tell_versions(memory, document.source, [document.sha256])
    status = "replaced" if gone else status
    written = record.passages - before
    return Added(document.source, status, record.passages, written, gone, record.characters)


def forget_document(memory: Memory, source: str) -> int:
    """Forget all that is from `source`, and that it was added; how many items.

    Raises:
        NotFoundError: nothing is from there.
    """
    with memory.transaction():
        count = memory.forget_source(source)
        for sha256 in _told(memory, source):
            memory.set_state(_name(sha256), b"")
        memory.set_state(_versions(source), b"")
    return count


def _begun(memory: Memory, document: Document, config: PassageConfig) -> tuple[_Record, int]:
    """What there is of a document, and how many items: a record to go on with, perhaps an empty
    one. What cannot be gone on with (cut otherwise, or by another name) is forgotten."""
    record = _record(memory, document.sha256)
    if record is not None:
        there = len(_items(memory, record))
        same = (record.size, record.source) == (config.size, document.source)
        if there and (record.done or same):
            return record, there
        _forget(memory, record)
    return _Record(document.source, config.size), 0


def _write(memory: Memory, document: Document, record: _Record, items: Sequence[NewItem]) -> None:
    """A batch and how far the document is with it: both or none."""
    with memory.transaction():
        if not record.first:  # from now on it is a version of its source, complete or not
            versions = [*_older(memory, document), document.sha256]
            _tell_versions(memory, document.source, versions)
        ids = memory.write_many(items)
        record.first, record.last = record.first or ids[0], ids[-1]
        record.passages += len(items)
        record.characters += sum(len(item.text) for item in items)
        _keep(memory, document.sha256, record)


def _items_of(
    passages: Sequence[Passage], document: Document, embed: Embed | None, valid: Valid
) -> list[NewItem]:
    vectors = embed([passage.text for passage in passages]) if embed else [None] * len(passages)
    items = []
    for passage, vector in zip(passages, vectors, strict=True):
        meta: dict[str, Any] = {"document": document.sha256[:16]}
        if passage.page is not None:
            meta["page"] = passage.page
        if passage.section:
            meta["section"] = passage.section
        items.append(
            NewItem(
                text=passage.text,
                vector=vector,
                source=document.source,
                offset=passage.offset,
                kind=KIND,
                valid=valid,
                meta=meta,
            )
        )
    return items


def _older(memory: Memory, document: Document) -> list[str]:
    """Hashes of other documents of the same source."""
    return [known for known in _told(memory, document.source) if known != document.sha256]


def _told(memory: Memory, source: str) -> list[str]:
    return json.loads(memory.state(_versions(source)) or b"[]")


def _tell_versions(memory: Memory, source: str, hashes: Sequence[str]) -> None:
    memory.set_state(_versions(source), json.dumps(hashes).encode())


def _forget(memory: Memory, record: _Record) -> int:
    ids = _items(memory, record)
    if ids:
        memory.forget(ids)
    return len(ids)


def _items(memory: Memory, record: _Record) -> list[int]:
    """Numbers of a document's items that are still there."""
    sql = "SELECT id FROM memory_item WHERE source = ? AND id >= ? AND id <= ? ORDER BY id"
    with memory.transaction() as truth:
        found = truth.rows(sql, [record.source, record.first, record.last])
    return [int(row[0]) for row in found]


def _record(memory: Memory, sha256: str) -> _Record | None:
    data = memory.state(_name(sha256))
    return _Record(**json.loads(data)) if data else None


def _keep(memory: Memory, sha256: str, record: _Record) -> None:
    memory.set_state(_name(sha256), json.dumps(dataclasses.asdict(record)).encode())


def _name(sha256: str) -> str:
    return f"document/{sha256}"


def _versions(source: str) -> str:
    return f"versions/{source}"
