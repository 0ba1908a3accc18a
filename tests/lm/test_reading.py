"""Reading a long document into a file: broken off anywhere, it ends in the same state."""

from pathlib import Path
from typing import Any

import pytest
import torch

from solomonic.core import ConfigError, DataError
from solomonic.lm import reading as reading_module
from solomonic.lm.model import LanguageModel
from solomonic.lm.reading import Reading
from solomonic.lm.state_files import Document, ReadState, StateNotes, load_state
from tiny import tiny_model, tokens


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "CHUNK", 16)


@pytest.fixture
def model() -> LanguageModel:
    return tiny_model("MB")


TEXT = tokens(100).tolist()


def reading(
    model: LanguageModel, path: Path, text: list[int] | None = None, **options: object
) -> Reading:
    notes = StateNotes(documents=(Document(name="doc", tokens=0, read=0),))
    return Reading(model, TEXT if text is None else text, path, notes, **options)  # type: ignore[arg-type]


def same(one: ReadState, other: ReadState) -> bool:
    pairs = zip(one.state.leaves(), other.state.leaves(), strict=True)
    decays = all(torch.equal(one.decays[n], other.decays[n]) for n in one.decays)
    return (
        decays and one.notes == other.notes and all(torch.equal(a, b) for (_, a), (_, b) in pairs)
    )


def test_it_reads_all_but_the_last_token_and_says_so(model: LanguageModel, tmp_path: Path) -> None:
    steps = [(p.read, p.tokens, p.resumed) for p in reading(model, tmp_path / "s")]
    assert steps == [(min(16 * n, 99), 100, 0) for n in range(1, 8)]
    found = load_state(tmp_path / "s", model)
    assert found.notes.unread == (TEXT[-1],)
    assert found.notes.documents[0].complete
    with torch.no_grad():
        _, state = model(torch.tensor([TEXT[:-1]]))
    for (_, a), (_, b) in zip(found.state.leaves(), state.leaves(), strict=True):
        assert torch.allclose(a.double(), b.double(), atol=1e-9)


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_broken_off_and_gone_on_with_it_is_the_same_file(
    model: LanguageModel, tmp_path: Path, stop: int
) -> None:
    list(reading(model, tmp_path / "whole"))
    run = reading(model, tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):  # as Ctrl-C between two chunks
        for number, _ in enumerate(run, start=1):
            if number == stop:
                raise KeyboardInterrupt
    del run
    half = load_state(tmp_path / "s", model)
    assert not half.notes.documents[0].complete
    assert half.notes.documents[0].read == 16 * stop
    assert half.notes.unread == (TEXT[16 * stop],)
    rest = reading(model, tmp_path / "s")
    assert [p.resumed for p in rest] == [16 * stop] * (7 - stop)
    assert same(load_state(tmp_path / "s"), load_state(tmp_path / "whole"))


def test_an_interrupt_within_a_chunk_keeps_the_chunks_before(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(reading(model, tmp_path / "whole"))
    layer: Any = model.blocks[1].mixer
    calls: list[int] = []

    def interrupted(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:  # the first layer's decays of this chunk are known already
            raise KeyboardInterrupt

    handle = layer.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(reading(model, tmp_path / "s"))
    handle.remove()
    assert load_state(tmp_path / "s").notes.documents[0].read == 32
    list(reading(model, tmp_path / "s"))
    assert same(load_state(tmp_path / "s"), load_state(tmp_path / "whole"))


def test_it_saves_now_and_then(model: LanguageModel, tmp_path: Path) -> None:
    run = reading(model, tmp_path / "s", every=0)
    found = []
    for _ in run:
        found.append(load_state(tmp_path / "s").notes.documents[0].read)
    assert found == [16, 32, 48, 64, 80, 96, 99]


def test_what_is_finished_is_not_read_again(model: LanguageModel, tmp_path: Path) -> None:
    list(reading(model, tmp_path / "s"))
    before = (tmp_path / "s").stat().st_mtime_ns
    again = reading(model, tmp_path / "s")
    assert again.finished
    assert list(again) == []
    assert (tmp_path / "s").stat().st_mtime_ns == before


def test_another_document_is_not_overwritten(model: LanguageModel, tmp_path: Path) -> None:
    list(reading(model, tmp_path / "s"))
    other = [*TEXT[:50], 3, *TEXT[51:]]
    with pytest.raises(ConfigError, match="already holds.*--overwrite"):
        reading(model, tmp_path / "s", other)
    list(reading(model, tmp_path / "s", other, replace=True))
    assert load_state(tmp_path / "s").notes.documents[0].complete


def test_a_document_after_another(model: LanguageModel, tmp_path: Path) -> None:
    list(reading(model, tmp_path / "a"))
    first = load_state(tmp_path / "a", model)
    second = [*first.notes.unread, *TEXT[:40]]
    list(reading(model, tmp_path / "b", second, start=first))
    found = load_state(tmp_path / "b", model)
    assert [d.read for d in found.notes.documents] == [99, 40]
    with torch.no_grad():
        _, state = model(torch.tensor([[*TEXT, *TEXT[:39]]]))
    for (_, a), (_, b) in zip(found.state.leaves(), state.leaves(), strict=True):
        assert torch.allclose(a.double(), b.double(), atol=1e-9)


def test_an_empty_document_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        reading(model, tmp_path / "s", [5])
