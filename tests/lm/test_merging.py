"""Merging states: each memory against what is said of it, and a model against reading in order."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from needs import needs_core
from solomonic.core import CheckpointError, ConfigError
from solomonic.lm.decays import Decays
from solomonic.lm.merging import merge_states
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.lm.state_files import ReadState, StateNotes, load_state, save_state, write_state
from tiny import REFRESH, WINDOW, tiny_model, tokens

TRANSITIONS = ("ssd", "delta")


def layer(read: ReadState) -> Any:
    """The state of the first layer."""
    return read.state.stack.layers[0]


@torch.no_grad()
def read(model: LanguageModel, text: torch.Tensor) -> ReadState:
    with Decays(model) as decays:
        _, state = model(text)
    notes = StateNotes(fingerprint=model.fingerprint(), config=model.config)
    return ReadState(state=state, decays=decays.products, notes=notes)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("pattern", ["MB", "BB", "FW", "TD"])
def test_a_merged_model_goes_on(pattern: str, transition: str) -> None:
    model = tiny_model(pattern, transition=transition)
    merged = merge_states([read(model, tokens(1, n, seed=n)) for n in (20, 33, 27)], model)
    with torch.no_grad():
        whole, _ = model(tokens(1, 12, seed=9), merged.state)
        state, parts = merged.state, []
        for part in tokens(1, 12, seed=9).split(5, dim=1):
            logits, state = model(part, state)
            parts.append(logits)
    assert whole.isfinite().all()
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-9)
    assert merged.state.nbytes == read(model, tokens(1, 20)).state.nbytes or "T" in pattern


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_fading_memory_is_the_mean_over_all_orders_of_the_recurrence(transition: str) -> None:
    """By hand, order by order, with the products that the layers gave."""
    model = tiny_model("M" if transition == "ssd" else "D", transition=transition)
    reads = [read(model, tokens(1, n, seed=n)) for n in (7, 12, 9)]
    total = torch.zeros_like(layer(reads[0]).h)
    for order in itertools.permutations(reads):
        h = torch.zeros_like(total)
        for document in order:
            a = document.decays["0"]
            h = a[..., None, None] * h if transition == "ssd" else a @ h
            h = h + layer(document).h
        total += h
    found = layer(merge_states(reads)).h
    assert (found - total / 6).abs().max() < 1e-12


def test_one_order_of_a_layer_is_reading_both_but_for_the_convolutions() -> None:
    """With a convolution of one tap nothing reaches over the border: the merge is exact."""
    model = tiny_model("M", ssm_conv_size=1)
    a, b = tokens(1, 13, seed=1), tokens(1, 17, seed=2)
    merged = merge_states([read(model, a), read(model, b)], method="order")
    both = read(model, torch.cat((a, b), dim=1))
    for (name, left), (_, right) in zip(merged.state.leaves(), both.state.leaves(), strict=True):
        assert torch.allclose(left.double(), right.double(), rtol=0, atol=1e-12), name
    assert torch.allclose(merged.decays["0"], both.decays["0"], rtol=0, atol=1e-14)


def test_the_window_after_merging_is_that_of_the_documents_in_order() -> None:
    """A first layer without a state-space model knows nothing but its tokens: exact again."""
    model = tiny_model("W", short_conv_size=0)
    a, b = tokens(1, 12, seed=1), tokens(1, 3, seed=2)  # the last one is shorter than the window
    merged = merge_states([read(model, a), read(model, b)])
    assert WINDOW - 1 > 3
    following = tokens(1, 9, seed=4)
    with torch.no_grad():
        # One after the other, not joined: a product's last bits may depend on how many rows it has.
        both = model(b, model(a)[1])[1]
        assert torch.equal(layer(merged).raw, both.stack.layers[0].raw)
        assert torch.equal(model(following, merged.state)[0], model(following, both)[0])


def test_full_attention_after_merging_has_read_both() -> None:
    model = tiny_model("T")
    a, b = tokens(1, 12, seed=1), tokens(1, 3, seed=2)
    merged = merge_states([read(model, a), read(model, b)])
    both = read(model, torch.cat((a, b), dim=1))
    following = tokens(1, 9, seed=4)
    with torch.no_grad():
        found, expected = model(following, merged.state)[0], model(following, both.state)[0]
    if model.config.short_conv_size == 0 or "T" not in model.config.short_conv_layers:
        assert torch.allclose(found, expected, atol=1e-12)
    assert found.isfinite().all()


def test_slots_are_the_most_surprising_of_all_that_has_been_judged_or_left_behind() -> None:
    model = tiny_model("B", eidetic_slots=12)
    counts = (8, 5, 7)
    reads = [read(model, tokens(1, n, seed=n)) for n in counts]
    merged = layer(merge_states(reads))
    candidates, left_behind = [], []
    for index, (count, document) in enumerate(zip(counts, reads, strict=True)):
        memory = layer(document)
        candidates += memory.slot_eps[0].tolist()
        pending = count % REFRESH
        if index < 2 and pending:
            left_behind += memory.raw_eps[0, -pending:].tolist()
    candidates += left_behind
    best = sorted(candidates, reverse=True)[: merged.slots.shape[1]]
    assert merged.slot_eps[0].tolist() == best
    assert set(left_behind) & set(best)
    times = merged.slot_time[0].tolist()
    assert all(0 <= t < int(merged.time[0]) for t in times)
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("counts", [(20, 17, 26), (4, 4), (1, 2), (50, 1), (3, 3)])
def test_the_refresh_grid_of_the_last_document_goes_on(counts: tuple[int, ...]) -> None:
    model = tiny_model("BB")
    merged = merge_states([read(model, tokens(1, n, seed=n)) for n in counts])
    time = int(merged.state.time[0])
    assert time % REFRESH == counts[-1] % REFRESH
    assert sum(counts) - REFRESH < time <= sum(counts)
    assert int(layer(merged).time[0]) == time
    # What the window shows is there: entries before the first token are empty.
    raw = layer(merged).raw[0]
    shown = raw.flatten(1).abs().sum(dim=1)[max(len(raw) - time, 0) :]
    assert (shown > 0).all()


def test_one_state_is_merged_into_itself() -> None:
    model = tiny_model("MB")
    alone = read(model, tokens(1, 23))
    merged = merge_states([alone])
    for (name, left), (_, right) in zip(merged.state.leaves(), alone.state.leaves(), strict=True):
        assert torch.equal(left, right), name


def test_merged_states_merge_and_methods_differ() -> None:
    model = tiny_model("MB")
    reads = [read(model, tokens(1, n, seed=n)) for n in (20, 17, 26)]
    merge_states([merge_states(reads[:2]), reads[2]])
    h = [layer(merge_states(reads, method=m)).h for m in ("mean", "rotations", "order")]
    assert not torch.equal(h[0], h[1])
    assert not torch.equal(h[1], h[2])
    backwards = layer(merge_states(reads[::-1])).h
    assert torch.allclose(h[0], backwards, rtol=0, atol=1e-14)


@needs_core
def test_the_native_core_goes_on_from_a_merged_file(tmp_path: Path) -> None:
    model = tiny_model("MB").float()
    for name, length in (("a", 20), ("b", 31)):
        document = read(model, tokens(1, length, seed=length))
        save_state(tmp_path / name, model, document.state, decays=document.decays)
    write_state(tmp_path / "c", merge_states([tmp_path / "a", tmp_path / "b"], model))
    merged, core = load_state(tmp_path / "c", model), NativeModel(model)
    following = tokens(1, 20, seed=5)
    with torch.no_grad():
        expected, _ = model(following, merged.into(model))
    found, _ = core(following, merged.into(core))
    assert torch.allclose(found, expected, atol=2e-4)


def test_what_cannot_be_merged_is_refused() -> None:
    model = tiny_model("MB")
    good = read(model, tokens(1, 20))
    with pytest.raises(ConfigError, match="at least one"):
        merge_states([])
    with pytest.raises(CheckpointError, match="another model"):
        merge_states([good, read(tiny_model("MB", seed=1), tokens(1, 20))])
    with pytest.raises(CheckpointError, match="state 1 belongs to another"):
        merge_states([good], tiny_model("MB", seed=1))
    with pytest.raises(ConfigError, match="how much of its past"):
        merge_states([good, dataclasses.replace(good, decays={})])
    with pytest.raises(ConfigError, match="rows"):
        merge_states([good, dataclasses.replace(good, state=good.fork(2))])
    with pytest.raises(ConfigError, match="read nothing"):
        merge_states([good, dataclasses.replace(good, state=model.init_state(1))])
    with pytest.raises(ConfigError, match="LSTM"):
        merge_states([read(tiny_model("L"), tokens(1, 20))] * 2)
    with pytest.raises(ConfigError, match="unknown"):
        merge_states([good, good], method="best")
