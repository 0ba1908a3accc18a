"""A language model and its tokenizer as a device file, and back.

Settings stand under "lm." (`ModelConfig`); tensors have the names of the state_dict behind "lm.",
tied ones once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import (
    Pack,
    Piece,
    Vocabulary,
    read_pack,
    settings,
    typed,
    write_pack,
)
from solomonic.compress.pack.fill import fill_tensors
from solomonic.core import CheckpointError, ConfigError, require
from solomonic.layers.config import LATER_SETTINGS, ModelConfig
from solomonic.text import BpeTokenizer, ByteTokenizer, Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

MODEL_TYPE = "solomonic-lm"
VERSION = 1
SMALLEST = 1024
"""Weights from which on a matrix is quantised."""
_CONTROL = 3  # SentencePiece's type of a token that stands for no text


def write_device_model(
    path: str | Path,
    model: "LanguageModel",
    tokenizer: Tokenizer,
    matrices: Mapping[str, QuantisedMatrix] | None = None,
    *,
    bits: int = 8,
) -> str:
    """Write the model.

    Args:
        matrices: quantised weights by name in the state_dict with "lm." in front; they take the
            place of the model's own.
        bits: of all other matrices: 8, with one scale an output, or 32 as they are.

    Returns:
        the file's identity.

    Raises:
        ConfigError: a matrix that is not the model's or has another shape, or other bits.
        StorageError: the disk is full or the place cannot be written.
    """
    require(bits in (8, 32), f"bits = {bits} needs matrices from solomonic.compress; use 8 or 32.")
    state, given = _state(model), matrices or {}
    for name, matrix in given.items():
        shape = tuple(state[name].shape) if name in state else "no tensor of the model"
        require(
            matrix.levels.shape == shape,
            f"the matrix '{name}' of shape {matrix.levels.shape} is {shape} in the model.",
        )
    tensors = {name: given.get(name, _stored(tensor, bits)) for name, tensor in state.items()}
    config = settings("model", {"type": MODEL_TYPE, "version": VERSION})
    config |= settings("lm", model.config.to_json(), LATER_SETTINGS)
    return write_pack(path, Pack(config, tensors, _vocabulary(tokenizer)))


def read_device_model(
    path: str | Path, device: str | torch.device = "cpu"
) -> tuple["LanguageModel", Tokenizer]:
    """The model with its weights multiplied out to float32, in evaluation mode.

    Raises:
        CheckpointError: missing, cut short, corrupted, newer, or no language model.
    """
    from solomonic.lm.model import LanguageModel

    pack = read_pack(path)
    kind, version = pack.config.get("model.type"), pack.config.get("model.version")
    if kind != MODEL_TYPE:
        raise CheckpointError(f"{path} holds a model of type '{kind}', no language model.")
    if version != str(VERSION):
        raise CheckpointError(
            f"{path} holds a model of version {version}, this program reads {VERSION}; update "
            "solomonic."
        )
    try:
        with torch.random.fork_rng(devices=[]):
            model = LanguageModel(typed(ModelConfig, "lm", pack.config, LATER_SETTINGS))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} describes no possible model: {error}") from error
    fill_tensors(path, _state(model), pack)
    model.tie_weights()
    tokenizer = _tokenizer(path, pack.vocabulary)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(f"{path} has more tokens than its model knows; make it again.")
    return model.to(device).eval(), tokenizer


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    kept = model.state_dict(keep_vars=True)
    found = dict(model.named_parameters())
    found |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return {f"lm.{name}": tensor for name, tensor in found.items()}


def _stored(tensor: Tensor, bits: int) -> np.ndarray | QuantisedMatrix:
    value = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    if bits != 8 or value.ndim != 2 or value.size < SMALLEST:
        return value
    scales = (np.maximum(np.abs(value).max(axis=1), 1e-12) / 127).astype(np.float32)
    levels = np.clip(np.rint(value / scales[:, None]), -127, 127).astype(np.int8)
    return QuantisedMatrix(levels, scales, 8)


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    texts = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    pieces = tuple(Piece(text, 0.0, 1 if text else _CONTROL) for text in texts)
    record = {"tokenizer": json.loads(tokenizer.backend.to_str()), "eos": tokenizer.eos}
    rest = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return Vocabulary("tokens", pieces, False, False, False, False, rest)


def _tokenizer(path: str | Path, vocabulary: Vocabulary | None) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    if vocabulary is None or vocabulary.kind != "tokens":
        raise CheckpointError(f"{path} holds no tokenizer; make it again.")
    try:
        record = json.loads(vocabulary.rest)
        backend, eos = Backend.from_str(json.dumps(record["tokenizer"])), record["eos"]
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} holds a damaged tokenizer ({error}).") from error
    try:
        return ByteTokenizer(backend, eos)
    except CheckpointError:
        return BpeTokenizer(backend, eos)
