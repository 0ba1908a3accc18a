"""A language model as a device file: the same model, or one whose matrices have 8 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, read_pack, write_pack
from solomonic.core import CheckpointError, ConfigError
from solomonic.layers.config import ModelConfig
from solomonic.lm.device_file import read_device_model, write_device_model
from solomonic.lm.model import LanguageModel
from solomonic.text import BpeTokenizer, ByteTokenizer

CONFIG = ModelConfig(vocab_size=300, hidden_size=32, num_attention_heads=2, pattern="BMW")
TEXT = ["the cat sat on the mat, the cat sat there"] * 4


@pytest.fixture(name="model")
def _model() -> LanguageModel:
    torch.manual_seed(3)
    return LanguageModel(CONFIG).eval()


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_there_and_back(kind: str, model: LanguageModel, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer() if kind == "bytes" else BpeTokenizer.train(TEXT, 270)
    write_device_model(tmp_path / "a.solo", model, tokenizer, bits=32)
    found, other = read_device_model(tmp_path / "a.solo")
    assert type(other) is type(tokenizer)
    assert other.encode(TEXT[0]) == tokenizer.encode(TEXT[0])
    assert found.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    pack = read_pack(tmp_path / "a.solo")
    assert pack.vocabulary is not None
    texts = [piece.text for piece in pack.vocabulary.pieces]
    assert b"".join(texts[i] for i in tokenizer.encode(TEXT[0])).decode() == TEXT[0]


def test_a_setting_that_came_later_may_be_absent(model: LanguageModel, tmp_path: Path) -> None:
    write_device_model(tmp_path / "a.solo", model, ByteTokenizer())
    assert "lm.ssm_state_rank" not in read_pack(tmp_path / "a.solo").config
    assert read_device_model(tmp_path / "a.solo")[0].config == CONFIG
    config = CONFIG.replace(ssm_state_rank=5)
    write_device_model(tmp_path / "b.solo", LanguageModel(config), ByteTokenizer())
    assert read_pack(tmp_path / "b.solo").config["lm.ssm_state_rank"] == "5"
    assert read_device_model(tmp_path / "b.solo")[0].config == config


def test_eight_bits_and_given_matrices(model: LanguageModel, tmp_path: Path) -> None:
    levels = np.zeros((300, 32), np.int8)
    levels[:, 0] = 7
    matrix = QuantisedMatrix(levels, np.full(300, 0.5, np.float32), 4)
    given = {"lm.embed.weight": matrix}
    write_device_model(tmp_path / "a.solo", model, ByteTokenizer(), given)
    found, _ = read_device_model(tmp_path / "a.solo")
    assert found.embed.weight[:, 0].tolist() == [3.5] * 300
    exact = model.state_dict()
    for name, tensor in found.state_dict().items():
        if name.startswith(("embed", "head")):
            continue
        off = (tensor - exact[name]).abs().max()
        assert off <= exact[name].abs().max() / 250, name
    with pytest.raises(ConfigError, match="no tensor of the model"):
        write_device_model(tmp_path / "b.solo", model, ByteTokenizer(), {"lm.absent": matrix})
    with pytest.raises(ConfigError, match="bits = 4"):
        write_device_model(tmp_path / "b.solo", model, ByteTokenizer(), bits=4)


def test_other_files_are_refused(model: LanguageModel, tmp_path: Path) -> None:
    write_device_model(tmp_path / "a.solo", model, ByteTokenizer())
    pack = read_pack(tmp_path / "a.solo")
    for config, why in (
        ({**pack.config, "model.type": "other"}, "no language model"),
        ({**pack.config, "model.version": "2"}, "version 2"),
        ({**pack.config, "lm.hidden_size": "64"}, "should be"),
        ({**pack.config, "lm.pattern": "BMZ"}, "no possible model"),
        ({k: v for k, v in pack.config.items() if k != "lm.pattern"}, "lm.pattern"),
    ):
        write_pack(tmp_path / "b.solo", Pack(config, pack.tensors, pack.vocabulary))
        with pytest.raises(CheckpointError, match=why):
            read_device_model(tmp_path / "b.solo")
    write_pack(tmp_path / "b.solo", Pack(pack.config, pack.tensors))
    with pytest.raises(CheckpointError, match="no tokenizer"):
        read_device_model(tmp_path / "b.solo")
