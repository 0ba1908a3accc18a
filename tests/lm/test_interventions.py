"""Interventions change what they name, nothing else, and leave no trace."""

from contextlib import ExitStack

import pytest
import torch

from solomonic.core import ConfigError, ShapeError
from solomonic.layers import BMojoState
from solomonic.lm import interventions as do
from solomonic.lm.model import LanguageModel
from tiny import tiny_model, tokens

SITES = ("embed", "layer.0", "mixer.1", "mlp.1", "fading.0", "norm")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny_model("BM", hidden_size=16)


def logits(model: LanguageModel, ids: torch.Tensor, cut: int | None = None) -> torch.Tensor:
    """The whole text in one call, or in two."""
    with torch.no_grad():
        if cut is None:
            return model(ids)[0]
        first, state = model(ids[:, :cut])
        return torch.cat((first, model(ids[:, cut:], state)[0]), dim=1)


def untouched(model: LanguageModel) -> bool:
    """Nothing of an intervention is left on the model."""
    names = ("hidden", "_clock", "forward", "_state_edits")
    return all(
        name not in module.__dict__ and not module._forward_hooks
        for module in model.modules()
        for name in names
    )


@pytest.mark.parametrize("cut", [None, 7])
def test_looking_changes_no_bit(model: LanguageModel, cut: int | None) -> None:
    ids = tokens(2, 17)
    plain = logits(model, ids, cut)
    with ExitStack() as stack:
        for site in SITES:
            stack.enter_context(do.hook(model, site, lambda value, _: value))
        stack.enter_context(do.record(model, *SITES))
        stack.enter_context(do.steer(model, 1, torch.ones(16).double(), 0.0))
        stack.enter_context(do.replace_state(model, 0, lambda state: state))
        stack.enter_context(do.replace_slot(model, 0, [99], every="call"))
        assert torch.equal(logits(model, ids, cut), plain)
    assert untouched(model)


def test_an_exception_leaves_the_model_as_it_was(model: LanguageModel) -> None:
    ids = tokens(1, 9)
    plain = logits(model, ids)
    with pytest.raises(RuntimeError, match="stop"), do.ablate(model, 0), do.ablate(model, 1, "mlp"):
        assert not torch.equal(logits(model, ids), plain)
        raise RuntimeError("stop")
    assert untouched(model)
    assert torch.equal(logits(model, ids), plain)


def test_contexts_may_end_in_any_order(model: LanguageModel) -> None:
    ids = tokens(1, 9)
    plain = logits(model, ids)
    with do.ablate(model, 1, "mixer"):
        second = logits(model, ids)
    first_one, second_one = do.ablate(model, 0, "mlp"), do.ablate(model, 1, "mixer")
    first_one.__enter__()
    second_one.__enter__()
    first_one.__exit__(None, None, None)
    assert torch.equal(logits(model, ids), second)
    second_one.__exit__(None, None, None)
    assert untouched(model)
    assert torch.equal(logits(model, ids), plain)


def test_an_ablated_layer_is_one_that_adds_nothing(model: LanguageModel) -> None:
    ids = tokens(1, 8)
    with do.ablate(model, 0), do.record(model, "embed", "layer.0") as seen:
        logits(model, ids)
    assert torch.equal(seen.values["embed"], seen.values["layer.0"])


def test_a_record_patched_into_another_run_gives_its_outputs(model: LanguageModel) -> None:
    one, other = tokens(1, 10), tokens(1, 10, seed=5)
    with do.record(model, "norm", "layer.1") as seen:
        wanted = logits(model, one)
    with do.patch(model, "norm", seen.values["norm"]):
        assert torch.equal(logits(model, other), wanted)
        assert torch.equal(logits(model, other, cut=4), wanted)  # places count from the start
    with do.patch(model, "norm", seen.values["norm"][:, 3:5], positions=[3, 4]):
        found = logits(model, other, cut=4)
    assert torch.equal(found[:, 3:5], wanted[:, 3:5])
    assert torch.equal(found[:, :3], logits(model, other)[:, :3])
    assert seen.positions is not None and seen.positions[0].tolist() == list(range(10))


def test_rows_that_are_not_named_stay(model: LanguageModel) -> None:
    ids = tokens(3, 9)
    plain = logits(model, ids)
    with do.steer(model, 0, torch.ones(16).double(), 2.0, rows=[1]):
        found = logits(model, ids)
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert not torch.equal(found[1], plain[1])
    with do.ablate(model, 1, rows=[0]):
        found = logits(model, ids)
    assert torch.equal(found[1:], plain[1:])
    assert not torch.equal(found[0], plain[0])


def test_steering_adds_the_vector_at_its_positions(model: LanguageModel) -> None:
    ids, vector = tokens(1, 8), torch.arange(16).double()
    with do.record(model, "layer.1") as before:
        logits(model, ids)
    with do.steer(model, 1, vector, 0.5, positions=[6]), do.record(model, "layer.1") as after:
        logits(model, ids, cut=3)
    difference = after.values["layer.1"] - before.values["layer.1"]
    torch.testing.assert_close(difference[0, 6], 0.5 * vector)
    assert float(difference[0, [0, 1, 2, 3, 4, 5, 7]].abs().max()) < 1e-12


def test_ablated_tokens_are_not_read(model: LanguageModel) -> None:
    one, other = tokens(1, 9), tokens(1, 9)
    other[0, 4] = (other[0, 4] + 1) % 257
    with do.ablate_tokens(model, [4]):
        assert torch.equal(logits(model, one), logits(model, other))
    with do.ablate_tokens(model, [4], by=int(other[0, 4])):
        assert torch.equal(logits(model, one), logits(model, other))


def test_all_states_of_another_run_continue_that_run(model: LanguageModel) -> None:
    one, other, rest = tokens(1, 8), tokens(1, 8, seed=3), tokens(1, 6, seed=4)
    with torch.no_grad():
        _, theirs = model(one)
        _, ours = model(other)
        wanted = model(rest, theirs)[0]
        with (
            do.replace_state(model, 0, do.layer_state(theirs, 0)),
            do.replace_state(model, 1, do.layer_state(theirs, 1)),
        ):
            first, state = model(rest[:, :2], ours)
            second, _ = model(rest[:, 2:], state)  # put in once, not at every call
    torch.testing.assert_close(torch.cat((first, second), 1), wanted)


def test_an_emptied_slot_is_as_if_never_kept(model: LanguageModel) -> None:
    ids, rest = tokens(1, 30), tokens(1, 4, seed=2)
    with torch.no_grad():
        _, state = model(ids)
        layer = do.layer_state(state, 0)
        assert isinstance(layer, BMojoState)
        # What stands in the window is not read from its slot.
        held = int(layer.slot_time.min())
        assert 0 <= held < 30 - model.config.window_size
        emptied = do.edit_slots(layer, [held])
        plain = model(rest, state)[0]
        with do.replace_slot(model, 0, [held], every="call"):
            changed = model(rest, state)[0]
        with do.replace_slot(model, 0, [29], every="call"):
            other = model(rest, state)[0]
    assert held not in emptied.slot_time
    assert (emptied.slot_eps[0].diff() <= 0).all()
    assert int((emptied.slot_time >= 0).sum()) == int((layer.slot_time >= 0).sum()) - 1
    assert not torch.allclose(changed, plain)
    assert torch.equal(other, plain)


def test_blocks_let_a_token_never_be_kept(model: LanguageModel) -> None:
    ids = tokens(1, 30)
    with torch.no_grad():
        plain, state = model(ids)
        with do.replace_state(model, 0, lambda state: state, every="block"):
            blocks, _ = model(ids)
        layer = do.layer_state(state, 0)
        assert isinstance(layer, BMojoState)
        held = layer.slot_time[0, 0].item()
        with do.replace_slot(model, 0, [int(held)]):
            _, without = model(ids)
    torch.testing.assert_close(blocks, plain)
    left = do.layer_state(without, 0)
    assert isinstance(left, BMojoState)
    assert held not in do.edit_slots(left, [int(held)]).slot_time


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: do.hook(m, "layer.9", lambda v, _: v), "layer 9 does not exist"),
        (lambda m: do.hook(m, "middle", lambda v, _: v), "no site 'middle'"),
        (lambda m: do.ablate(m, 1, "fading"), "layer 1 has no fading"),
        (lambda m: do.ablate(m, 1, "heart"), "part = 'heart'"),
        (lambda m: do.replace_slot(m, 1, [0]), "no eidetic memory"),
        (lambda m: do.replace_state(m, 0, lambda s: s, every="day"), "every = 'day'"),
        (lambda m: do.steer(m, 0, torch.ones(3)), "a direction has shape"),
        (lambda m: do.patch(m, "norm", torch.ones(2, 16), positions=[1]), "2 values"),
        (lambda _: do.ablate(object(), 0), "need a LanguageModel"),  # type: ignore
    ],
)
def test_what_makes_no_sense_is_refused(model: LanguageModel, call, message: str) -> None:
    with pytest.raises((ConfigError, ShapeError), match=message), call(model):
        pass
    assert untouched(model)


def test_a_change_of_shape_is_refused(model: LanguageModel) -> None:
    with (
        pytest.raises(ShapeError, match="must keep the shape"),
        do.hook(model, "layer.0", lambda v, _: v[:, :1]),
    ):
        logits(model, tokens(1, 5))
    assert untouched(model)
