"""Hugging Face Transformers as a contender: Llama, Mamba, Mamba-2, Qwen3-Next, Falcon-H1.

Random weights, eager, fused attention (sdpa), inference mode, logits of the last token only. A
cache that grows is filled with random keys and values up to the position asked for; recurrent
states come from reading 512 tokens, since they are the same size ever after.
"""

import logging
import os
from typing import Any

import torch
import transformers

from peers.protocol import NotHere, serve
from peers.training import Trainer, usual_loss

READ = 512
CHUNK = 64  # of Mamba-2's scan: on a CPU up to 1.5 times as fast as the default of 256
logging.getLogger("transformers").setLevel(logging.ERROR)


def configuration(model: str, shape: dict[str, int]) -> Any:
    """The peer's own configuration of these numbers."""
    common = {
        "vocab_size": shape["vocab"], "hidden_size": shape["width"],
        "num_hidden_layers": shape["layers"], "tie_word_embeddings": True, "use_cache": True,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    width, head = shape["width"], shape["head"]
    if model in ("mamba", "mamba2"):
        common |= {"state_size": shape["state"], "expand": shape["expand"]}
        common |= {"conv_kernel": shape["conv"]}
        if model == "mamba":
            return transformers.MambaConfig(**common)
        heads = shape["expand"] * width // head
        return transformers.Mamba2Config(
            **common, num_heads=heads, head_dim=head, n_groups=1, chunk_size=CHUNK
        )
    common |= {
        "intermediate_size": shape["mlp"], "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["heads"], "max_position_embeddings": 1 << 20,
    }  # fmt: skip
    if model == "llama":
        return transformers.LlamaConfig(**common)
    if model == "qwen3_next":
        return transformers.Qwen3NextConfig(
            **common, head_dim=head, num_experts=0, mlp_only_layers=list(range(shape["layers"])),
            linear_num_key_heads=shape["heads"], linear_num_value_heads=shape["heads"],
            linear_key_head_dim=head, linear_value_head_dim=head,
        )  # fmt: skip
    return transformers.FalconH1Config(
        **common, mamba_d_ssm=width, mamba_n_heads=width // head, mamba_d_head=head,
        mamba_d_state=shape["state"], mamba_d_conv=shape["conv"], mamba_n_groups=1,
        mamba_chunk_size=CHUNK,
    )  # fmt: skip


class TransformersModel:
    """One model with random weights."""

    def __init__(self, spec: dict[str, Any], weights: str, threads: int) -> None:
        if weights not in ("float32", "bfloat16"):
            raise NotHere(f"Transformers has no {weights} weights on a CPU.")
        self.kind, self.shape = spec["model"], spec["shape"]
        torch.manual_seed(0)
        config = configuration(self.kind, self.shape)
        fused = {} if self.kind in ("mamba", "mamba2") else {"attn_implementation": "sdpa"}
        model = transformers.AutoModelForCausalLM.from_config(config, **fused)
        self.model = model.to(getattr(torch, weights)).eval()
        self.cached = "cache_params" if self.kind in ("mamba", "mamba2") else "past_key_values"
        self.cache: Any = None
        self.rows = 1
        self.trainer: Trainer | None = None

    def facts(self) -> dict[str, Any]:
        weights = list(self.model.parameters())
        return {
            "parameters": sum(p.numel() for p in weights),
            "weight_bytes": sum(p.numel() * p.element_size() for p in weights),
            "text": f"Transformers {transformers.__version__}, torch {torch.__version__}, sdpa",
        }

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        past = {} if self.cache is None else {self.cached: self.cache}
        out = self.model(tokens, use_cache=True, logits_to_keep=1, **past)
        self.cache = getattr(out, self.cached)
        return out.logits

    def _tokens(self, rows: int, count: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(1)
        return torch.randint(0, self.shape["vocab"], (rows, count), generator=random)

    def prefill(self, tokens: int) -> None:
        self.cache = None
        self._read(self._tokens(1, tokens))

    @torch.inference_mode()
    def seat(self, position: int, rows: int) -> int:
        self.cache, self.rows = None, rows
        if self.kind == "llama":
            self.cache = transformers.DynamicCache(config=self.model.config)
            size = (rows, self.shape["heads"], position, self.shape["head"])
            for layer in range(self.shape["layers"]):
                kind = next(self.model.parameters()).dtype
                self.cache.update(
                    torch.randn(size, dtype=kind), torch.randn(size, dtype=kind), layer
                )
        elif self.kind in ("mamba", "mamba2"):
            self._read(self._tokens(rows, min(position, READ)))
        elif position <= 4_096:
            self._read(self._tokens(rows, position))
        else:
            raise NotHere("Transformers' hybrids would have to read the text to get there.")
        return cache_bytes(self.cache)

    def decode(self, tokens: int) -> None:
        token = torch.ones(self.rows, 1, dtype=torch.int64)
        for _ in range(tokens):
            self._read(token)

    def train(self, batch: int, length: int, bfloat16: bool) -> None:
        if self.trainer is None:
            forward = lambda tokens: self.model(tokens, use_cache=False).logits  # noqa: E731
            self.trainer = Trainer(self.model, usual_loss(forward), self.shape["vocab"])
        self.trainer.step(batch, length, bfloat16)


def cache_bytes(cache: Any) -> int:
    """Bytes of every distinct tensor that a cache holds."""
    seen: dict[int, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            seen[value.data_ptr()] = value.numel() * value.element_size()
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)
        elif type(value).__module__.startswith("transformers.cache_utils"):
            walk(vars(value))

    walk(cache)
    return sum(seen.values())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    serve(TransformersModel)
