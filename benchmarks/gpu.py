"""On a GPU: training and decoding speed of B'MOJO against a Transformer and Mamba-2 of equal size.

python benchmarks/gpu.py [--rounds 5] [--lengths 2048 32768] [--rows 64] [--context 32768]

The models (`MODELS`) have about 370 million parameters and 32,000 tokens of vocabulary. Training is
forward, backward and a fused AdamW step in bfloat16 autocast; each model runs in turn, `--rounds`
times, and medians and their ratio to the Transformer are written with the least and the most.
Decoding replays a CUDA graph; the Transformer's cache is preallocated and read by PyTorch's fused
attention, and where it does not fit, half as many streams are tried until it does. Fractions of
peak are of this device in this run: a large bfloat16 product for training, a copy for decoding.
flash-linear-attention's Mamba-2 and Transformer take part in training when it can be imported.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from solomonic.kernels import triton as device
from solomonic.kernels import watch
from solomonic.kernels.attention.rotary import rotate
from solomonic.layers import ModelConfig
from solomonic.lm.graphs import GraphDecoder
from solomonic.lm.model import LanguageModel

RESULTS = Path(__file__).parent / "results"
COMMON: dict[str, Any] = {"vocab_size": 32_000, "hidden_size": 1024, "num_attention_heads": 16}
MODELS: dict[str, ModelConfig] = {
    "Transformer": ModelConfig(
        **COMMON, pattern="T" * 24, intermediate_size=3712, position="rope",
        num_key_value_heads=4,
    ),
    "B'MOJO": ModelConfig(
        **COMMON, pattern="B" * 24, intermediate_size=2656, num_key_value_heads=4,
        window_size=512, eidetic_slots=64, ssm_state_size=64, ssm_head_dim=64,
    ),
    "Mamba-2": ModelConfig(
        **COMMON, pattern="M" * 51, intermediate_size=0, ssm_expand=2, ssm_state_size=128,
        ssm_head_dim=64,
    ),
}  # fmt: skip
TOKENS_A_STEP = 32_768


class StaticTransformer:
    """Decoding of a `T` model with a cache of fixed length: what a graph can replay."""

    def __init__(self, model: LanguageModel, rows: int, context: int) -> None:
        self.model, self.context = model, context
        heads, size = model.config.key_value_heads, model.config.head_size
        like = model.embed.weight
        self.tokens = torch.zeros(rows, 1, dtype=torch.int64, device=like.device)
        self.caches = [like.new_zeros(2, rows, heads, context, size) for _ in model.blocks]

    @torch.no_grad()
    def step(self) -> Tensor:
        """Logits of the last token of `context`, written to the last place of the cache."""
        x = self.model.embed(self.tokens)
        for block, cache in zip(self.model.blocks, self.caches, strict=True):
            x = x + self._attend(block.mixer, block.norm(x), cache)
            x = x + block.mlp(block.mlp_norm(x))
        return self.model.head(self.model.norm(x))[:, 0]

    def _attend(self, layer: Any, x: Tensor, cache: Tensor) -> Tensor:
        place = torch.full((1,), self.context - 1, device=x.device)
        q, k, v = (
            projection(x).unflatten(-1, (-1, layer.size))
            for projection in (layer.query, layer.key, layer.value)
        )
        if layer.theta is not None:  # the cache holds keys that are turned already
            q, k = (rotate(part, place, layer.theta) for part in (q, k))
        cache[0, :, :, -1], cache[1, :, :, -1] = k[:, 0], v[:, 0]
        out = scaled_dot_product_attention(q.transpose(1, 2), *cache, enable_gqa=True)
        return layer.output(out.transpose(1, 2).flatten(-2))


def main(argv: list[str]) -> None:
    """Measure and write results/gpu_<device>_<date>.json."""
    if not torch.cuda.is_available():
        print("this benchmark needs a CUDA device, and torch sees none.", file=sys.stderr)
        raise SystemExit(2)
    parser = argparse.ArgumentParser(prog="gpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2_048, 32_768])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--context", type=int, default=32_768)
    options = parser.parse_args(argv)
    products, copies = product_rate(), copy_rate()
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(), "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__, "products_per_s": products, "bytes_per_s": copies,
        "training": {}, "decoding": {},
    }  # fmt: skip
    for length in options.lengths:
        report["training"][length] = training(length, options.rounds, products)
    report["decoding"] = decoding(options.rows, options.context, options.rounds, copies)
    report["tile_sizes"] = device.choices()
    plain = "".join(c if c.isalnum() else "-" for c in report["device"].lower())
    path = RESULTS / f"gpu_{plain}_{report['date']}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    print(f"written to {path}")


def training(length: int, rounds: int, peak: float) -> dict[str, Any]:
    """Tokens per second of a step of about `TOKENS_A_STEP` tokens in rows of `length`."""
    rows = max(1, TOKENS_A_STEP // length)
    text = torch.randint(0, COMMON["vocab_size"], (rows, length + 1), device="cuda")
    made: dict[str, Callable[[], nn.Module]] = {
        name: (lambda config=config: LanguageModel(config)) for name, config in MODELS.items()
    }
    steps, ran, found = {}, {}, {name: [] for name in [*made, *fla_models()]}
    for name, build in (made | fla_models()).items():
        steps[name], ran[name] = training_step(build().cuda(), text)
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(rows * length / seconds(step))
    work = {name: operations(name, length) for name in made}
    result = summary(found)
    for name, entry in result.items():
        entry["runs"] = ran[name]
        if name in work:
            entry["fraction_of_peak"] = entry["median"] * work[name] / peak
    return result


def training_step(model: nn.Module, text: Tensor) -> tuple[Callable[[], None], list[str]]:
    """A function that does one step, warmed up, and what the registry said about it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=text.is_cuda)

    def step() -> None:
        with torch.autocast(text.device.type, torch.bfloat16):
            answer = model(text[:, :-1])
            logits = answer[0] if isinstance(answer, tuple) else answer.logits
        loss = cross_entropy(logits.flatten(0, 1).float(), text[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with watch() as ran:
        step()
    for _ in range(2):
        step()
    return step, ran


def decoding(rows: int, context: int, rounds: int, peak: float) -> dict[str, Any]:
    """Tokens per second of `rows` streams, `context` tokens in."""
    steps, streams, read, found = {}, {}, {}, {name: [] for name in MODELS}
    for name, config in MODELS.items():
        model = LanguageModel(config).to("cuda", torch.bfloat16).eval()
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        streams[name] = rows
        while True:
            try:
                steps[name], state = decoding_step(model, streams[name], context)
                break
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                streams[name] //= 2
        read[name] = weights + state
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(streams[name] / seconds(step, 20))
    result = summary(found)
    for name, entry in result.items():
        entry["streams"] = streams[name]
        entry["fraction_of_peak"] = entry["median"] / streams[name] * read[name] / peak
    return result


def decoding_step(model: LanguageModel, rows: int, context: int) -> tuple[Callable[[], Any], int]:
    """A recorded step, and the bytes of state it reads."""
    if "T" in model.config.layers:
        transformer = StaticTransformer(model, rows, context)
        transformer.step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            transformer.step()
        return graph.replay, sum(c.numel() * c.element_size() for c in transformer.caches)
    decoder = GraphDecoder(model, rows)  # its state has the same size at every position
    tokens = torch.zeros(rows, dtype=torch.int64, device="cuda")
    size = sum(x.numel() * x.element_size() for _, x in decoder.state.leaves())
    return lambda: decoder.step(tokens), size


def operations(name: str, length: int) -> float:
    """Multiplications and additions of a training step per token: 6 a weight, 12 a key and width
    read by attention; the recurrences are counted by their weights only."""
    config = MODELS[name]
    model = LanguageModel(config)
    weights = sum(p.numel() for p in model.parameters())
    keys = {"T": length / 2, "M": 0, "B": min(length, config.window_size + config.eidetic_slots)}
    reads = sum(keys[kind] for kind in config.layers)
    return 6 * weights + 12 * reads * config.hidden_size


def fla_models() -> dict[str, Callable[[], nn.Module]]:
    """flash-linear-attention's models of the same shapes, when it is installed."""
    if importlib.util.find_spec("fla") is None:
        return {}
    from fla.models import (  # type: ignore[import-not-found]
        Mamba2Config,
        Mamba2ForCausalLM,
        TransformerConfig,
        TransformerForCausalLM,
    )  # fmt: skip

    width, vocab = COMMON["hidden_size"], COMMON["vocab_size"]
    shared = {"hidden_size": width, "vocab_size": vocab, "tie_word_embeddings": True}
    return {
        "fla Transformer": lambda: TransformerForCausalLM(
            TransformerConfig(
                **shared, num_hidden_layers=24, num_heads=16, num_kv_heads=4,
                intermediate_size=3712,
            )
        ),
        "fla Mamba-2": lambda: Mamba2ForCausalLM(
            Mamba2Config(**shared, num_hidden_layers=51, num_heads=32, head_dim=64, state_size=128)
        ),
    }  # fmt: skip


def product_rate() -> float:
    """Operations per second of a large bfloat16 matrix product."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * 8192**3 / min(seconds(lambda: a @ a, 20) for _ in range(3))


def copy_rate() -> float:
    """Bytes read and written per second by a copy of 4 GiB."""
    a = torch.empty(2**32, device="cuda", dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * 2**32 / min(seconds(lambda: b.copy_(a), 5) for _ in range(3))


def seconds(step: Callable[[], Any], times: int = 3) -> float:
    """Seconds a call, by the device's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / times


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Median, least, most, and the median ratio to the Transformer of the same round."""
    base = found["Transformer"]
    return {
        name: {
            "median": statistics.median(rates), "least": min(rates), "most": max(rates),
            "to_transformer": statistics.median(a / b for a, b in zip(rates, base, strict=True)),
        }
        for name, rates in found.items()
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
