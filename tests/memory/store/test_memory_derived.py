"""Sorted texts that `generate --quote` keeps beside a memory: used when they fit, never else."""

import os
from pathlib import Path

import numpy as np
import pytest

from solomonic.memory import Memory
from solomonic.memory.quotes import QuoteConfig, QuoteIndex, kept
from solomonic.memory.quotes.suffixes import suffixes_by_definition

TEXT = "so much depends upon a red wheel barrow glazed with rain water "


@pytest.fixture
def sorts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every text that was sorted; however short, it is worth keeping."""
    found: list[int] = []
    sort = kept.sort_suffixes

    def counted(data: bytes) -> np.ndarray:
        found.append(len(data))
        return sort(data)

    monkeypatch.setattr(kept, "sort_suffixes", counted)
    monkeypatch.setattr(kept, "LEAST", 1)
    return found


def order_of(memory: Memory, **options: object) -> list[int]:
    index = QuoteIndex.of_memory(memory, **options)  # pyright: ignore[reportArgumentType]
    order = index.automaton.suffixes.order.tolist()
    assert order == suffixes_by_definition(index.corpus.data)
    return order


def test_texts_are_sorted_once_as_long_as_they_are_the_same(path: Path, sorts: list[int]) -> None:
    with Memory.open(path) as memory:
        memory.write(TEXT, source="a")
    beside = path.with_name("m.db-quotes")
    for _ in range(2):  # as two processes would
        with Memory.open(path, read_only=True) as memory:
            order_of(memory)
            assert memory.beside("quotes") == beside
    assert len(sorts) == 1
    assert beside.stat().st_mode & 0o077 == 0
    assert not list(path.parent.glob(".*unfinished*"))
    with Memory.open(path) as memory:
        second = memory.write("not to be found any more", source="b")
        order_of(memory)
        assert len(sorts) == 2
        memory.forget(second)
        assert not beside.exists()  # what is sorted tells of what was forgotten
        order_of(memory)
        memory.compact()
        assert not beside.exists()
        order_of(memory, config=QuoteConfig(fold_whitespace=True))
        order_of(memory, at=0.0)
        assert not beside.exists()  # those are not all texts as they stand
        assert len(sorts) == 3


def test_a_file_that_does_not_fit_is_made_anew(path: Path, sorts: list[int]) -> None:
    with Memory.open(path) as memory:
        memory.write(TEXT, source="a")
        order = order_of(memory)
        beside = path.with_name("m.db-quotes")
        whole = beside.read_bytes()
        swapped = bytearray(whole)
        swapped[60:64], swapped[64:68] = swapped[64:68], swapped[60:64]
        foreign = kept.MAGIC + bytes(32) + whole[40:]
        for wrong in (b"", whole[:-1], whole + b"x", bytes(swapped), foreign):
            beside.write_bytes(wrong)
            before = len(sorts)
            assert order_of(memory) == order
            assert (len(sorts), beside.read_bytes()) == (before + 1, whole)
            assert order_of(memory) == order
            assert len(sorts) == before + 1


def test_without_a_place_it_is_sorted_each_time(
    path: Path, sorts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory.open(":memory:") as memory:
        memory.write(TEXT)
        assert memory.beside("quotes") is None
        order_of(memory)
    with Memory.open(path) as memory:
        memory.write(TEXT)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        order_of(memory)
        monkeypatch.undo()
        assert not path.with_name("m.db-quotes").exists()
        assert not list(path.parent.glob(".*unfinished*"))
