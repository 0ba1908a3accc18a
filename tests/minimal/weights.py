"""Seeded weights for the minimal models, by the names and shapes of a saved model.

Larger than a trained start, so that every path speaks loudly enough to be missed when it is gone.
"""

import math
from typing import Any

import torch
from torch import Tensor

from solomonic.layers.config import ModelConfig

# What the tests of this folder start from.
BASE: dict[str, Any] = {
    "vocab_size": 29, "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "window_size": 8, "ssm_state_size": 4, "ssm_head_dim": 8,
    "pattern": "B",
}  # fmt: skip


def ssm_shapes(config: ModelConfig, letter: str) -> dict[str, tuple[int, ...]]:
    """Parameters of an 'M' or 'D' mixer."""
    d, size = config.hidden_size, config.ssm_state_size
    inner = config.ssm_expand * d
    heads = inner // config.ssm_head_dim
    conv = inner + 2 * size if letter == "M" else inner + 2 * heads * size
    shapes = {
        "in_proj.weight": (inner + conv + (heads if letter == "M" else 2 * heads), d),
        "conv.weight": (conv, 1, config.ssm_conv_size),
        "conv.bias": (conv,),
        "dt_bias": (heads,),
        "A_log": (heads,),
        "norm.weight": (inner,),
        "out_proj.weight": (d, inner),
    }
    return shapes | ({"D": (heads,)} if letter == "M" else {})


def mixer_shapes(config: ModelConfig, letter: str) -> dict[str, tuple[int, ...]]:
    if letter in "MD":
        return ssm_shapes(config, letter)
    d, size = config.hidden_size, config.head_size
    if letter == "L":
        matrices = {f"cell.weight_{side}_l0": (4 * d, d) for side in ("ih", "hh")}
        return matrices | {f"cell.bias_{side}_l0": (4 * d,) for side in ("ih", "hh")}
    wide, narrow = config.num_attention_heads * size, config.key_value_heads * size
    shapes = {
        "query.weight": (wide, d),
        "key.weight": (narrow, d),
        "value.weight": (narrow, d),
        "output.weight": (d, wide),
    }
    if letter in config.short_conv_layers and config.short_conv_size:
        shapes["conv.weight"] = (d, 1, config.short_conv_size)
    if letter in "FB":
        inner = ssm_shapes(config, {"ssd": "M", "delta": "D"}[config.transition])
        shapes |= {f"ssm.{name}": shape for name, shape in inner.items()}
    return shapes


def model_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter of a model, by name; the head only when it is not tied."""
    d, m = config.hidden_size, config.mlp_size
    shapes = {"embed.weight": (config.vocab_size, d), "norm.weight": (d,)}
    if not config.tie_word_embeddings:
        shapes["head.weight"] = (config.vocab_size, d)
    for i, letter in enumerate(config.layers):
        block = {"norm.weight": (d,)}
        block |= {f"mixer.{name}": s for name, s in mixer_shapes(config, letter).items()}
        if m:
            block |= {"mlp_norm.weight": (d,), "mlp.down.weight": (d, m)}
            block |= {"mlp.gate.weight": (m, d), "mlp.up.weight": (m, d)}
        shapes |= {f"blocks.{i}.{name}": s for name, s in block.items()}
    return shapes


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """float64 weights: matrices of unit gain, norms near one, decays between fast and slow."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith(("norm.weight", ".D")):
            return 1 + 0.2 * noise
        if name.endswith("A_log"):
            return 0.7 * noise
        if name.endswith("dt_bias"):
            return noise - 2
        if name == "embed.weight" or name.rpartition(".")[2].startswith("bias"):
            return 0.5 * noise
        return noise / math.sqrt(math.prod(shape[1:]))

    return {name: draw(name, shape) for name, shape in sorted(model_shapes(config).items())}
