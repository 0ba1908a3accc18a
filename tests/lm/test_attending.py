"""Memory attention of a language model: cuts, forks, causality, citations, and what it refuses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from solomonic.core import ConfigError
from solomonic.layers import LayerRecall
from solomonic.lm.attending import OWN, AttendingState, AttentionConfig, MemoryAttention
from solomonic.lm.generate import GenerateConfig, Generation
from solomonic.text import ByteTokenizer
from tiny import tiny_model

TEXT = "the door of the red house is green. " * 3 + "ab cd ef gh ij kl mn op qr st. " * 3
TOLERANCE = 1e-9


def reader(pattern: str = "BM", **changes: Any) -> MemoryAttention:
    """float64, stored as float64, so that cuts can be compared exactly."""
    settings = {"chunk": 6, "period": 4, "query": 9, "top": 2, "follow": 1, **changes}
    model = tiny_model(pattern)
    return MemoryAttention(model, ByteTokenizer(), AttentionConfig(**settings), kind=np.float64)


def ids(*texts: str) -> Tensor:
    return torch.tensor([list(text.encode()) for text in texts])


@torch.no_grad()
def feed(
    model: MemoryAttention, tokens: Tensor, cuts: Sequence[int]
) -> tuple[Tensor, AttendingState]:
    outs, state = [], None
    for part in tokens.split(list(cuts), dim=1):
        out, state = model(part, state)
        outs.append(out)
    assert state is not None
    return torch.cat(outs, dim=1), state


@pytest.mark.parametrize("search", ["words", "hidden", "layer"])
def test_any_cut_is_one_shot(search: str) -> None:
    model, tokens = reader("BB", search=search), ids(TEXT[:70], TEXT[100:170])
    model.learn("a green door, a red house; the door of the red barn. ab cd ef!", "notes")
    whole, end = feed(model, tokens, [70])
    for cuts in ([1] * 70, [13, 0, 1, 29, 27], [4] * 17 + [2]):
        out, state = feed(model, tokens, cuts)
        assert (out - whole).abs().max() <= TOLERANCE
        assert state.cited == end.cited
    assert {one.source for row in end.cited for one in row} == {OWN, "notes"}
    with torch.no_grad():
        plain = model.model(tokens)[0]
    assert torch.allclose(whole[:, :4], plain[:, :4], atol=TOLERANCE)  # nothing recalled yet
    assert (whole[:, 30:] - plain[:, 30:]).abs().max() > 1e-3


def test_the_fast_form_is_the_model_called_chunk_by_chunk() -> None:
    """The definition: at each boundary search by hand, then one call with those slots."""
    model = reader(own=False)
    text = "a green door, a red house; the door of the red barn. ab cd ef!"
    model.learn(text, "notes")
    tokens = ids(TEXT[:33])
    fast, _ = feed(model, tokens, [33])
    outs, state = [], None
    layer = model.layers[0]
    taking = {layer: LayerRecall(take=True)}
    with torch.no_grad():
        _, start = model.model.hidden(torch.tensor([[256]]))
        model.model.hidden(ids(text), start, recall=taking)
        pairs = taking[layer].pairs
        assert pairs is not None
        for begin in range(0, 33, 4):
            recall = {}
            if begin:
                hits = model.shelf.search(tokens[0, max(begin - 9, 0) : begin].numpy(), 2)
                chunks = []
                for hit in hits:
                    chunks += [c for c in (hit.chunk, hit.chunk + 1) if c < len(model.shelf)]
                chunks = list(dict.fromkeys(chunks))
                slots = torch.cat([pairs[:, 6 * c : 6 * c + 6] for c in chunks], dim=1)[:, None]
                from solomonic.kernels import Recalled

                bias = torch.zeros(slots.shape[:3], dtype=torch.float64)
                recall = {layer: LayerRecall(Recalled(slots, bias, torch.tensor([begin]), 4))}
            part = tokens[:, begin : begin + 4]
            hidden, state = model.model.hidden(part, state, recall=recall)
            outs.append(model.model.head(hidden))
    assert (torch.cat(outs, dim=1) - fast).abs().max() <= TOLERANCE


def test_the_future_does_not_reach_back() -> None:
    model, tokens = reader(), ids(TEXT[:60])
    whole, _ = feed(model, tokens, [60])
    for t in (0, 11, 23, 41):
        other = tokens.clone()
        other[:, t + 1 :] = ids("!" * (59 - t))
        assert torch.equal(feed(model, other, [60])[0][:, : t + 1], whole[:, : t + 1]), t


def test_what_the_window_shows_is_not_entered_again() -> None:
    """Chunks of the stream itself come only from wholly behind the window, and then at once."""
    model = reader(top=9, search="hidden")
    window, newest = model.config.window_size, []
    state = None
    for begin in range(0, 48, 4):
        with torch.no_grad():
            _, state = model(ids(TEXT[begin : begin + 4]), state)
        time, entered = begin, state.cited[0]
        assert all(one.time == time and one.end <= time - window + 1 for one in entered)
        newest.append(max((one.end for one in entered), default=0))
    assert newest == [max(begin - window + 1, 0) // 6 * 6 for begin in range(0, 48, 4)]


def test_rows_do_not_know_of_each_other_and_padding_is_nothing() -> None:
    model = reader()
    texts = [TEXT[:60], TEXT[90:150], "the door of "]
    whole, _ = feed(model, ids(texts[0], texts[1]), [60])
    swapped, _ = feed(model, ids(texts[1], texts[0]), [60])
    assert (whole[[1, 0]] - swapped).abs().max() <= TOLERANCE
    padded = ids(*(text.ljust(60, "\0") for text in texts))
    lengths = torch.tensor([60, 60, 12])
    with torch.no_grad():
        out, state = model(padded, None, lengths)
        more, after = model(ids("abcde", "fghij", "klmno"), state, torch.tensor([5, 0, 3]))
    for row, text in enumerate(texts):
        extra = ("abcde", "", "klm")[row]
        alone, end = feed(model, ids(text + extra), [len(text) + len(extra)])
        assert (out[row, : len(text)] - alone[0, : len(text)]).abs().max() <= TOLERANCE
        if extra:
            assert (more[row, : len(extra)] - alone[0, len(text) :]).abs().max() <= TOLERANCE
        assert after.cited[row] == end.cited[0]


def test_a_state_is_a_value() -> None:
    """Two streams that go on from one state share a past and nothing else."""
    model = reader()
    _, state = feed(model, ids(TEXT[:40]), [40])
    one, two = TEXT[40:80], "xyz vw " * 5 + "01234"
    with torch.no_grad():
        first, _ = model(ids(one), state)
        second, _ = model(ids(two), state)
        again, _ = model(ids(one), state)
    assert torch.equal(first, again)
    alone, _ = feed(model, ids(TEXT[:40] + two), [80])
    assert (second[0] - alone[0, 40:]).abs().max() <= TOLERANCE


def test_citations_are_where_the_text_stands() -> None:
    model = reader("BM", own=False, top=1, follow=0)
    text = "0123456789 the fée of the house is é 42! and so on, for some time still."
    model.learn(text, "notes.md", offset=1000)
    assert len(model.shelf) == len(text.encode()) // 6
    with torch.no_grad():
        _, state = model(ids("of the house "))
        _, state = model(ids("is"), state)
    (cited,) = state.cited[0]
    assert cited.source == "notes.md" and cited.time == 12
    begin, end = cited.begin - 1000, cited.end - 1000
    assert "hous" in text[begin - 6 : end + 6]
    assert text[begin:end].encode() == bytes(cited.tokens)


def test_weights_of_the_memory_weigh_in_attention() -> None:
    """log weight -inf: as if the shelf were not there."""
    model, tokens = reader(own=False), ids(TEXT[:30])
    plain = model.model(tokens)[0]
    model.learn(TEXT[10:60], "notes")
    loud, _ = feed(model, tokens, [30])
    model.shelf.log_weight[:] = -1.0
    faint, _ = feed(model, tokens, [30])
    model.shelf.log_weight[:] = -np.inf
    gone, _ = feed(model, tokens, [30])
    assert (loud - plain).abs().max() > (faint - plain).abs().max() > 1e-4
    assert torch.allclose(gone, plain, atol=TOLERANCE)


def test_generation_reads_it() -> None:
    model = reader()
    model.learn(TEXT, "notes")
    settings = GenerateConfig(max_new_tokens=9, temperature=0)
    prompts = [list(b"the door of the red "), list(b"ab cd")]
    together = torch.stack(list(Generation(model, prompts, settings)), dim=1)
    for row, prompt in enumerate(prompts):
        alone = torch.stack(list(Generation(model, [prompt], settings)), dim=1)
        assert torch.equal(alone[0], together[row])


def test_stored_as_half_it_is_nearly_the_same() -> None:
    model = reader()
    half = MemoryAttention(model.model, ByteTokenizer(), model.options)
    one, _ = feed(model, ids(TEXT[:60]), [60])
    two, _ = feed(half, ids(TEXT[:60]), [60])
    assert 0 < (one - two).abs().max() < 0.05 * one.abs().max()


def test_bad_settings_are_refused() -> None:
    model = tiny_model("BM")
    with pytest.raises(ConfigError, match=r"layers \[1\] of pattern 'BM' cannot read"):
        MemoryAttention(model, ByteTokenizer(), AttentionConfig(layers=(1,)))
    with pytest.raises(ConfigError, match="cannot read recalled slots"):
        MemoryAttention(tiny_model("TD"), ByteTokenizer())
    with pytest.raises(ConfigError, match="search = 'taste'"):
        AttentionConfig(search="taste")
    with pytest.raises(ConfigError, match="period = 0"):
        AttentionConfig(period=0)
    shelf = reader(chunk=5).shelf
    with pytest.raises(ConfigError, match="the shelf holds chunks"):
        MemoryAttention(model, ByteTokenizer(), AttentionConfig(chunk=6), shelf)


@torch.no_grad()
def test_absorbing_is_reading_alone_and_remembers() -> None:
    """Hidden states are those of the model; then a search at will enters what was absorbed."""
    model, tokens = reader(), ids(TEXT[:60])
    hidden, state = model.absorb(tokens[:, :25])
    more, state = model.absorb(tokens[:, 25:], state)
    plain, _ = model.model.hidden(tokens)
    assert (torch.cat((hidden, more), dim=1) - plain).abs().max() <= TOLERANCE
    assert state.cited == [()] and state.slots is None
    recalled = model.recall(state)
    assert recalled.cited[0] and state.cited == [()]
    _, whole = feed(model, tokens, [60])
    assert {one.source for one in recalled.cited[0]} == {OWN}
    # At a boundary a search at will is the search that would come anyway.
    assert recalled.cited[0] == model.recall(whole).cited[0]


@torch.no_grad()
def test_rows_of_a_state_can_be_chosen_and_doubled() -> None:
    model = reader()
    _, state = feed(model, ids(TEXT[:40], TEXT[100:140]), [40])
    more = ids("abcdefgh", "ijklmnop", "abcdefgh")
    out, _ = model(more, state.gather([1, 0, 1]))
    first, _ = model(more[:2], state)
    swapped, _ = model(more[[1, 0]], state)
    assert (out[1] - swapped[0]).abs().max() <= TOLERANCE
    assert torch.equal(out[0], out[2])
    assert (first[0] - swapped[0]).abs().max() > 1e-3
