"""The short fine-tuning: where facts, questions and answers stand, and that it learns."""

import itertools

import numpy as np
import pytest
import torch

from solomonic.core import DataError
from solomonic.lm.attending import AttentionConfig, MemoryAttention
from solomonic.lm.attending_tune import TuneConfig, fine_tune, lesson, rows
from solomonic.text import ByteTokenizer
from tiny import tiny_model

TOKENS = np.array(list(b"the old ship went over the sea and the captain slept. " * 30))
LESSONS = [
    lesson(ByteTokenizer(), f"the {what} is {colour}.", f"\n {what}?", colour)
    for what, colour in (("door", "green"), ("hat", "red"), ("sky", "blue"))
]


def test_an_answer_begins_behind_the_token_that_follows_a_boundary() -> None:
    config = TuneConfig(length=120, facts=1.0)
    seen = set()
    for row in itertools.islice(rows(TOKENS, LESSONS, config, 16), 40):
        text = bytes(row.tolist())
        assert len(row) == 121
        one = next(x for x in LESSONS if bytes(x.fact) in text)
        at = text.index(bytes(one.question) + bytes(one.answer))
        last = at + len(one.question) - 1
        assert last % 16 == 0  # searched before the question's last token, found after it
        assert text.index(bytes(one.fact)) + len(one.fact) + config.length // 3 <= at
        seen.add(bytes(one.fact))
    assert len(seen) == 3
    plain = next(rows(TOKENS, [], TuneConfig(length=120, facts=0.0), 16))
    assert bytes(plain.tolist()) in bytes(TOKENS.tolist())
    one, two = (next(rows(TOKENS, LESSONS, config, 16)) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("memory", [True, False])
def test_it_learns_with_slots_and_without(memory: bool) -> None:
    torch.set_num_threads(1)
    model = tiny_model("BM").float()
    settings = AttentionConfig(chunk=16, period=16, query=16, top=2, follow=0)
    wrapped = MemoryAttention(model, ByteTokenizer(), settings) if memory else model
    config = TuneConfig(steps=10, rows=3, length=64, lr=1e-2, warmup=2)
    losses: list[float] = []
    query = dict(model.named_parameters())["blocks.0.mixer.query.weight"]
    before = query.detach().clone()
    source = rows(TOKENS, LESSONS, config, settings.period)
    fine_tune(wrapped, source, config, lambda _, loss: losses.append(loss))
    assert len(losses) == 10 and losses[-1] < losses[0] - 0.5
    assert not torch.equal(before, query)
    assert not model.training and model.embed.weight.requires_grad


def test_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="longer than a row"):
        next(rows(TOKENS[:50], LESSONS, TuneConfig(length=120), 16))
    with pytest.raises(DataError, match="facts with questions"):
        next(rows(TOKENS, [], TuneConfig(length=120), 16))
