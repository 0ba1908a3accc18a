"""GGUF files with random weights: a Llama or a Mamba-2 of any shape, for llama.cpp.

Matrices get the weight type, everything else float32, as llama.cpp's own converter does. The
embedding is tied to the head and has the weight type too (llama.cpp's own files keep it at 6 bits
or more, which would be slower). There is no vocabulary: the benchmark speaks token ids.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
    "int4": gguf.GGMLQuantizationType.Q4_0,
}
CONTEXT = 1 << 21  # what the file allows; the context in use is the worker's choice


class Writer:
    """A GGUF file being written."""

    def __init__(self, path: Path, architecture: str, shape: dict[str, int], weights: str) -> None:
        self.out = gguf.GGUFWriter(path, architecture)
        self.random = np.random.default_rng(0)
        self.type = TYPES[weights]
        self.out.add_tokenizer_model("no_vocab")
        self.out.add_vocab_size(shape["vocab"])
        self.out.add_context_length(CONTEXT)
        self.out.add_embedding_length(shape["width"])
        self.out.add_block_count(shape["layers"])
        self.matrix("token_embd.weight", shape["vocab"], shape["width"])
        self.vector("output_norm.weight", np.ones(shape["width"]))

    def matrix(self, name: str, rows: int, columns: int) -> None:
        """Normal numbers of deviation 0.02, in the file's weight type."""
        values = self.random.standard_normal((rows, columns), dtype=np.float32) * 0.02
        if self.type == gguf.GGMLQuantizationType.F32:
            self.out.add_tensor(name, values)
        else:
            packed = gguf.quants.quantize(values, self.type)
            self.out.add_tensor(name, packed, raw_dtype=self.type)

    def vector(self, name: str, values: np.ndarray) -> None:
        self.out.add_tensor(name, values.astype(np.float32))

    def close(self) -> None:
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def write_llama(path: Path, shape: dict[str, int], weights: str) -> None:
    """The Transformer: RoPE, RMS norms, gated MLP, all heads with keys of their own."""
    file = Writer(path, "llama", shape, weights)
    width, heads, inner = shape["width"], shape["heads"], shape["mlp"]
    file.out.add_feed_forward_length(inner)
    file.out.add_head_count(heads)
    file.out.add_head_count_kv(heads)
    file.out.add_layer_norm_rms_eps(1e-5)
    file.out.add_rope_dimension_count(width // heads)
    file.out.add_rope_freq_base(10000.0)
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        file.vector(f"{block}.attn_norm.weight", np.ones(width))
        file.vector(f"{block}.ffn_norm.weight", np.ones(width))
        for part in ("q", "k", "v", "output"):
            file.matrix(f"{block}.attn_{part}.weight", width, width)
        file.matrix(f"{block}.ffn_gate.weight", inner, width)
        file.matrix(f"{block}.ffn_up.weight", inner, width)
        file.matrix(f"{block}.ffn_down.weight", width, inner)
    file.close()


def write_mamba2(path: Path, shape: dict[str, int], weights: str) -> None:
    """Mamba-2 with one group, as published (arXiv 2405.21060)."""
    file = Writer(path, "mamba2", shape, weights)
    width, state, taps = shape["width"], shape["state"], shape["conv"]
    inner = shape["expand"] * width
    heads, mixed = inner // shape["head"], inner + 2 * state
    file.out.add_feed_forward_length(0)
    file.out.add_head_count(0)
    file.out.add_ssm_conv_kernel(taps)
    file.out.add_ssm_inner_size(inner)
    file.out.add_ssm_state_size(state)
    file.out.add_ssm_time_step_rank(heads)
    file.out.add_ssm_group_count(1)
    file.out.add_layer_norm_rms_eps(1e-5)
    random = file.random
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        steps = np.exp(random.uniform(np.log(1e-3), np.log(1e-1), heads))
        file.vector(f"{block}.attn_norm.weight", np.ones(width))
        file.matrix(f"{block}.ssm_in.weight", inner + mixed + heads, width)
        file.vector(f"{block}.ssm_conv1d.weight", random.uniform(-0.5, 0.5, (mixed, taps)))
        file.vector(f"{block}.ssm_conv1d.bias", random.uniform(-0.5, 0.5, mixed))
        file.vector(f"{block}.ssm_dt.bias", steps + np.log(-np.expm1(-steps)))
        file.vector(f"{block}.ssm_a", -random.uniform(1, 16, (heads, 1)))
        file.vector(f"{block}.ssm_d", np.ones((heads, 1)))
        file.vector(f"{block}.ssm_norm.weight", np.ones((1, inner)))
        file.matrix(f"{block}.ssm_out.weight", width, inner)
    file.close()


WRITERS = {"llama": write_llama, "mamba2": write_mamba2}


def model_file(folder: Path, spec: dict[str, Any], weights: str) -> Path:
    """The file for that model and weight type, written if it is not there yet."""
    shape = json.dumps(spec["shape"], sort_keys=True)
    digest = hashlib.sha256(shape.encode()).hexdigest()[:8]
    path = folder / f"{spec['model']}-{digest}-{weights}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        WRITERS[spec["model"]](partial, spec["shape"], weights)
        partial.rename(path)
    return path
