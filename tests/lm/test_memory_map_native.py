"""The native core's memory map is the torch model's, read off its streams at every refresh."""

import numpy as np
import pytest
import torch

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.lm.memory_map import memory_map
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.text.tokenizer import ByteTokenizer
from tiny import tiny_config

pytestmark = needs_core


@pytest.mark.parametrize("length", [2, 3, 17, 18, 40])
@pytest.mark.parametrize(("window", "refresh"), [(5, 3), (3, 3), (2, 7)])
def test_it_is_the_torch_models(length: int, window: int, refresh: int) -> None:
    torch.manual_seed(0)
    config = tiny_config("BMB", window_size=window, refresh_period=min(refresh, window))
    model = LanguageModel(config).eval()
    text = bytes(torch.randint(0, 256, (length,)).tolist())
    wanted = memory_map(model, ByteTokenizer(), text)
    found = memory_map(NativeModel(model), ByteTokenizer(), text)
    assert found.pieces == wanted.pieces and found.window == wanted.window
    assert [layer.layer for layer in found.layers] == [layer.layer for layer in wanted.layers]
    for mine, law in zip(found.layers, wanted.layers, strict=True):
        np.testing.assert_allclose(mine.innovation, law.innovation, rtol=1e-4, atol=1e-5)
        assert mine.times.tolist() == law.times.tolist()
        assert np.sort(mine.kept).tolist() == np.sort(law.kept).tolist()


def test_a_window_of_one_token_is_refused() -> None:
    model = LanguageModel(tiny_config("B", window_size=1, refresh_period=1))
    with pytest.raises(ConfigError, match="window of one token"):
        memory_map(NativeModel(model), ByteTokenizer(), "abc")
