"""A language model learns from another's probabilities."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError
from solomonic.lm.data import TokenData
from solomonic.lm.distill import DistilledLanguageTask
from solomonic.lm.model import LanguageModel
from solomonic.lm.task import TaskConfig
from solomonic.recipes import debug
from solomonic.text import ByteTokenizer


def model(seed: int, **changes: Any) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(debug.TINY.replace(**changes))


def made(teacher: LanguageModel, **settings: Any) -> DistilledLanguageTask:
    text = np.frombuffer(b"the cat sat on the mat. " * 80, np.uint8).astype(np.uint16)
    data = TokenData(train=text, valid=text[:200], held_out="tail", fingerprint="x", report={})
    config = TaskConfig(batch_size=4, length=32)
    return DistilledLanguageTask(
        model(1), ByteTokenizer(), data, config, teacher=teacher, **settings
    )


def test_nothing_is_to_be_learned_from_oneself() -> None:
    task = made(model(1), share=0.5)
    batch, _ = next(task.batches(None))
    loss, figures = task.loss(batch)
    assert figures["distance"] == pytest.approx(0, abs=1e-6)
    assert float(loss.detach()) == pytest.approx(0.5 * figures["text"], rel=1e-5)
    assert figures["tokens"] == batch[:, 1:].numel()


def test_the_student_comes_closer_and_the_teacher_stays() -> None:
    teacher = model(2, initializer_range=0.5)
    before = teacher.embed.weight.clone()
    task = made(teacher, share=1.0, temperature=2.0)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    distances = []
    for batch, _ in islice(task.batches(None), 30):
        loss, figures = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(figures["distance"])
    assert distances[-1] < 0.7 * distances[0]
    assert torch.equal(teacher.embed.weight, before)


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ConfigError, match="they must be the same to be compared"):
        made(model(2, vocab_size=300))
    with pytest.raises(ConfigError, match="share = 2 must lie"):
        made(model(2), share=2)
