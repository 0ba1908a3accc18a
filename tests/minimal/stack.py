"""A whole model, one row of tokens, from a pattern of layers: every hybrid as one loop.

Jamba, Griffin and Samba style stacks are patterns over the minimal layers beside this file.
"""

from collections.abc import Mapping

from torch import Tensor

from minimal.bmojo import Trace, bmojo
from minimal.delta import delta
from minimal.lstm import lstm
from minimal.mamba2 import mamba2
from minimal.transformer import attention, rms_norm, swiglu, under
from solomonic.layers.config import ModelConfig


def mixer(
    letter: str, p: Mapping[str, Tensor], config: ModelConfig, u: Tensor
) -> tuple[Tensor, Trace | None]:
    """One layer of the pattern on its normed input u (T, d)."""
    match letter:
        case "T":
            return attention(p, config, u, None), None
        case "W":
            return attention(p, config, u, config.window_size), None
        case "M":
            return mamba2(p, config, u), None
        case "D":
            return delta(p, config, u), None
        case "L":
            return lstm(p, u), None
        case "F":
            return bmojo(p, config, u, slots=0)
        case "B":
            return bmojo(p, config, u, slots=config.eidetic_slots)
    raise AssertionError(letter)


def stack(
    weights: Mapping[str, Tensor], config: ModelConfig, tokens: Tensor
) -> tuple[Tensor, list[Trace | None]]:
    """tokens (T,) -> logits (T, vocab_size) and the trace of every layer."""
    x, traces = weights["embed.weight"][tokens], []
    for i, letter in enumerate(config.layers):
        p = under(weights, f"blocks.{i}.")
        u = rms_norm(x, p["norm.weight"], config.norm_eps)
        out, trace = mixer(letter, under(p, "mixer."), config, u)
        x, traces = x + out, [*traces, trace]
        if config.mlp_size > 0:
            x = x + swiglu(under(p, "mlp."), rms_norm(x, p["mlp_norm.weight"], config.norm_eps))
    head = weights["embed.weight" if config.tie_word_embeddings else "head.weight"]
    return rms_norm(x, weights["norm.weight"], config.norm_eps) @ head.T, traces
