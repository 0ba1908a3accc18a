"""A student transducer is pulled to its teacher, at the cells where paths pass."""

from typing import Any

import pytest
import torch

from solomonic.core import ConfigError
from solomonic.speech.config import TransducerConfig
from solomonic.speech.data.bank import FeatureBank, build_bank
from solomonic.speech.distill import (
    DistillConfig,
    DistilledTransducerTask,
    cell_labels,
    cell_log_probs,
    collapsed,
    later,
)
from solomonic.speech.model import BLANK, Transducer
from solomonic.speech.task import Computed, SpeechTaskConfig, TrainingModel
from solomonic.text.pieces import WordPieces
from tone_speech import write_corpus

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

CONFIG = SpeechTaskConfig(frames_per_batch=900, warm_steps=0, ramp_steps=0, seed=4)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    folder = tmp_path_factory.mktemp("tones")
    return build_bank(write_corpus(folder, [("train", 12)]), "train", folder / "bank", workers=1)


@pytest.fixture(scope="module")
def pieces(bank: FeatureBank) -> WordPieces:
    return WordPieces.train(bank.texts, 40)


def network(pieces: WordPieces, seed: int, **changes: Any) -> Transducer:
    settings = {
        "vocab_size": pieces.size, "front": "", "pattern": "L", "hidden_size": 16,
        "num_attention_heads": 2, "intermediate_size": 0, "predictor_size": 12, "joint_size": 12,
        "predictor": "stateless", "dropout": 0.0,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Transducer(TransducerConfig.from_json({**settings, **changes}))
    net.encoder.mean.fill_(-10.0)
    net.encoder.deviation.fill_(4.0)
    return net


def made(bank: Any, pieces: WordPieces, same: bool, **settings: Any) -> DistilledTransducerTask:
    student = network(pieces, 1)
    return DistilledTransducerTask(
        TrainingModel(student),
        pieces,
        [(bank, 1.0)],
        config=CONFIG,
        teacher=network(pieces, 1 if same else 2),
        distill=DistillConfig(**settings),
    )


@pytest.mark.parametrize("kind", ["full", "collapsed"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    bank: FeatureBank, pieces: WordPieces, kind: str
) -> None:
    settings = {"kind": kind, "hidden_scale": 1.0}
    batch, _ = next(made(bank, pieces, True).batches(None))
    _, figures = made(bank, pieces, True, **settings).loss(batch)
    assert figures["distance"] == pytest.approx(0, abs=1e-5)
    assert figures["hidden"] == pytest.approx(0, abs=1e-9)
    _, figures = made(bank, pieces, False, **settings).loss(batch)
    assert figures["distance"] > 0.01 and figures["hidden"] > 0.1


def test_the_collapsed_distance_is_never_above_the_full_one(
    bank: FeatureBank, pieces: WordPieces
) -> None:
    batch, _ = next(made(bank, pieces, False).batches(None))
    found = [made(bank, pieces, False, kind=k).loss(batch)[1] for k in ("collapsed", "full")]
    assert 0 < found[0]["distance"] < found[1]["distance"]


def test_training_brings_them_together(bank: FeatureBank, pieces: WordPieces) -> None:
    task = made(bank, pieces, False, joint_scale=100.0, hidden_scale=10.0)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    distances = []
    for (batch, _), _ in zip(task.batches(None), range(90), strict=False):
        loss, figures = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(figures["distance"])
    assert all(p.grad is None for p in task.teacher.parameters())
    assert sum(distances[-5:]) < 0.6 * sum(distances[:5])


def parts_of(pieces: WordPieces, net: Transducer) -> Computed:
    """Two utterances, 7 and 4 frames, 3 and 1 labels; four positions a frame."""
    from solomonic.speech.data.batches import Batch

    data = Batch(
        torch.randn(2, 42, 80), torch.tensor([42, 24]),
        torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([3, 1]),
    )  # fmt: skip
    hidden, _, lengths = net.hidden(data.features, None, data.feature_lengths)
    assert lengths is not None
    ranges = torch.arange(4).expand(2, 7, 4)
    label = net.predictor(data.tokens)
    return Computed(data, hidden, lengths, net.acoustic(hidden), label, ranges)


def test_cells_are_those_of_the_lattice(pieces: WordPieces) -> None:
    net = network(pieces, 1)
    with torch.no_grad():
        parts = parts_of(pieces, net)
        found, real = cell_log_probs(net, parts.acoustic, parts.label, parts, 4)
        every = net.joint(parts.acoustic[:, :, None], parts.label[:, None]).log_softmax(-1)
    assert torch.allclose(found, every, atol=1e-6)
    assert real[0].all()
    assert real[1].int().sum(1).tolist() == [2, 2, 2, 2, 0, 0, 0]
    labels = cell_labels(parts, 4)
    assert labels[0, 0].tolist() == [5, 6, 7, BLANK]
    assert labels[1, 2].tolist() == [8, BLANK, BLANK, BLANK]
    three = collapsed(found, labels).exp()
    assert torch.allclose(three.sum(-1), torch.ones(2, 7, 4), atol=1e-5)
    assert torch.allclose(three[0, 3, 1, 0], found[0, 3, 1, 6].exp())
    assert torch.allclose(three[..., 1], found[..., BLANK].exp())
    narrow, _ = cell_log_probs(net, parts.acoustic, parts.label, parts, 2)
    assert torch.equal(narrow, found[:, :, 1:3])


def test_a_delay_looks_ahead_of_the_student() -> None:
    x = torch.arange(5.0).view(1, 5, 1)
    assert later(x, 0) is x
    assert later(x, 2).flatten().tolist() == [2, 3, 4, 4, 4]


def test_a_teacher_of_another_kind_is_refused(bank: FeatureBank, pieces: WordPieces) -> None:
    for changes in ({"vocab_size": pieces.size + 1}, {"reduction": 1}, {"hidden_size": 8}):
        with pytest.raises(ConfigError, match="they must be equal to be compared"):
            DistilledTransducerTask(
                TrainingModel(network(pieces, 1)),
                pieces,
                [(bank, 1.0)],
                teacher=network(pieces, 2, **changes),
                distill=DistillConfig(hidden_scale=1.0),
            )
    with pytest.raises(ConfigError, match="use one of full, collapsed"):
        DistillConfig(kind="half")
