"""Prediction networks read step by step what they read at once; the joint network broadcasts."""

from typing import Any

import pytest
import torch

from solomonic.speech.config import TransducerConfig
from solomonic.speech.model import Transducer
from solomonic.state import concatenate, gather

KINDS = [("lstm", 1, 2), ("lstm", 2, 2), ("stateless", 1, 1), ("stateless", 1, 3)]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}-{kind[2]}")
def model(request: pytest.FixtureRequest) -> Transducer:
    kind, layers, context = request.param
    config = TransducerConfig(
        vocab_size=9, bins=4, front="", pattern="L", hidden_size=8, num_attention_heads=2,
        intermediate_size=0, predictor=kind, predictor_layers=layers, predictor_context=context,
        predictor_size=6, joint_size=5,
    )  # fmt: skip
    return Transducer(config).double().eval().requires_grad_(False)


LABELS = torch.tensor([[1, 3, 5, 8, 2], [4, 4, 4, 1, 7], [8, 1, 1, 1, 1]])


def test_steps_give_what_the_whole_row_gives(model: Any) -> None:
    whole = model.predictor(LABELS)
    assert whole.shape == (3, 6, 5)
    label, state = model.predictor.start(3)
    torch.testing.assert_close(label, whole[:, 0], rtol=0, atol=1e-12)
    for u in range(LABELS.shape[1]):
        label, state = model.predictor.step(LABELS[:, u], state)
        torch.testing.assert_close(label, whole[:, u + 1], rtol=0, atol=1e-12)


def test_labels_matter(model: Any) -> None:
    whole = model.predictor(LABELS)
    assert (whole[:, 1:] - whole[:, :-1]).abs().amax(dim=(0, 2)).min() > 1e-4


def test_the_row_before_any_label_is_the_same_for_all(model: Any) -> None:
    whole = model.predictor(LABELS)
    assert torch.equal(whole[0, 0], whole[1, 0])
    assert model.predictor(LABELS[:, :0]).shape == (3, 1, 5)


def test_states_are_gathered_and_joined(model: Any) -> None:
    _, state = model.predictor.start(3)
    _, state = model.predictor.step(LABELS[:, 0], state)
    after, _ = model.predictor.step(LABELS[:, 1], state)
    index = torch.tensor([2, 0])
    picked, _ = model.predictor.step(LABELS[index, 1], gather(state, index))
    torch.testing.assert_close(picked, after[index], rtol=0, atol=1e-12)
    parts = [gather(state, torch.tensor([row])) for row in (0, 1, 2)]
    joined, _ = model.predictor.step(LABELS[:, 1], concatenate(parts))
    torch.testing.assert_close(joined, after, rtol=0, atol=1e-12)


def test_a_stateless_network_forgets_what_lies_further_back() -> None:
    config = TransducerConfig(
        vocab_size=9, front="", pattern="L", hidden_size=8, num_attention_heads=2,
        predictor="stateless", predictor_context=2, predictor_size=6, joint_size=5,
    )  # fmt: skip
    predictor = Transducer(config).eval().requires_grad_(False).predictor
    whole = predictor(torch.tensor([[1, 5, 6], [2, 5, 6]]))
    assert not torch.equal(whole[0, 2], whole[1, 2])
    assert torch.equal(whole[0, 3], whole[1, 3])


def test_the_joint_network_broadcasts(model: Any) -> None:
    acoustic, label = torch.randn(2, 3, 5).double(), torch.randn(2, 4, 5).double()
    grid = model.joint(acoustic[:, :, None], label[:, None])
    assert grid.shape == (2, 3, 4, 9)
    torch.testing.assert_close(grid[1, 2, 3], model.joint(acoustic[1, 2], label[1, 3]))
    expected = torch.tanh(acoustic[0, 0] + label[0, 0]) @ model.joint.weight.T + model.joint.bias
    torch.testing.assert_close(grid[0, 0, 0], expected)


def test_dropout_is_for_training_only(model: Any) -> None:
    before = model.predictor(LABELS)
    assert torch.equal(before, model.predictor(LABELS))
    model.train()
    model.predictor.dropout = 0.5
    assert not torch.equal(model.predictor(LABELS), model.predictor(LABELS))


def test_every_parameter_is_in_one_group(model: Any) -> None:
    groups = model.parameter_groups()
    assert sorted(groups["ssm"] + groups["attention"]) == sorted(dict(model.named_parameters()))
    assert "joint.bias" in groups["no_decay"] and "joint.weight" not in groups["no_decay"]
