"""Decoding in buffers that never move: equal to the plain model, on the CPU without a graph."""

import pytest
import torch

from solomonic.core import ConfigError, ShapeError
from solomonic.lm.graphs import GraphDecoder, StaticDecoder
from tiny import tiny_model, tokens


@pytest.mark.parametrize("pattern", ["BB", "MD", "FW"])
def test_steps_are_those_of_the_model(pattern: str) -> None:
    """Across refresh boundaries, from a state read in one piece, in place at every step."""
    model, text = tiny_model(pattern), tokens(3, 19)
    _, state = model(text[:, :4])
    decoder = StaticDecoder(model, 3)
    decoder.load(state)
    places = [x.data_ptr() for _, x in decoder._state.leaves()]
    for t in range(4, 19):
        logits, state = model(text[:, t : t + 1], state)
        assert torch.equal(decoder.step(text[:, t]), logits[:, 0])
    assert places == [x.data_ptr() for _, x in decoder._state.leaves()]
    for (name, mine), (_, law) in zip(decoder.state.leaves(), state.leaves(), strict=True):
        assert torch.equal(mine, law), name


def test_a_state_taken_out_is_a_value() -> None:
    model, text = tiny_model(), tokens(2, 9)
    decoder = StaticDecoder(model, 2)
    for t in range(5):
        decoder.step(text[:, t])
    taken = decoder.state
    before = [x.clone() for _, x in taken.leaves()]
    first = decoder.step(text[:, 5]).clone()
    assert all(torch.equal(x, y) for x, (_, y) in zip(before, taken.leaves(), strict=True))
    decoder.load(taken)
    assert torch.equal(decoder.step(text[:, 5]), first)


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'TD'.*full attention.*grows"):
        StaticDecoder(tiny_model("TD"), 1)
    with pytest.raises(ConfigError, match=r"CUDA graph needs.*'cpu'"):
        GraphDecoder(tiny_model(), 1)
    decoder = StaticDecoder(tiny_model(), 2)
    with pytest.raises(ShapeError, match=r"tokens must be of shape \(2,\)"):
        decoder.step(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"3 rows.*2"):
        decoder.load(tiny_model().init_state(3))
    with pytest.raises(ShapeError, match=r"another model"):
        decoder.load(tiny_model(eidetic_slots=7).init_state(2))
