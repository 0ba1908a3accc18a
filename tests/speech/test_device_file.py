"""A recogniser as a device file: Python hears the same from it as from the model's folder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, read_pack, write_pack
from solomonic.compress.pack.pieces import model_of, vocabulary_of
from solomonic.core import CheckpointError, ConfigError
from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig
from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig
from solomonic.speech.config import TransducerConfig
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import (
    read_device_model,
    read_device_settings,
    state_of,
    write_device_model,
)
from solomonic.speech.endpoint import EndpointConfig
from solomonic.speech.endpoint.head import EndHead, EndHeadConfig
from solomonic.speech.endpoint.voice import VoiceConfig
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel
from solomonic.text.pieces import WordPieces

PIECES = WordPieces.train(["the cat sat on the mat", "it's a dog"], 40)
CONFIG = TransducerConfig(
    vocab_size=PIECES.size,
    bins=16,
    front="M",
    pattern="WL",
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=48,
    predictor_size=32,
    joint_size=32,
)
MATRIX = "transducer.to_joint.weight"


def make(context: bool = False) -> SpeechModel:
    torch.manual_seed(1)
    transducer = Transducer(CONFIG)
    if context:
        transducer.context = ContextBiasing(
            ContextConfig(vocab_size=PIECES.size, hidden_size=32, embedding_size=8, size=16)
        )
        transducer.pointer = PointerBiasing(
            PointerConfig(vocab_size=PIECES.size, joint_size=32, embedding_size=8, size=16)
        )
    end = EndHead(EndHeadConfig(hidden_size=32, label_size=32))
    return SpeechModel(transducer.eval(), PIECES, end.eval())


@pytest.mark.parametrize("context", [False, True])
def test_there_and_back(context: bool, tmp_path: Path) -> None:
    model = make(context)
    write_device_model(tmp_path / "a.solo", model, bits=32)
    found = read_device_model(tmp_path / "a.solo")
    assert found.transducer.config == CONFIG
    assert (found.transducer.context is not None) == context
    assert (found.transducer.pointer is not None) == context
    assert found.pieces == PIECES
    state = state_of(found.parts())
    assert list(state) == list(state_of(model.parts()))
    for name, tensor in state_of(model.parts()).items():
        assert torch.equal(state[name], tensor), name
    assert not any(p.requires_grad for p in found.transducer.parameters())


def test_eight_bits_and_given_matrices(tmp_path: Path) -> None:
    model = make()
    levels = np.random.default_rng(0).integers(-7, 8, (32, 32)).astype(np.int8)
    given = {MATRIX: QuantisedMatrix(levels, np.full(32, 0.25, np.float32), 4)}
    write_device_model(tmp_path / "a.solo", model, given)
    pack = read_pack(tmp_path / "a.solo")
    stored = pack.tensors[MATRIX]
    assert isinstance(stored, QuantisedMatrix)
    assert stored.bits == 4
    assert isinstance(pack.tensors["transducer.encoder.norm.weight"], np.ndarray)
    state, exact = state_of(read_device_model(tmp_path / "a.solo").parts()), state_of(model.parts())
    assert np.array_equal(state[MATRIX].numpy(), levels * np.float32(0.25))
    changed = 0
    for name, tensor in state.items():
        if name != MATRIX:
            top = exact[name].abs().amax(-1, keepdim=True)
            assert ((tensor - exact[name]).abs() <= top / 253).all(), name
            changed += not torch.equal(tensor, exact[name])
    assert changed > 5
    with pytest.raises(ConfigError, match="no tensor of the model"):
        write_device_model(tmp_path / "b.solo", model, {"absent": given[MATRIX]})
    with pytest.raises(ConfigError, match="bits = 4"):
        write_device_model(tmp_path / "b.solo", model, bits=4)


def test_settings_go_along(tmp_path: Path) -> None:
    decode = DecodeConfig(beam=3, expand_beam=float("inf"), lattice=False)
    endpoint = EndpointConfig(final_ms=350.0)
    voice = VoiceConfig(margin=1.25)
    write_device_model(tmp_path / "a.solo", make(), decode=decode, endpoint=endpoint, voice=voice)
    found = read_device_settings(tmp_path / "a.solo")
    assert (found.decode, found.endpoint, found.voice) == (decode, endpoint, voice)
    assert found.features.bins == 16
    write_device_model(tmp_path / "a.solo", make())
    assert read_device_settings(tmp_path / "a.solo").endpoint == EndpointConfig()


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_device_model(tmp_path / "a.solo", make())
    pack = read_pack(tmp_path / "a.solo")
    less = {name: t for name, t in pack.tensors.items() if name != MATRIX}
    for changes, why in (
        ({"config": {**pack.config, "model.type": "other"}}, "no recogniser"),
        ({"config": {**pack.config, "model.version": "2"}}, "version 2"),
        ({"config": {**pack.config, "layers.norm_eps": "0.1"}}, "unknown here"),
        ({"config": {**pack.config, "transducer.joint_size": "64"}}, "should be"),
        ({"config": {**pack.config, "transducer.new": "64"}}, "transducer.new"),
        ({"tensors": less}, f"'{MATRIX}' is absent"),
        ({"vocabulary": None}, "no word pieces"),
    ):
        write_pack(tmp_path / "b.solo", dataclasses.replace(pack, **changes))
        with pytest.raises(CheckpointError, match=why):
            read_device_model(tmp_path / "b.solo")
    write_pack(tmp_path / "c.solo", Pack({}, {}))
    with pytest.raises(CheckpointError, match="no recogniser"):
        read_device_settings(tmp_path / "c.solo")


def test_a_setting_that_came_later_may_be_absent(tmp_path: Path) -> None:
    write_device_model(tmp_path / "a.solo", make())
    pack = read_pack(tmp_path / "a.solo")
    assert "layers.ssm_state_rank" not in pack.config
    assert not any(key.startswith("transducer.small_") for key in pack.config)
    wanted = read_device_model(tmp_path / "a.solo").transducer.config
    assert wanted == CONFIG
    for more, fits in (
        ({"layers.ssm_state_rank": "null"}, True),  # as files of 21 November 2026 say it
        ({"layers.ssm_state_rank": "4"}, False),
        ({"layers.from_the_future": "1"}, False),
    ):
        config = {**pack.config, **more}
        write_pack(tmp_path / "b.solo", dataclasses.replace(pack, config=config))
        if fits:
            assert read_device_model(tmp_path / "b.solo").transducer.config == wanted
            continue
        with pytest.raises(CheckpointError, match="unknown here"):
            read_device_model(tmp_path / "b.solo")
    config = {k: v for k, v in pack.config.items() if k != "layers.norm_eps"}
    write_pack(tmp_path / "b.solo", dataclasses.replace(pack, config=config))
    with pytest.raises(CheckpointError, match="unknown here"):
        read_device_model(tmp_path / "b.solo")


def test_word_pieces_come_back_byte_for_byte() -> None:
    model = PIECES.to_bytes()
    vocabulary = vocabulary_of(model)
    assert [piece.text.decode() for piece in vocabulary.pieces] == list(PIECES.pieces)
    assert model_of(vocabulary) == model
    assert vocabulary.pieces[0].type == 2
    assert not vocabulary.rewrites
    with pytest.raises(ConfigError, match="no SentencePiece model"):
        vocabulary_of(model[:-3])
