"""Neighbours, examples, and the one call with a time budget."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from solomonic.core import ConfigError, DataError
from solomonic.lm.adapt import (
    AdaptConfig,
    NeighbourTraining,
    adapt,
    choose_examples,
    dynamic_log_probs,
    neighbour_log_probs,
)
from solomonic.lm.adapt.neighbours import examples_prompt, find
from solomonic.lm.generate import GenerateConfig, Generation
from solomonic.lm.score import token_log_probs
from solomonic.memory import Memory, NewItem
from solomonic.text import ByteTokenizer
from tiny import tiny_model, tokens

TOKENIZER = ByteTokenizer()
CONFIG = AdaptConfig(segment=16, rate=0.01, neighbour_rate=0.02, neighbours=3, query_tokens=40)
TEXTS = [
    "the lighthouse keeper wrote in his log every evening",
    "a recipe for bread: flour, water, salt and time",
    "the keeper of the lighthouse went down to the boats",
    "stocks fell on monday and rose on tuesday",
]


@pytest.fixture
def memory() -> Memory:
    store = Memory.open(":memory:")
    store.write_many(
        NewItem(text=text, source="book", offset=100 * number) for number, text in enumerate(TEXTS)
    )
    return store


def ids(text: str) -> list[int]:
    return [TOKENIZER.eos_id, *TOKENIZER.encode(text)]


def test_neighbours_come_from_the_memory_the_nearest_last(memory: Memory) -> None:
    found = find(memory, TOKENIZER, ids("who was the lighthouse keeper's keeper?"), CONFIG, 2)
    assert {n.offset for n in found} == {0, 200}
    assert [n.score for n in found] == sorted(n.score for n in found)
    assert TOKENIZER.decode(found[-1].tokens) == TEXTS[found[-1].offset // 100]
    short = find(memory, TOKENIZER, ids("bread"), CONFIG.replace(neighbour_tokens=8), 1)
    assert TOKENIZER.decode(short[0].tokens) == TEXTS[1][:8]
    assert find(memory, TOKENIZER, [TOKENIZER.eos_id], CONFIG, 2) == []
    assert find(memory, TOKENIZER, ids("bread"), CONFIG, 0) == []


def test_learning_from_a_neighbour_helps_and_comes_off_bit_for_bit(memory: Memory) -> None:
    model = tiny_model("MB")
    mark, text = model.fingerprint(), torch.tensor([ids(TEXTS[0])])
    before, _ = token_log_probs(model, text)
    training = NeighbourTraining(model, TOKENIZER, memory, CONFIG)
    used = training.prepare(ids("the lighthouse keeper wrote"))
    assert len(used) in (2, 3)
    after, _ = token_log_probs(model, text)
    assert after.sum() > before.sum() + 1
    training.restore()
    assert model.fingerprint() == mark
    again, _ = token_log_probs(model, text)
    assert torch.equal(again, before)


def test_nothing_is_scored_after_being_looked_at(memory: Memory) -> None:
    """Neighbours are asked for with what was read: what comes later changes no earlier score."""
    model = tiny_model("MB")
    text = torch.tensor(ids("the lighthouse keeper " * 6))
    other = text.clone()
    other[100:] = tokens(len(text) - 100, seed=5)

    def scores(row: torch.Tensor) -> torch.Tensor:
        training = NeighbourTraining(model, TOKENIZER, memory, CONFIG)
        return torch.cat([s for s, _ in neighbour_log_probs(training, row, stretch=40)])

    one, two = scores(text), scores(other)
    assert len(one) == len(text) - 1
    assert torch.equal(one[:99], two[:99])
    plain, _ = token_log_probs(model, text[None])
    assert torch.allclose(one[:40], plain[0, :40], atol=1e-9)
    assert not torch.allclose(one[40:], plain[0, 40:], atol=1e-3)


def test_weights_come_back_when_scoring_is_broken_off(memory: Memory) -> None:
    model = tiny_model("MB")
    mark = model.fingerprint()
    training = NeighbourTraining(model, TOKENIZER, memory, CONFIG)
    bad = torch.tensor(ids("the lighthouse keeper " * 6))
    bad[120] = 999
    with pytest.raises(ValueError, match="vocabulary"):
        list(neighbour_log_probs(training, bad, stretch=100))
    assert model.fingerprint() == mark


def test_examples_fit_their_room_and_stand_nearest_last(memory: Memory) -> None:
    model_tokens = ids("the lighthouse keeper")
    both = choose_examples(memory, TOKENIZER, model_tokens, CONFIG.replace(examples=2))
    assert [TOKENIZER.decode(e.tokens) for e in both] == [
        TOKENIZER.decode(n.tokens) for n in find(memory, TOKENIZER, model_tokens, CONFIG, 2)
    ]
    room = len(both[-1].tokens) + 1
    one = choose_examples(
        memory, TOKENIZER, model_tokens, CONFIG.replace(examples=2, example_tokens=room)
    )
    assert [e.offset for e in one] == [both[-1].offset]
    prompt = examples_prompt(one, TOKENIZER)
    assert len(prompt) == room
    assert prompt[0] == TOKENIZER.eos_id


def ticking(step: float) -> Callable[[], float]:
    """A clock that moves on by `step` whenever it is looked at."""
    now = [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock


def test_the_call_reads_learns_and_leaves_the_model_as_it_was(memory: Memory) -> None:
    model = tiny_model("MB")
    mark, text = model.fingerprint(), TEXTS[0] * 3
    result = adapt(model, text, tokenizer=TOKENIZER, memory=memory, config=CONFIG)
    assert model.fingerprint() == mark
    assert result.finished
    assert result.steps == len(result.neighbours) + -(-len(text) // 16)
    assert result.unread == (TOKENIZER.encode(text)[-1],)
    assert len(result.log_probs) == len(text)
    assert [f"{n.source} {n.offset}" for n in result.neighbours][-1] == "book 0"
    assert any("neighbours" in line for line in result.report())
    assert result.to_json()["steps"] == result.steps
    assert result.delta is not None
    # The delta is what the result's state goes on with.
    with result.delta.applied_to(model):
        config = GenerateConfig(max_new_tokens=3, temperature=0)
        assert len(list(Generation(model, [list(result.unread)], config, result.state))) == 3
        adapted, _ = token_log_probs(model, torch.tensor([ids(text)]))
    plain, _ = token_log_probs(model, torch.tensor([ids(text)]))
    assert adapted.sum() > plain.sum()


def test_dynamic_alone_is_dynamic_evaluation() -> None:
    model, text = tiny_model("MB"), tokens(60)
    result = adapt(model, text, config=CONFIG)
    expected = dynamic_log_probs(model, text, CONFIG)
    assert torch.equal(torch.tensor(result.log_probs, dtype=expected.dtype), expected)
    assert abs(result.bits + expected.sum().item() / 0.6931471805599453) < 1e-9


def test_examples_alone_change_no_weight(memory: Memory) -> None:
    model = tiny_model("MB")
    config = CONFIG.replace(methods=("examples",))
    text = "the lighthouse keeper"
    result = adapt(model, text, tokenizer=TOKENIZER, memory=memory, config=config)
    assert (result.delta, result.steps) == (None, 0)
    prompt = examples_prompt(result.examples, TOKENIZER)
    expected, _ = token_log_probs(model, torch.tensor([prompt + ids(text)]))
    found = torch.tensor(result.log_probs, dtype=torch.float64)
    assert torch.allclose(found, expected[0, len(prompt) :], atol=1e-9)


@pytest.mark.parametrize("budget", [0.5, 3.5, 7.5, 40.5])
def test_no_step_begins_after_the_budget(memory: Memory, budget: float) -> None:
    """The clock moves by a second at every look, and every step is preceded by one look."""
    model = tiny_model("MB")
    result = adapt(
        model,
        TEXTS[0] * 4,
        tokenizer=TOKENIZER,
        memory=memory,
        budget_seconds=budget,
        config=CONFIG,
        clock=ticking(1.0),
    )
    assert result.steps <= budget
    assert result.finished == (budget > 30)
    if not result.finished:
        assert "ran out" in result.report()[-1]
        read = len(result.log_probs)
        assert result.unread == tuple(ids(TEXTS[0] * 4)[read:])


def test_what_is_missing_is_said(memory: Memory, tmp_path: Path) -> None:
    model = tiny_model("MB")
    with pytest.raises(ConfigError, match="tokenizer"):
        adapt(model, "text")
    with pytest.raises(ConfigError, match="'examples' needs a memory"):
        adapt(model, tokens(9), config=CONFIG.replace(methods=("examples",)))
    with pytest.raises(DataError, match="nothing to adapt"):
        adapt(model, "", tokenizer=TOKENIZER)
    result = adapt(model, tokens(30), budget_seconds=0, config=CONFIG, clock=ticking(1.0))
    assert (result.delta, result.log_probs, len(result.unread)) == (None, (), 30)
    assert dataclasses.is_dataclass(result)
