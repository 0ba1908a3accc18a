"""Tiny language models as the server holds them, and the one-text-at-a-time truth about them."""

import torch

from solomonic.kernels import native
from solomonic.lm.generate import GenerateConfig, stream_text
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.serve.lm.loaded import LoadedModel
from solomonic.text import ByteTokenizer
from tiny import tiny_config

ENGINES = ["torch"] + (["native"] if native.load() is not None else [])


def tiny_lm(engine: str = "torch", pattern: str = "BB", name: str = "tiny") -> LoadedModel:
    """A byte model of width 16 that nobody trained; its text depends on all it has read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = LanguageModel(tiny_config(pattern)).eval()
    reader = NativeModel(model) if engine == "native" else model
    return LoadedModel(
        name=name, reader=reader, tokenizer=ByteTokenizer(), fingerprint=model.fingerprint(),
        engine=engine, created=1,
    )  # fmt: skip


def alone(lm: LoadedModel, prompt: str, config: GenerateConfig) -> str:
    """What `lm.generate` writes: one text, nobody else in the batch."""
    return "".join(stream_text(lm.reader, lm.tokenizer, prompt, config))
