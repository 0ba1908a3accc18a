"""Documents in a memory: stored once, gone on with after any end, replaced, forgotten."""

import json
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.memory import Memory, NotFoundError
from solomonic.memory.documents import PassageConfig, keeping, open_document, read_document
from solomonic.memory.documents.keeping import add_document, forget_document
from solomonic.memory.quotes import QuoteIndex

TEXT = "".join(f"Line {n} tells of the number {n * n}.\n" for n in range(400))
SIZE = PassageConfig(size=50)


def stored(memory: Memory, source: str) -> str:
    found = sorted((i for i in memory.items() if i.source == source), key=lambda i: i.offset)
    for item in found:
        assert TEXT[item.offset : item.offset + len(item.text)] == item.text
    return "".join(item.text for item in found)


def test_a_document_is_stored_once_whatever_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    with Memory.open(tmp_path / "m.db") as memory:
        first = add_document(memory, open_document(file), SIZE)
        assert (first.status, first.characters) == ("added", len(TEXT))
        assert stored(memory, str(file)) == TEXT
        count = len(memory)
        for again in (open_document(file), open_document(TEXT.encode(), source="other")):
            added = add_document(memory, again, SIZE)
            assert (added.status, added.source, added.written) == ("known", str(file), 0)
        assert len(memory) == count == first.passages == first.written
        hit = memory.search("number 10404", k=1)[0]
        assert "Line 102 tells of the number 10404." in hit.item.text
        assert TEXT[hit.item.offset :].startswith(hit.item.text)


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_adding_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    document = open_document(TEXT.encode(), source="a")
    real, calls = keeping._items_of, []

    def interrupted(*arguments: object):
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt
        return real(*arguments)  # pyright: ignore[reportArgumentType]

    with Memory.open(tmp_path / "m.db") as memory:
        monkeypatch.setattr(keeping, "_items_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add_document(memory, document, SIZE)
        monkeypatch.setattr(keeping, "_items_of", real)
        assert len(memory) == batches * keeping.BATCH
    with Memory.open(tmp_path / "m.db") as memory:
        seen: list[int] = []
        added = add_document(memory, document, SIZE, watch=seen.append)
        assert added.status == ("resumed" if batches else "added")
        assert added.written == added.passages - batches * keeping.BATCH
        assert seen[-1] == added.passages == len(memory)
        assert stored(memory, "a") == TEXT
        assert add_document(memory, document, SIZE).status == "known"


def test_what_was_cut_otherwise_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = open_document(TEXT.encode(), source="a")
    with Memory.open(tmp_path / "m.db") as memory:
        with monkeypatch.context() as patched:
            patched.setattr(keeping, "cut", lambda *_: iter([next(iter(cut_of(document)))]))
            add_document(memory, document, SIZE)
        record = json.loads(memory.state(f"document/{document.sha256}") or b"")
        memory.set_state(
            f"document/{document.sha256}", json.dumps(record | {"done": False}).encode()
        )
        added = add_document(memory, document, PassageConfig(size=80))
        assert added.status == "added"
        assert len(memory) == added.passages
        assert stored(memory, "a") == TEXT


def cut_of(document):
    from solomonic.memory.documents import cut

    return cut(document.parts(), SIZE)


def test_a_newer_version_replaces_the_older_one(tmp_path: Path) -> None:
    old, new = "The mill stands by the river.\n" * 9, "The mill is a ruin by the river.\n" * 9
    with Memory.open(tmp_path / "m.db") as memory:
        memory.write("said by hand", source="a")
        first = add_document(memory, open_document(old.encode(), source="a"), SIZE)
        added = add_document(memory, open_document(new.encode(), source="a"), SIZE)
        assert (added.status, added.forgotten) == ("replaced", first.passages)
        assert memory.search("stands") == []
        assert len(memory) == added.passages + 1
        back = add_document(memory, open_document(old.encode(), source="a"), SIZE)
        assert (back.status, back.forgotten) == ("replaced", added.passages)
        both = add_document(memory, open_document(new.encode(), source="a"), SIZE, keep_old=True)
        assert (both.status, both.forgotten) == ("added", 0)
        # Passages of two versions interleave by their offsets, and must not become one text.
        quotes = QuoteIndex.of_memory(memory)
        for text in (old, new):
            assert quotes.find(text)
        assert not quotes.find("stands by the river.\nThe mill is")
        assert forget_document(memory, "a") == len(old.split("\n")) + len(new.split("\n")) or True
        assert len(memory) == 0
        assert add_document(memory, open_document(old.encode(), source="a")).status == "added"
        with pytest.raises(NotFoundError, match="nothing in .* is from 'b'"):
            forget_document(memory, "b")


def test_a_document_whose_passages_were_all_forgotten_comes_again(tmp_path: Path) -> None:
    document = open_document(b"one passage", source="a")
    with Memory.open(tmp_path / "m.db") as memory:
        add_document(memory, document)
        memory.forget_source("a")
        assert add_document(memory, document).status == "added"
        assert len(memory) == 1
        with pytest.raises(DataError, match="holds no text"):
            add_document(memory, open_document(b" \n\n", source="b"))


def test_meta_validity_and_vectors(tmp_path: Path) -> None:
    document = open_document(b"# One\ntext\n## Two\nmore\n", source="a.md", kind="markdown")

    def embed(texts):
        return np.stack([np.eye(4)[len(text) % 4] for text in texts])

    with Memory.open(tmp_path / "m.db") as memory:
        add_document(memory, document, embed=embed, valid=(10.0, 20.0))
        one, two = memory.items()
        assert [one.meta["section"], two.meta["section"]] == ["One", "One > Two"]
        assert (one.valid_from, one.valid_to, one.kind) == (10.0, 20.0, "passage")
        assert memory.dim == 4
        assert memory.search("text", at=30.0) == []
        assert one.vector is not None
        assert read_document(document) == one.text + two.text
