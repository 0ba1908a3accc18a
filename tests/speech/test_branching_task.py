"""Training of a branching encoder: the price is paid, and what is dear is used less."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import CheckpointError, ConfigError
from solomonic.recipes import asr, debug
from solomonic.recipes.asr_data import AsrData
from solomonic.speech.branching import guide
from solomonic.speech.branching.cost import encoder_cost
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.branching.start import start_from
from solomonic.speech.branching.task import BranchingTaskConfig, BranchingTransducerTask
from solomonic.speech.config import TransducerConfig
from solomonic.speech.data.bank import FeatureBank, build_bank
from solomonic.speech.data.batches import Batch
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import write_device_model
from solomonic.speech.encoder import Encoder
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel, load_speech_model, save_speech_model
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.task import SpeechTaskConfig, TrainingModel
from solomonic.text.pieces import WordPieces
from speech_tiny import command, tiny_pieces
from tone_speech import write_corpus

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

CONFIG = SpeechTaskConfig(frames_per_batch=900, warm_steps=0, ramp_steps=0, seed=4)
SMALL = {"small_pattern": "L", "small_size": 8, "arbitrator_size": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"), [("train", 12), ("dev", 4)])


@pytest.fixture(scope="module")
def banks(manifest: Path) -> tuple[FeatureBank, FeatureBank]:
    return tuple(build_bank(manifest, s, manifest.parent / s, workers=1) for s in ("train", "dev"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def pieces(banks: Any) -> WordPieces:
    return WordPieces.train(banks[0].texts, 40)


def network(pieces: WordPieces, **changes: Any) -> Transducer:
    settings = {
        "vocab_size": pieces.size, "front": "", "pattern": "L", "hidden_size": 16,
        "num_attention_heads": 2, "intermediate_size": 0, "predictor_size": 12, "joint_size": 12,
        "predictor": "stateless", "dropout": 0.0, **SMALL,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Transducer(TransducerConfig.from_json({**settings, **changes}))
    net.encoder.mean.fill_(-10.0)
    net.encoder.deviation.fill_(4.0)
    return net


def made(banks: Any, pieces: WordPieces, **prices: Any) -> BranchingTransducerTask:
    config = BranchingTaskConfig(**{"cost_ramp_steps": 0, **prices})
    return BranchingTransducerTask(
        TrainingModel(network(pieces)), pieces, [(banks[0], 1.0)], [banks[1]], config=CONFIG,
        branching=config,
    )  # fmt: skip


def branching(task: Any) -> BranchingEncoder:
    """The encoder of a task's transducer."""
    return branching_encoder(task.model.transducer)


def branching_encoder(net: Transducer) -> BranchingEncoder:
    """The encoder of a transducer with branches."""
    encoder = net.encoder
    assert isinstance(encoder, BranchingEncoder)
    return encoder


def test_spoken_steps_lie_around_the_labels(
    banks: Any, pieces: WordPieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(pieces)
    said = torch.zeros(1, 20, 2)
    said[0, 8, 0], said[0, 9, 0], said[0, 14, 1] = 0.95, 0.05, 1.0
    monkeypatch.setattr(guide, "occupancy", lambda *_: (None, said))
    frames = torch.zeros(1, 20, net.config.frames_per_step, net.config.bins)
    frames[:, [1, 6, 7, 9, 14]] = 1.0  # loud; at 1 nothing is said
    frames = frames.flatten(1, 2)
    data = Batch(frames, torch.tensor([frames.shape[1]]), torch.tensor([[1, 2]]), torch.tensor([2]))
    spoken = guide.spoken_steps(net.train(), data, torch.zeros(1, 3, 12), before=3, after=1)
    assert spoken[0].nonzero()[:, 0].tolist() == [6, 7, 8, 9, 14, 15]
    assert branching_encoder(net).large.training, "as it was"


def test_the_guides_loss_by_hand() -> None:
    spoken = torch.tensor([[True, False, True], [False, True, True]])
    likely = torch.tensor([[0.9, 0.2, 0.5], [0.25, 0.7, 0.1]])
    found = guide.guide_loss(likely, spoken, torch.tensor([3, 1]))
    wanted = -torch.tensor([0.9, 0.8, 0.5, 0.75]).log().mean()
    assert torch.allclose(found, wanted)


def test_a_guided_gate_opens_where_words_are(
    banks: Any, pieces: WordPieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a price, in eighty steps of the arbitrator and the small branch alone. The tiny
    recogniser is untrained: it aligns anywhere, so that loudness stands for its alignment, and
    the transducer's loss has nothing to say."""

    def loud(net: Transducer, data: Batch, *_: Any) -> torch.Tensor:
        frames = data.features.mean(-1).unflatten(1, (-1, net.config.frames_per_step))
        return frames.mean(-1) > -4.0

    monkeypatch.setattr("solomonic.speech.branching.task.spoken_steps", loud)
    task = made(banks, pieces, cost_scale=0.0, guide_scale=1e4, guide_steps=80, freeze_large=True)
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], 3e-2)
    torch.manual_seed(0)
    missed = []
    task.model.train()
    for batch, _ in itertools.islice(task.batches(None), 81):
        loss, figures = task.loss(batch)
        assert ("guide" in figures) == (batch.step < 80)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        missed.append(figures.get("guide", 0.0))
    assert np.mean(missed[70:80]) < 0.6 * np.mean(missed[:10])


def learn(task: BranchingTransducerTask, steps: int) -> list[dict[str, float]]:
    learned = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-2)
    seen = []
    for (batch, _), _ in zip(task.batches(None), range(steps), strict=False):
        loss, figures = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(figures)
    return seen


def test_the_price_is_in_the_loss_and_comes_up_slowly(banks: Any, pieces: WordPieces) -> None:
    batch, _ = next(made(banks, pieces).batches(None))
    # At first a step is a toss-up whose gate is open with this probability.
    probability = torch.sigmoid(torch.tensor(2 / 3 * np.log(11.0))).item()
    for step, part in ((0, 1 / 8), (3, 0.5), (90, 1.0)):
        totals = []
        for price in (0.0, 4.0):
            torch.manual_seed(0)  # the heads' weights and the noise
            task = made(banks, pieces, cost_scale=price, cost_ramp_steps=8)
            totals.append(float(task.loss(dataclasses.replace(batch, step=step))[0].detach()))
        assert totals[1] - totals[0] == pytest.approx(4.0 * part * probability, rel=1e-3)


def test_delay_is_priced_where_the_machine_is_slow(banks: Any, pieces: WordPieces) -> None:
    batch, _ = next(made(banks, pieces).batches(None))
    figures = {}
    for load in (0.5, 2.0):
        torch.manual_seed(0)
        task = made(banks, pieces, cost_scale=0.0, latency_scale=1.0, machine_load=load)
        loss, figures[load] = task.loss(batch)
        loss.backward()
        gradient = branching(task).arbitrator.outside.bias.grad
        assert gradient is not None
        figures[load]["gradient"] = float(gradient)
    assert figures[0.5]["behind"] == 0 < figures[2.0]["behind"]
    assert figures[2.0]["gradient"] > figures[0.5]["gradient"]
    cost = encoder_cost(branching(task))
    opened = figures[2.0]["behind"] / batch.data.feature_lengths.float().mean().item() * 100
    share = torch.sigmoid(torch.tensor(2 / 3 * np.log(11.0))).item()
    assert opened == pytest.approx(2 * (share + cost.always / cost.chosen) - 1, rel=0.02)


def test_a_dear_large_branch_is_used_less(banks: Any, pieces: WordPieces) -> None:
    shares, told = [], []
    for price in (0.0, 8.0, 60.0):
        torch.manual_seed(0)
        task = made(banks, pieces, cost_scale=price)
        seen = learn(task, 30)
        shares.append(float(np.mean([figures["large"] for figures in seen[-6:]])))
        task.model.average(0.0)
        found = task.evaluate()
        told.append(found)
        assert found["loss"] == pytest.approx(found["transducer"] + price * found["large"])
    assert shares[0] > shares[1] + 0.05 > shares[2] + 0.1
    assert told[0]["large"] > told[2]["large"] + 0.3


def test_decisions_are_those_of_inference_at_the_end(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces, hard_after=5)
    batch, _ = next(task.batches(None))
    for step, gating in ((4, "soft"), (5, "hard")):
        task.loss(dataclasses.replace(batch, step=step))
        assert branching(task).gating == gating


def test_what_is_frozen_stays(banks: Any, pieces: WordPieces) -> None:
    task = made(banks, pieces, freeze_large=True)
    before = {n: p.detach().clone() for n, p in task.model.named_parameters()}
    learn(task, 3)
    moved = {n for n, p in task.model.named_parameters() if not torch.equal(p, before[n])}
    learned = ("encoder.small.", "encoder.up.", "encoder.arbitrator.")
    own = {n for n in moved if n.startswith("transducer.")}
    assert own and all(n.removeprefix("transducer.").startswith(learned) for n in own)
    named = {name for names in task.parameter_groups().values() for name in names}
    assert named == {n for n, p in task.model.named_parameters() if p.requires_grad}


def test_a_transducer_with_one_encoder_is_refused(banks: Any, pieces: WordPieces) -> None:
    with pytest.raises(ConfigError, match="one encoder only; set small_pattern"):
        BranchingTransducerTask(
            TrainingModel(network(pieces, small_pattern="")), pieces, [(banks[0], 1.0)]
        )
    with pytest.raises(ConfigError, match="cost_scale must not be negative"):
        BranchingTaskConfig(cost_scale=-1.0)
    with pytest.raises(ConfigError, match="hard_after = -1 must be null"):
        BranchingTaskConfig(hard_after=-1)


def test_a_plain_model_becomes_the_large_branch(pieces: WordPieces) -> None:
    plain, net = network(pieces, small_pattern=""), network(pieces)
    torch.nn.init.ones_(plain.joint.bias)
    start_from(net, plain)
    encoder = net.eval().encoder
    assert isinstance(encoder, BranchingEncoder)
    encoder.arbitrator.outside.bias.data.fill_(1.0)
    x = torch.randn(2, 30, 80)
    assert torch.equal(net.acoustic(net.hidden(x)[0]), plain.eval().acoustic(plain.hidden(x)[0]))
    assert torch.equal(net.joint.bias, plain.joint.bias)
    with pytest.raises(ConfigError, match="hidden_size = 16 differs from 24"):
        start_from(net, network(pieces, small_pattern="", hidden_size=24))
    with pytest.raises(ConfigError, match="has no small branch"):
        start_from(plain, plain)


def test_it_is_stored_loaded_and_heard_like_any_model(tmp_path: Path) -> None:
    pieces = tiny_pieces()
    net = network(pieces).eval()
    assert isinstance(net.encoder, BranchingEncoder)
    torch.nn.init.normal_(net.encoder.arbitrator.outside.weight, std=3.0)
    net.encoder.arbitrator.outside.bias.data.fill_(-1.6)
    save_speech_model(tmp_path / "model", SpeechModel(net, pieces))
    again = load_speech_model(tmp_path / "model")
    assert again.transducer.config == net.config
    x = 6 * torch.randn(1, 240, 80) - 10
    trace: list[dict] = []
    assert torch.equal(again.transducer.hidden(x, trace=trace)[0], net.hidden(x)[0])
    assert 0 < trace[0]["large"].mean() < 1
    recognizer = Recognizer(again, decode=DecodeConfig(method="greedy"))
    stream = recognizer.create_stream()
    audio = command()
    for start in range(0, len(audio), 1234):
        stream.accept_waveform(16000, audio[start : start + 1234])
    stream.input_finished()
    assert stream.events() == recognizer_events(recognizer, audio)
    with pytest.raises(ConfigError, match="this model has two branches; run it with PyTorch"):
        write_device_model(tmp_path / "m.solo", again)
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="model of type"):
        load_speech_model(tmp_path / "model")


def recognizer_events(recognizer: Recognizer, audio: np.ndarray) -> list[Any]:
    """Of the whole recording in one piece."""
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, audio)
    stream.input_finished()
    return stream.events()


def test_settings_of_a_run_switch_it_on(manifest: Path, tmp_path: Path) -> None:
    given = {"small_pattern": "L", "small_size": 32, "cost_scale": 2.5, "copies": 0}
    run = debug.speech().changed(given)
    assert run.branching.cost_scale == 2.5 and run == asr.AsrRun.from_json(run.to_json())
    prepared = asr.build_task(run, AsrData(manifests=(str(manifest),)), tmp_path / "a")
    assert isinstance(prepared.task, BranchingTransducerTask)
    assert prepared.task.branching == run.branching
    plain = asr.build_task(
        debug.speech().changed({"copies": 0}), AsrData(manifests=(str(manifest),)), tmp_path / "b"
    )
    assert not isinstance(plain.task, BranchingTransducerTask)
    (tmp_path / "plain").mkdir()
    plain.task.save(str(tmp_path / "plain"))
    start = asr.build_task(
        run.replace(model=asr.model_of(tmp_path / "plain").replace(small_pattern="L")),
        AsrData(manifests=(str(manifest),)),
        tmp_path / "c",
        init=tmp_path / "plain",
    )
    encoder, trained = branching(start.task), plain.task.model.transducer.encoder
    assert isinstance(trained, Encoder)
    assert torch.equal(encoder.large.join.weight, trained.join.weight)
    assert torch.equal(encoder.mean, trained.mean)
