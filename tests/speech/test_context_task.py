"""Training the attention to personal words: what is frozen, what is learned, what guides it."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError, Task
from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig
from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig
from solomonic.speech.biasing.sampling import Sampled, SamplingConfig
from solomonic.speech.context_task import ContextBatch, ContextTask, ContextTaskConfig
from solomonic.speech.data.bank import FeatureBank, build_bank
from solomonic.speech.pretrained import SpeechModel, load_speech_model
from solomonic.text.pieces import WordPieces
from solomonic.train import TrainConfig, train
from speech_tiny import tiny_model
from tone_speech import write_corpus

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    folder = tmp_path_factory.mktemp("context")
    manifest = write_corpus(folder, [("train", 12)])
    return build_bank(manifest, "train", folder / "bank", workers=1)


@pytest.fixture
def speech(bank: FeatureBank) -> SpeechModel:
    """The tiny recogniser with attention, untrained."""
    model = tiny_model(WordPieces.train(bank.texts, 40))
    sizes = {"vocab_size": model.pieces.size, "hidden_size": 32, "size": 16, "heads": 2}
    model.transducer.context = ContextBiasing(ContextConfig(embedding_size=8, **sizes))
    return model


def task(speech: SpeechModel, bank: FeatureBank, **changes: object) -> ContextTask:
    config = ContextTaskConfig.from_json({"frames_per_batch": 1200, "common": 1, **changes})
    return ContextTask(speech, [(bank, 1.0)], config=config, sampling=SamplingConfig(size=6))


def test_it_is_a_task_and_its_batches_resume(speech: SpeechModel, bank: FeatureBank) -> None:
    made = task(speech, bank)
    assert isinstance(made, Task)
    whole = list(islice(made.batches(None), 5))
    position = json.loads(json.dumps(whole[1][1]))
    for (one, _), (two, _) in zip(whole[2:], made.batches(position), strict=False):
        assert torch.equal(one.data.features, two.data.features)
        assert one.lists == two.lists


def test_training_changes_the_attention_and_nothing_else(
    speech: SpeechModel, bank: FeatureBank, tmp_path: Path
) -> None:
    before = {name: p.clone() for name, p in speech.transducer.named_parameters()}
    frames = torch.from_numpy(bank[0][: len(bank[0]) // 6 * 6])[None]
    plain = speech.transducer.acoustic(speech.transducer.hidden(frames)[0])
    config = TrainConfig(steps=3, lr=1e-2, warmup=0, precision="float32", eval_every=0)
    train(task(speech, bank), config, tmp_path / "run", progress=False)
    for name, parameter in speech.transducer.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (not name.startswith("context.")) or "no_bias" in name, name
    back = load_speech_model(tmp_path / "run").transducer
    hidden = back.hidden(frames)[0]
    assert torch.equal(back.acoustic(hidden), plain)
    assert back.context is not None
    listed = back.context.embed([speech.pieces.encode(bank.texts[0])])
    assert not torch.equal(back.acoustic(hidden, listed), plain)


def test_frames_that_say_a_phrase_guide_to_it(speech: SpeechModel, bank: FeatureBank) -> None:
    """A joint network that can only say the labels evenly in time: the alignment is known."""
    made = task(speech, bank, certain=0.9)
    net = speech.transducer
    tokens = torch.tensor([[1, 2, 3, 4]])
    hidden = torch.zeros(1, 40, 32)
    label = torch.zeros(1, 5, 32)
    # Frame t, label u: a label is likely only in frame 10 (u + 1) - 1.
    scores = torch.full((1, 40, 5, speech.pieces.size), -20.0)
    scores[..., 0] = 20.0
    for u in range(4):
        scores[0, 10 * u + 9, u] = -20.0
        scores[0, 10 * u + 9, u, u + 1] = 20.0
    net.joint.forward = lambda *_: scores  # type: ignore[method-assign]
    data = made.batches(None).__next__()[0].data
    data = type(data)(data.features, data.feature_lengths, tokens, torch.tensor([4]))
    lists = [Sampled(((9,), (2, 3)), ((1, 3, 1),))]
    given = ContextBatch(data, lists), hidden, label, torch.tensor([40])
    assert net.context is not None
    assert made._targets(net.context, *given).tolist() == [[0] * 9 + [2] * 21 + [0] * 10]
    pieces = ContextBiasing(net.context.config.replace(grain="piece"))
    assert made._targets(pieces, *given).tolist() == [[0] * 9 + [2] * 11 + [3] * 10 + [0] * 10]


def test_lists_of_nothing_and_short_rows_guide_nowhere(
    speech: SpeechModel, bank: FeatureBank
) -> None:
    made = task(speech, bank)
    batch, _ = next(made.batches(None))
    batch = ContextBatch(batch.data, [Sampled((), ())] * len(batch.lists))
    hidden, _, lengths = speech.transducer.hidden(
        batch.data.features, None, batch.data.feature_lengths
    )
    assert lengths is not None
    label = speech.transducer.predictor(batch.data.tokens)
    assert speech.transducer.context is not None
    assert (made._targets(speech.transducer.context, batch, hidden, label, lengths) == -1).all()
    loss, figures = made.loss(batch)
    assert np.isfinite(float(loss.detach())) and figures["guided"] == 0.0


def test_the_joint_networks_attention_is_trained_alone_or_beside_that_of_frames(
    speech: SpeechModel, bank: FeatureBank, tmp_path: Path
) -> None:
    net = speech.transducer
    config = PointerConfig(vocab_size=speech.pieces.size, joint_size=32, embedding_size=8, size=8)
    net.pointer = PointerBiasing(config)
    both = task(speech, bank)
    assert {name.split(".")[0] for name in both.parameter_groups()["attention"]} == {
        "context", "pointer",
    }  # fmt: skip
    batch, _ = next(both.batches(None))
    assert both.loss(batch)[1]["guided"] > 0
    net.context = None
    before = {name: p.clone() for name, p in net.named_parameters()}
    alone = task(speech, bank)
    first = alone.loss(batch)[0]
    config = TrainConfig(steps=6, lr=1e-2, warmup=0, precision="float32", eval_every=0)
    train(alone, config, tmp_path / "run", progress=False)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) == (not name.startswith("pointer.")), name
    assert alone.loss(batch)[0] < first
    back = load_speech_model(tmp_path / "run").transducer
    assert back.context is None and back.pointer is not None
    assert torch.equal(back.pointer.depth, net.pointer.depth)


def test_a_list_that_says_nothing_costs_what_the_plain_model_costs(
    speech: SpeechModel, bank: FeatureBank
) -> None:
    """The loss through logits with an empty list is the one that never has them."""
    made = task(speech, bank)
    batch, _ = next(made.batches(None))
    empty = ContextBatch(batch.data, [Sampled((), ())] * len(batch.lists))
    plain, _ = made.loss(empty)
    speech.transducer.context = None
    config = PointerConfig(vocab_size=speech.pieces.size, joint_size=32, embedding_size=8, size=8)
    speech.transducer.pointer = PointerBiasing(config)
    found, _ = task(speech, bank).loss(empty)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


def test_without_attention_or_short_utterances(speech: SpeechModel, bank: FeatureBank) -> None:
    with pytest.raises(DataError, match="no utterance is 0.01 s or shorter"):
        task(speech, bank, longest_seconds=0.01)
    speech.transducer.context = None
    with pytest.raises(ConfigError, match="no attention to personal words"):
        task(speech, bank)
