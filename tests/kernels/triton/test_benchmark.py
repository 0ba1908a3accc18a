"""The GPU benchmark as far as a CPU reaches: its refusal, its models, its Transformer's step."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solomonic.layers import ModelConfig
from solomonic.lm.model import LanguageModel

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    found = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is here")
def test_without_a_device_it_says_so_in_one_sentence() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "this benchmark needs a CUDA device, and torch sees none.\n"


def test_the_models_are_of_equal_size(gpu) -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in LanguageModel(config).parameters())
            for name, config in gpu.MODELS.items()
        }
    assert max(sizes.values()) < 1.05 * min(sizes.values()), sizes


def test_the_static_transformer_is_the_transformer(gpu) -> None:
    config = ModelConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, pattern="TT",
        position="rope", vocab_size=50, initializer_range=0.3,
    )  # fmt: skip
    model = LanguageModel(config).double().eval()
    text = torch.randint(0, 50, (3, 9))
    static = gpu.StaticTransformer(model, 3, 9)
    with torch.no_grad():
        law, state = model(text)
        for cache, layer in zip(static.caches, state.stack.layers, strict=True):
            k, v = layer.kv.unbind(2)
            turned = gpu.rotate(k, torch.arange(9), config.rope_theta)
            cache[0], cache[1] = turned.transpose(1, 2), v.transpose(1, 2)
        static.tokens.copy_(text[:, -1:])
        for cache in static.caches:
            cache[..., -1, :] = torch.nan  # the step writes its own token
        assert torch.allclose(static.step(), law[:, -1], atol=1e-10)


def test_a_training_step_learns(gpu) -> None:
    config = ModelConfig(hidden_size=32, pattern="B", window_size=8, vocab_size=50)
    model, text = LanguageModel(config), torch.randint(0, 50, (2, 17))
    before = model.embed.weight.detach().clone()
    step, ran = gpu.training_step(model, text)
    step()
    assert not torch.equal(model.embed.weight, before)
    assert any(line.startswith("attention: ") for line in ran)
