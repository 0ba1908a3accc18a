"""State files: what is loaded is what was read, bit for bit; others are refused; nothing leaks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from needs import needs_core
from solomonic.core import CheckpointError
from solomonic.lm import state_files
from solomonic.lm.decays import Decays
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.lm.state_files import (
    Document,
    ReadState,
    StateNotes,
    inspect_state,
    load_state,
    save_state,
)
from solomonic.text import BpeTokenizer, ByteTokenizer
from tiny import PATTERNS, tiny_model, tokens

ENGINES = ["torch", pytest.param("native", marks=needs_core)]
NOTES = StateNotes(documents=(Document(name="d", tokens=38, read=37, digest="x"),), unread=(7,))


def reader_of(model: LanguageModel, engine: str) -> Any:
    return NativeModel(model) if engine == "native" else model


@torch.no_grad()
def read(reader: Any, text: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
    """Logits (B, T, V) and the state; native streams move on in place."""
    return reader(text, state)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", [*PATTERNS, "L"])
def test_logits_after_loading_are_those_after_reading(
    tmp_path: Path, pattern: str, dtype: torch.dtype, engine: str
) -> None:
    model = tiny_model(pattern).to(dtype)
    reader = reader_of(model, engine)
    _, state = read(reader, tokens(1, 37))
    save_state(tmp_path / "s", model, state, NOTES)
    loaded = load_state(tmp_path / "s", model)
    again = loaded.into(reader)
    following = tokens(1, 12, seed=5)
    expected, _ = read(reader, following, state)
    found, _ = read(reader, following, again)
    assert torch.equal(found, expected)
    assert (loaded.notes.documents, loaded.notes.unread) == (NOTES.documents, NOTES.unread)


@needs_core
@pytest.mark.parametrize("transition", ["ssd", "delta"])
def test_what_one_engine_read_the_other_goes_on_with(tmp_path: Path, transition: str) -> None:
    model = tiny_model("MB", transition=transition).float()
    core = NativeModel(model)
    following = tokens(1, 12, seed=5)
    for source, target in ((model, core), (core, model)):
        _, state = read(source, tokens(1, 37))
        save_state(tmp_path / "s", model, state)
        again = load_state(tmp_path / "s", model).into(target)
        found, _ = read(target, following, again)
        expected, _ = read(source, following, state)
        assert torch.allclose(found, expected, atol=2e-4)
        assert not torch.allclose(found, read(target, following)[0], atol=2e-2)


def test_a_file_is_as_large_after_ten_times_the_text(tmp_path: Path) -> None:
    model = tiny_model("MB")
    sizes = []
    for length in (40, 400):
        with torch.no_grad(), Decays(model) as decays:
            _, state = model(tokens(1, length))
        save_state(tmp_path / "s", model, state, NOTES, decays.products)
        sizes.append((tmp_path / "s").stat().st_size)
    assert sizes[0] == sizes[1]


def test_another_model_or_tokenizer_is_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("MB"), ByteTokenizer()
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state, NOTES, tokenizer=tokenizer)
    load_state(tmp_path / "s", model, tokenizer)
    for other in (tiny_model("MB", seed=1), tiny_model("BB")):
        with pytest.raises(CheckpointError, match="another model"):
            load_state(tmp_path / "s", other)
    bpe = BpeTokenizer.train(["some words and some more words"], 280)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        load_state(tmp_path / "s", model, bpe)


def test_a_changed_weight_makes_it_another_model(tmp_path: Path) -> None:
    model = tiny_model("MB")
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state)
    with torch.no_grad():
        model.norm.weight[0] += 1e-9
    with pytest.raises(CheckpointError, match="another model"):
        load_state(tmp_path / "s", model)


def test_cut_and_damaged_files_are_refused_with_the_place(tmp_path: Path) -> None:
    model, path = tiny_model("B"), tmp_path / "s"
    _, state = read(model, tokens(1, 20))
    save_state(path, model, state)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(0, len(whole), (60,), generator=generator).tolist():
        path.write_bytes(whole[:place])
        with pytest.raises(CheckpointError, match=f"byte {place}"):
            load_state(path, model)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="byte"):
            load_state(path, model)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_state(tmp_path / "none", model)


def test_a_file_without_a_model_beside_it_can_be_looked_at(tmp_path: Path) -> None:
    model = tiny_model("TB")
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state, NOTES)
    record = inspect_state(tmp_path / "s")
    assert (record["tokens"], record["pattern"]) == ([20], "TB")
    assert record["grows"]
    assert not record["mergeable"]
    assert load_state(tmp_path / "s").state.nbytes == record["state_bytes"] == state.nbytes


def test_forks_go_on_apart(tmp_path: Path) -> None:
    model = tiny_model("MB")
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state)
    forks = load_state(tmp_path / "s", model).fork(2)
    texts = torch.cat((tokens(1, 9, seed=3), tokens(1, 9, seed=4)))
    both, _ = read(model, texts, forks)
    for row in (0, 1):
        alone, _ = read(model, texts[row : row + 1], state)
        assert torch.allclose(both[row], alone[0], rtol=0, atol=1e-12)


# Two users of one model: whatever one of them reads, the other's logits are what they would be
# had the first never come.


def what_a_neighbour_changes(
    path: Path, engine: str, into: Callable[[ReadState, Any], Any]
) -> float:
    """The largest difference that user A's reading makes in user B's logits.

    Both have their state from the same file, once from the same loading and once from another; A
    reads a secret between B's two turns.
    """
    model = tiny_model("MB").float()
    reader = reader_of(model, engine)
    _, common = read(reader, tokens(1, 20))
    save_state(path, model, common)
    first, second = tokens(1, 6, seed=3), tokens(1, 6, seed=4)
    secret = tokens(1, 30, seed=6)

    alone = load_state(path, model).into(reader)
    expected = [read(reader, part, alone) for part in (first, second)]
    if engine == "torch":  # states are values there
        _, after = read(reader, first, load_state(path, model).into(reader))
        expected[1] = read(reader, second, after)

    shared = load_state(path, model)
    mine, theirs = into(shared, reader), into(shared, reader)
    logits_1, mine = read(reader, first, mine)
    _, theirs = read(reader, secret, theirs)
    read(reader, secret, into(load_state(path, model), reader))
    logits_2, mine = read(reader, second, mine)
    return max(
        float((logits_1 - expected[0][0]).abs().max()),
        float((logits_2 - expected[1][0]).abs().max()),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_no_user_sees_what_another_one_read(tmp_path: Path, engine: str) -> None:
    assert what_a_neighbour_changes(tmp_path / "s", engine, ReadState.into) == 0


@needs_core
def test_the_test_above_finds_a_shared_state(tmp_path: Path) -> None:
    """A cache that gives everybody the same streams is the leak that it must see."""
    known: dict[str, Any] = {}

    def cached(state: ReadState, reader: Any) -> Any:
        return known.setdefault(state.notes.fingerprint, state.into(reader))

    assert what_a_neighbour_changes(tmp_path / "s", "native", cached) > 1e-3


def test_a_write_into_one_state_does_not_reach_the_file_or_another(tmp_path: Path) -> None:
    model = tiny_model("MB")
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state)
    loaded = load_state(tmp_path / "s", model)
    one, other = loaded.into(model), loaded.into(model)
    for _, tensor in one.leaves():
        tensor.zero_()
    for (name, left), (_, right) in zip(other.leaves(), loaded.state.leaves(), strict=True):
        assert torch.equal(left, right), name
        assert left.data_ptr() != right.data_ptr() or left.numel() == 0, name


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("B")
    _, state = read(model, tokens(1, 20))
    save_state(tmp_path / "s", model, state)
    before = (tmp_path / "s").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path / "s", model, state, NOTES)
    assert (tmp_path / "s").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_file_that_describes_no_model_is_refused(tmp_path: Path) -> None:
    model = tiny_model("B")
    _, state = read(model, tokens(1, 20))
    bare = ReadState(state=state, decays={}, notes=StateNotes())
    state_files.write_state(tmp_path / "s", bare)
    with pytest.raises(CheckpointError, match="no possible model"):
        load_state(tmp_path / "s")
    wrong = dataclasses.replace(bare, notes=StateNotes(config=tiny_model("MB").config))
    state_files.write_state(tmp_path / "s", wrong)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_state(tmp_path / "s")
