"""The models that are measured: ours, and the same shapes for the peers.

Two sizes. `M` is Mamba-2 as published, without MLPs, tensor for tensor what llama.cpp and
Transformers call Mamba-2; `T` is their Llama. The other patterns and peers have the width of `T`
and about as many parameters.
"""

import dataclasses
from typing import Any

from solomonic.layers import ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """vocab, width: of all models; layers, mlp: where there are MLPs; ssm_layers: where not."""

    vocab: int
    width: int
    layers: int
    mlp: int
    ssm_layers: int
    hybrid_mlp: int  # of Falcon-H1, which has attention and a state-space model in every layer

    @property
    def heads(self) -> int:
        return self.width // HEAD


HEAD = 64
STATE = 128
TAPS = 4
WINDOW = 64
SIZES = {
    "10M": Size(vocab=8_192, width=256, layers=8, mlp=704, ssm_layers=16, hybrid_mlp=448),
    "130M": Size(vocab=32_000, width=768, layers=12, mlp=2_048, ssm_layers=24, hybrid_mlp=1_344),
}
PATTERNS = "MBFDWT"
GROWING = {"llama", "T", "qwen3_next", "falcon_h1"}  # their state grows with the text


def ours(size: str, letter: str) -> ModelConfig:
    """The model of that size whose layers are all of one kind."""
    of = SIZES[size]
    common: dict[str, Any] = {"vocab_size": of.vocab, "hidden_size": of.width}
    if letter == "M":
        return ModelConfig(
            **common, pattern="M" * of.ssm_layers, intermediate_size=0,
            ssm_expand=2, ssm_state_size=STATE, ssm_head_dim=HEAD, ssm_conv_size=TAPS,
        )  # fmt: skip
    return ModelConfig(
        **common, pattern=letter * of.layers, intermediate_size=of.mlp,
        num_attention_heads=of.heads, window_size=WINDOW, eidetic_slots=WINDOW, fading_slots=1,
        position="rope" if letter in "TW" else "none",
    )  # fmt: skip


def peer_shape(size: str, model: str) -> dict[str, int]:
    """The numbers a peer's own configuration is made from."""
    of = SIZES[size]
    if model in ("mamba", "mamba2"):
        return {
            "vocab": of.vocab, "width": of.width, "layers": of.ssm_layers,
            "state": 16 if model == "mamba" else STATE, "head": HEAD, "expand": 2, "conv": TAPS,
        }  # fmt: skip
    mlp = of.hybrid_mlp if model == "falcon_h1" else of.mlp
    return {
        "vocab": of.vocab, "width": of.width, "layers": of.layers, "heads": of.heads, "mlp": mlp,
        "state": STATE, "head": HEAD, "conv": TAPS,
    }  # fmt: skip


def flops_per_token(size: str, model: str, parameters: int) -> float:
    """Arithmetic of one token of a long text: two a weight (the head is needed for the last token
    only), and the update and reading of a recurrent state. What an algorithm does beyond the
    definition (chunked forms do up to twice as much) is not counted, so the share of the machine's
    matrix rate is a lower bound."""
    of = SIZES[size]
    products = 2.0 * (parameters - of.vocab * of.width)
    if model in ("M", "mamba2"):
        return products + of.ssm_layers * 5 * (2 * of.width) * STATE
    if model in ("B", "F"):
        keys = WINDOW + 1 + (WINDOW if model == "B" else 0)
        return products + of.layers * of.width * (4 * keys + 5 * 32)
    return products


def touched_bytes(weight_bytes: int, state_bytes: int) -> int:
    """Bytes a decoded token must move: every weight (the embedding is the head) and the stream's
    state once. That a recurrent state is written back, too, is not counted, so the share of the
    bandwidth is a lower bound."""
    return weight_bytes + state_bytes
