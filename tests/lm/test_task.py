"""The language model's task: its loss, its held-out figures, and a whole run of training."""

import itertools
import math
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError, Task
from solomonic.lm.data import DataConfig, TokenData, prepare
from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import load_pretrained
from solomonic.lm.task import LanguageModelTask, TaskConfig
from solomonic.text import BpeTokenizer, ByteTokenizer
from solomonic.train import TrainConfig, list_checkpoints, load_checkpoint, read_log, train
from tiny import tiny_config, tiny_model, tokens

TEXT = "the cat sat on the mat, and the rat sat on the cat. " * 40


def data(train: list[int], valid: list[int]) -> TokenData:
    return TokenData(train=np.array(train, np.uint16), valid=np.array(valid, np.uint16),
                     held_out="file", fingerprint="f", report={})  # fmt: skip


def task(
    model: LanguageModel | None = None, valid_size: int = 300, **settings: object
) -> LanguageModelTask:
    valid = tokens(valid_size, seed=3).tolist()
    config = TaskConfig(**{"batch_size": 3, "length": 8, **settings})  # type: ignore[arg-type]
    return LanguageModelTask(
        model or tiny_model(), ByteTokenizer(), data(tokens(200).tolist(), valid), config
    )


def exact_nats(model: LanguageModel, stream: list[int]) -> torch.Tensor:
    """One call over the whole stream, written out."""
    x = torch.tensor([stream])
    with torch.no_grad():
        logits, _ = model(x[:, :-1])
    return -logits[0].log_softmax(-1)[torch.arange(len(stream) - 1), x[0, 1:]]


def test_it_is_a_task_and_its_loss_is_that_of_the_next_token() -> None:
    it = task()
    assert isinstance(it, Task)
    batch, _ = next(it.batches(None))
    loss, figures = it.loss(batch)
    by_hand = torch.stack([exact_nats(it.model, row.tolist()) for row in batch]).mean()
    torch.testing.assert_close(loss.double(), by_hand, rtol=1e-5, atol=0)
    assert figures == {"tokens": 24.0} and loss.requires_grad


def test_one_lane_reads_the_stream_as_if_in_one_call() -> None:
    it = task(eval_lanes=1, eval_tokens=None)
    stream = tokens(300, seed=3).tolist()
    figures = it.evaluate()
    nats = exact_nats(it.model, stream)
    assert figures["loss"] == pytest.approx(float(nats.mean()), rel=1e-12)
    assert figures["perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-12)
    assert (figures["eval_tokens"], figures["context"]) == (299, 299)
    size = sum(token != 256 for token in stream[1:])
    assert figures["eval_bytes"] == size
    assert figures["bits_per_byte"] == pytest.approx(float(nats.sum()) / math.log(2) / size)


@pytest.mark.parametrize(("lanes", "size"), [(2, 300), (3, 301), (4, 300), (64, 300)])
def test_lanes_predict_every_token_once(lanes: int, size: int) -> None:
    it = task(eval_lanes=lanes, valid_size=size)
    stream = tokens(size, seed=3).tolist()
    used = min(lanes, (size - 1) // (8 * 8))
    each = (size - 1) // used
    cuts = [n * each for n in range(used)] + [size - 1]
    parts = [exact_nats(it.model, stream[a : b + 1]) for a, b in itertools.pairwise(cuts)]
    figures = it.evaluate()
    assert figures["eval_tokens"] == size - 1 == sum(len(part) for part in parts)
    assert figures["loss"] == pytest.approx(float(torch.cat(parts).mean()), rel=1e-12)


def test_full_attention_is_read_in_windows_unless_told() -> None:
    it = task(tiny_model("TD"))
    stream = tokens(300, seed=3).tolist()
    parts = [exact_nats(it.model, stream[at : at + 9]) for at in range(0, 299, 8)]
    figures = it.evaluate()
    assert figures["loss"] == pytest.approx(float(torch.cat(parts).mean()), rel=1e-12)
    assert (figures["eval_tokens"], figures["context"]) == (299, 8)
    carried = task(tiny_model("TD"), eval_carry=True, eval_lanes=1).evaluate()
    assert carried["context"] == 299
    assert carried["loss"] == pytest.approx(float(exact_nats(it.model, stream).mean()), rel=1e-12)


def test_bits_per_byte_counts_the_bytes_of_long_tokens() -> None:
    tokenizer = BpeTokenizer.train([TEXT], 280)
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    ids = tokenizer.encode(TEXT[:200])
    it = LanguageModelTask(model, tokenizer, data(ids, ids), TaskConfig(batch_size=1, length=8))
    first = len(tokenizer.token_bytes(ids[0]))
    assert it.evaluate()["eval_bytes"] == 200 - first > len(ids)


def test_a_limit_and_nothing_held_out() -> None:
    assert task(eval_tokens=50).evaluate()["eval_tokens"] == 50
    assert task(valid_size=1).evaluate() == {}


def test_refusals() -> None:
    with pytest.raises(
        ConfigError, match="tokenizer has 257 tokens and the model only 100; set voc"
    ):
        task(tiny_model(vocab_size=100))
    with pytest.raises(DataError, match="has 200 tokens, fewer than one window of 301"):
        task(length=300)
    for name in ("batch_size", "length", "eval_lanes", "eval_tokens"):
        with pytest.raises(ConfigError, match=f"{name} = 0 must be at least 1"):
            task(**{name: 0})


def fresh(folder: Path, stands_after: int | None = None) -> LanguageModelTask:
    """A B'MOJO task over text in `folder`, as a command would build it; after so many steps it
    stands still, if asked, until it is killed."""
    (folder / "text.txt").write_text(TEXT)
    torch.manual_seed(5)
    tokenizer = ByteTokenizer()
    stored = prepare(DataConfig(path=str(folder / "text.txt"), valid_fraction=0.1), tokenizer,
                     folder / "data", progress=False)  # fmt: skip
    model = LanguageModel(tiny_config("BM", initializer_range=0.1))
    it = LanguageModelTask(model, tokenizer, stored, TaskConfig(batch_size=4, length=24))
    if stands_after is not None:
        whole, calls = it.loss, itertools.count()

        def standing(batch: Any) -> Any:
            if next(calls) >= stands_after:
                time.sleep(3600)
            return whole(batch)

        it.loss = standing  # type: ignore[method-assign]
    return it


SETTINGS = TrainConfig(
    steps=12, lr=1e-2, precision="float32", log_every=1, save_every=4, eval_every=6
)


def test_training_writes_a_model_that_loads_and_has_learned(tmp_path: Path) -> None:
    it = fresh(tmp_path)
    result = train(it, SETTINGS.replace(steps=40), tmp_path, progress=False)
    assert result.best is not None
    assert result.evaluation["bits_per_byte"] < 0.75 * 8
    loaded, tokenizer = load_pretrained(tmp_path)
    again = LanguageModelTask(loaded, tokenizer, data([1] * 30, list(it._held_out)), it.config)
    assert again.evaluate()["loss"] == pytest.approx(result.best["loss"], rel=1e-6)
    assert result.tokens == 40 * 4 * 24


WORKER = """
    import importlib.util, pathlib, sys
    sys.path.insert(0, {tests!r})
    import torch
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    spec = importlib.util.spec_from_file_location("test_task", {here!r})
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = pathlib.Path({folder!r})
    module.train(module.fresh(folder, stands_after=8), module.SETTINGS, folder, progress=False)
"""


@pytest.mark.slow
def test_a_killed_language_model_resumes_bit_for_bit(tmp_path: Path) -> None:
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    straight = fresh(tmp_path / "straight")
    train(straight, SETTINGS, tmp_path / "straight", progress=False)
    code = textwrap.dedent(WORKER).format(
        tests=str(Path(__file__).parents[1]), here=__file__, folder=str(tmp_path / "killed")
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not any(r.get("step", 0) >= 6 for r in read_log(tmp_path / "killed" / "log.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = list_checkpoints(tmp_path / "killed" / "checkpoints")[-1]
    assert load_checkpoint(newest).step < 12
    resumed = fresh(tmp_path / "killed")
    train(resumed, SETTINGS, tmp_path / "killed", resume=True, progress=False)
    curves = [
        [(r["step"], r["loss"], r.get("grad_norm")) for r in read_log(tmp_path / d / "log.jsonl")
         if r["event"] in ("step", "eval")]
        for d in ("straight", "killed")
    ]  # fmt: skip
    assert curves[0] == curves[1] and len(curves[0]) == 14
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
