"""Training of a transducer: finite losses, a schedule, a running mean, positions that resume."""

import dataclasses
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError, Task
from solomonic.speech.config import TransducerConfig
from solomonic.speech.data.bank import FeatureBank, build_bank
from solomonic.speech.data.online import SILENCE, OnlineConfig
from solomonic.speech.loss import joint_transducer_loss
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import load_speech_model
from solomonic.speech.task import SpeechTaskConfig, TrainingModel, TransducerTask
from solomonic.text.pieces import WordPieces
from tone_speech import write_corpus

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

CONFIG = SpeechTaskConfig(frames_per_batch=1500, warm_steps=2, ramp_steps=2, seed=4)


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureBank, FeatureBank]:
    """Training and held-out utterances of tones."""
    folder = tmp_path_factory.mktemp("tones")
    manifest = write_corpus(folder, [("train", 20), ("dev", 5)])
    return tuple(build_bank(manifest, s, folder / s, workers=1) for s in ("train", "dev"))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def pieces(banks: tuple[FeatureBank, FeatureBank]) -> WordPieces:
    return WordPieces.train(banks[0].texts, 40)


def network(pieces: WordPieces, **changes: Any) -> Transducer:
    settings = {
        "vocab_size": pieces.size, "front": "", "pattern": "L", "hidden_size": 16,
        "num_attention_heads": 2, "intermediate_size": 0, "predictor_size": 12, "joint_size": 12,
        "predictor": "stateless",
    }  # fmt: skip
    net = Transducer(TransducerConfig.from_json({**settings, **changes}))
    net.encoder.mean.fill_(-10.0)
    net.encoder.deviation.fill_(4.0)
    return net


def made(banks: Any, pieces: WordPieces, config: SpeechTaskConfig = CONFIG) -> TransducerTask:
    train, dev = banks
    noises = [train[0][:50]]
    return TransducerTask(
        TrainingModel(network(pieces)), pieces, [(train, 1.0)], [dev], noises, config
    )


def test_it_is_a_task(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    assert isinstance(task, Task)
    groups = task.parameter_groups()
    names = dict(task.model.named_parameters())
    assert sorted([*groups["ssm"], *groups["attention"]]) == sorted(names)
    assert set(groups["no_decay"]) <= set(names)


@pytest.mark.parametrize("step", [0, 1, 3, 5, 400])
def test_losses_and_gradients_are_finite_all_along_the_schedule(
    banks: Any, pieces: WordPieces, step: int
) -> None:
    task = made(banks, pieces)
    batch, _ = next(task.batches(None))
    loss, figures = task.loss(dataclasses.replace(batch, step=step))
    loss.backward()
    assert np.isfinite([float(loss.detach()), *figures.values()]).all()
    gradients = {name: p.grad for name, p in task.model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert gradients["transducer.joint.weight"].abs().sum() > 0  # type: ignore[union-attr]
    assert figures["tokens"] == float(batch.data.feature_lengths.sum())


def test_the_losses_come_in_by_the_schedule(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    batch, _ = next(task.batches(None))
    for step, simple, aside, pruned in ((0, 1, 1, 0.05), (3, 0.75, 0.575, 0.5), (9, 0.5, 0.15, 1)):
        task.model.eval()  # no dropout
        loss, figures = task.loss(dataclasses.replace(batch, step=step))
        weighted = simple * figures["simple"] + aside * figures["ctc"] + pruned * figures["pruned"]
        assert float(loss.detach()) == pytest.approx(weighted, rel=1e-5)


def test_batches_go_on_from_any_position(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    many = list(islice(task.batches(None), 40))  # several epochs
    assert len({len(batch.data.features) for batch, _ in many}) > 1
    for start in (1, 7, 30):
        position = json.loads(json.dumps(many[start - 1][1]))
        again = list(islice(made(banks, pieces).batches(position), 3))
        for (batch, after), (expected, where) in zip(again, many[start:], strict=False):
            assert after == where and batch.step == expected.step
            for field in dataclasses.fields(batch.data):
                a, b = (getattr(x.data, field.name) for x in (batch, expected))
                assert torch.equal(a, b), field.name


def test_an_utterance_is_never_read_twice_alike(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    firsts = [batch.data.features[0, :, 0] for batch, _ in islice(task.batches(None), 12)]
    assert len({tuple(x.tolist()) for x in firsts}) == 12


def test_the_last_step_is_filled_with_silence(banks: Any, pieces: WordPieces) -> None:
    train, dev = banks
    config = CONFIG.replace(frames_per_batch=100_000)
    quiet = OnlineConfig(noise=0, time_masks=0, bin_masks=0, volume_db=(0, 0), tail_min_ms=0)
    task = TransducerTask(
        TrainingModel(network(pieces)), pieces, [(train, 1)], [dev], [], config, quiet
    )
    data = next(task.batches(None))[0].data
    assert (data.feature_lengths % 6 == 0).all()
    for frames, length in zip(data.features, data.feature_lengths, strict=True):
        assert (frames[length:] == 0).all()
        assert not (frames[:length] == 0).all(dim=1).any()
        assert frames[:length].min() >= np.float32(SILENCE)


def test_the_mean_runs_after_the_weights(banks: Any, pieces: WordPieces) -> None:
    model = made(banks, pieces).model
    weight = model.transducer.joint.bias
    with torch.no_grad():
        weight.zero_()
        model.average(0.0)
        weight.fill_(1.0)
        for _ in range(3):
            model.average(0.9)
    assert torch.allclose(model.averaged().joint.bias, torch.tensor(1 - 0.9**3))
    assert torch.equal(weight, torch.ones_like(weight))
    before = torch.get_rng_state()
    copy = model.averaged()
    assert torch.equal(before, torch.get_rng_state()) and not copy.training
    assert torch.equal(copy.encoder.mean, model.transducer.encoder.mean)


def test_the_mean_begins_at_once_and_slows_down(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    batch, _ = next(task.batches(None))
    start = task.model.transducer.joint.bias.detach().clone()
    with torch.no_grad():
        task.model.transducer.joint.bias.add_(1.0)
    task.loss(batch)  # the first step has nothing behind it
    assert torch.equal(task.model.averaged().joint.bias, start)
    task.loss(dataclasses.replace(batch, step=1))
    assert torch.allclose(task.model.averaged().joint.bias, start + 1 - 2 / 11)


def test_evaluation_is_the_exact_loss_of_the_mean(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces)
    with torch.no_grad():
        for parameter in task.model.transducer.parameters():
            parameter.mul_(2.0)  # the running mean is still the first weights
    found = task.evaluate()
    net, dev = task.model.averaged(), banks[1]
    nats = labels = 0.0
    with torch.no_grad():
        for i in range(len(dev)):
            tail = 24 + -(len(dev[i]) + 24) % 6
            frames = np.pad(dev[i], ((0, tail), (0, 0)), constant_values=SILENCE)
            tokens = torch.tensor([pieces.encode(dev.texts[i])])
            hidden, _, _ = net.hidden(torch.from_numpy(frames)[None])
            loss = joint_transducer_loss(
                net.acoustic(hidden), net.predictor(tokens), net.joint.weight, net.joint.bias,
                tokens, torch.tensor([hidden.shape[1]]), torch.tensor([tokens.shape[1]]),
                reduction="sum",
            )  # fmt: skip
            nats, labels = nats + float(loss), labels + tokens.shape[1]
    assert found["eval_labels"] == labels
    assert found["loss"] == pytest.approx(nats / labels, rel=1e-4)
    assert task.evaluate() == found


def test_without_held_out_utterances_there_are_no_figures(banks: Any, pieces: WordPieces) -> None:
    task = TransducerTask(TrainingModel(network(pieces)), pieces, [(banks[0], 1.0)])
    assert task.evaluate() == {}


def test_what_is_saved_is_the_mean(banks: Any, pieces: WordPieces, tmp_path: Path) -> None:
    task = made(banks, pieces)
    with torch.no_grad():
        task.model.transducer.joint.bias.add_(1.0)
    task.save(str(tmp_path))
    model = load_speech_model(tmp_path)
    assert model.pieces == pieces
    expected = task.model.averaged().state_dict()
    for name, tensor in model.transducer.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_what_is_left_out_is_counted_by_the_reason(tmp_path: Path, pieces: WordPieces) -> None:
    manifest = write_corpus(tmp_path, [("train", 8)])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines.sort(key=lambda line: line["duration"])
    texts = ["", "go stop left right " * 8, "go go", "left"]
    for line, text in zip(lines, texts, strict=False):
        line["text"] = text  # of the shortest recordings
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bank = build_bank(manifest, "train", tmp_path / "bank", workers=1)
    longest = (float(bank.lengths.max()) - 1) / 100
    config = CONFIG.replace(longest_seconds=longest)
    task = TransducerTask(TrainingModel(network(pieces)), pieces, [(bank, 1.0)], config=config)
    over = int((bank.lengths > round(longest * 100)).sum())
    assert over and task.left_out == {
        f"longer than {longest:g} s": over, "without words": 1, "too short for its text": 1,
    }  # fmt: skip
    with pytest.raises(DataError, match=r"no utterance to train on \(8 longer than 0.1 s\)"):
        TransducerTask(
            TrainingModel(network(pieces)), pieces, [(bank, 1.0)],
            config=CONFIG.replace(longest_seconds=0.1),
        )  # fmt: skip


def test_weights_say_how_often_a_bank_is_read(banks: Any, pieces: WordPieces) -> None:
    train, dev = banks
    task = TransducerTask(
        TrainingModel(network(pieces)), pieces, [(train, 1.0), (dev, 3.0)], config=CONFIG
    )
    rows = 0
    for batch, after in task.batches(None):
        rows += len(batch.data.features)
        if after["order"]["epoch"] == 1 or after["order"]["index"] == 0:
            break
    assert rows == pytest.approx(len(train) + 3 * len(dev), abs=8)


def test_other_pieces_than_the_model_has_are_refused(banks: Any, pieces: WordPieces) -> None:
    net = network(pieces, vocab_size=pieces.size + 1)
    with pytest.raises(ConfigError, match=f"set vocab_size = {pieces.size}"):
        TransducerTask(TrainingModel(net), pieces, [(banks[0], 1.0)])


def test_banks_of_other_features_are_refused(banks: Any, pieces: WordPieces) -> None:
    for changes in ({"bins": 40}, {"shift_ms": 5.0}):
        model = TrainingModel(network(pieces, **changes))
        with pytest.raises(DataError, match="other features than the model's"):
            TransducerTask(model, pieces, [(banks[0], 1.0)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames_per_batch": 0}, "frames_per_batch = 0 must be at least 1"),
        ({"longest_seconds": 0}, "longest_seconds = 0 must be above 0"),
        ({"average_decay": 1.0}, r"average_decay must lie in \[0, 1\)"),
        ({"ctc_scale": -1.0}, "ctc_scale must not be negative"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpeechTaskConfig(**changes)
