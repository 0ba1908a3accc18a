"""The memory map: which tokens of a text each layer kept, when it let go of them, and why.

Why is the innovation: how badly the layer's fading memory had foreseen the token. A `LanguageModel`
fills a `trace` with both while it reads; of the native core they are read off its streams, which is
stopped for that at every refresh.
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from solomonic.core import ConfigError, DataError
from solomonic.layers import ModelConfig
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class LayerMemory:
    """What one layer kept: `innovation` (T,), `kept` (n, m_e) positions (-1: empty slot).

    `times` (n,) says how many tokens had been read when each row of `kept` came to hold.
    """

    layer: int
    innovation: np.ndarray
    kept: np.ndarray
    times: np.ndarray

    def lifetimes(self) -> tuple[np.ndarray, np.ndarray]:
        """For each token when it was kept and when it was let go, (T,) int64, -1 if never kept.

        Times are as in `times`; a token still held at the end is let go at T.
        """
        length = len(self.innovation)
        since = np.full(length, -1, dtype=np.int64)
        until = since.copy()
        let_go = [*self.times[1:].tolist(), length]
        for time, gone, row in zip(self.times, let_go, self.kept, strict=True):
            held = row[row >= 0]
            since[held] = np.where(since[held] < 0, time, since[held])
            until[held] = gone
        return since, until

    @property
    def final(self) -> np.ndarray:
        """Positions kept at the end of the text, in order."""
        return np.sort(self.kept[-1][self.kept[-1] >= 0])


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryMap:
    """A text as shown pieces, one a token, and the memory of every layer that has one."""

    pieces: list[str]
    layers: list[LayerMemory]
    window: int


def memory_map(
    model: LanguageModel | NativeModel, tokenizer: Tokenizer, text: str | bytes
) -> MemoryMap:
    """Let `model` read `text` and note what each 'B' layer kept.

    Raises:
        ConfigError: the model has no layer with eidetic memory.
        DataError: the text has fewer than two tokens.
    """
    config = model.config
    if "B" not in config.layers or config.eidetic_slots == 0:
        raise ConfigError(
            f"pattern '{config.pattern}' with {config.eidetic_slots} eidetic slots keeps no "
            "tokens; use a model with a 'B' layer and slots."
        )
    ids = tokenizer.encode(text)
    if len(ids) < 2:
        # A single token is decoded without a trace, and has nothing to be compared with.
        raise DataError(f"the text has {len(ids)} tokens; give at least two to see what is kept.")
    layers = _traced(model, ids) if isinstance(model, LanguageModel) else _watched(model, ids)
    pieces = [_show(tokenizer.token_bytes(token)) for token in ids]
    return MemoryMap(pieces, layers, config.window_size)


@torch.no_grad()
def _traced(model: LanguageModel, ids: list[int]) -> list[LayerMemory]:
    """What the model notes down by itself."""
    training = model.training
    model.eval()
    trace: list[dict[str, Any]] = []
    model.hidden(torch.tensor([ids], device=model.device), trace=trace)
    model.train(training)
    return [
        LayerMemory(
            layer=int(entry["layer"]),
            innovation=entry["innovation"][0].double().cpu().numpy(),
            kept=entry["kept"][0].cpu().numpy(),
            times=_times(model.config, len(ids)),
        )
        for entry in trace
    ]


def _watched(model: NativeModel, ids: list[int]) -> list[LayerMemory]:
    """The same from the streams of the native core: the slots at every refresh, and between two of
    them the innovations that stand beside the raw tokens of the window."""
    ring = model.config.window_size - 1
    if ring < 1:
        raise ConfigError(
            "a window of one token has no innovations beside it that the native core could show; "
            "read the text with the torch model."
        )
    layers = [index for index, kind in enumerate(model.config.layers) if kind == "B"]
    streams = model.streams(1)
    handle = streams.handles[0]
    times = _times(model.config, len(ids))
    innovation = np.zeros((len(layers), len(ids)), dtype=np.float32)
    kept = np.full((len(layers), len(times), model.config.eidetic_slots), -1, dtype=np.int64)
    done = 0
    for row, time in enumerate(times):
        while done < time:
            part = ids[done : min(int(time), done + ring)]
            model.read(torch.tensor([part]), streams)
            for place, layer in enumerate(layers):
                last = np.empty(ring, dtype=np.float32)
                handle.get(layer, "raw_eps", last.ctypes.data, ring)
                innovation[place, done : done + len(part)] = last[ring - len(part) :]
            done += len(part)
        for place, layer in enumerate(layers):
            handle.get_slot_times(layer, kept[place, row].ctypes.data, kept.shape[2])
    return [
        LayerMemory(layer=layer, innovation=scores.astype(np.float64), kept=slots, times=times)
        for layer, scores, slots in zip(layers, innovation, kept, strict=True)
    ]


def _times(config: ModelConfig, length: int) -> np.ndarray:
    """Tokens read when each refresh block begins, and at the end."""
    blocks = -(-length // config.refresh)
    return np.minimum(np.arange(blocks + 1) * config.refresh, length)


def _show(piece: bytes) -> str:
    """A token as text; bytes that are no character by themselves in hexadecimal."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in piece)
