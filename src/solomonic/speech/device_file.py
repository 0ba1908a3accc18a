"""A recogniser as a device file: everything that Python's and the native recogniser need.

write_device_model("english.solo", load_speech_model("english-small"))
model = read_device_model("english.solo")

Settings stand under "transducer.", "features.", "decode.", "endpoint.", "voice.", "stream.", "end."
and "context."; "layers." has what the encoder's layers are made with, nothing left open. Tensors
have the names of `SpeechModel.parts()` with those of their state_dict behind.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, Vocabulary, read_pack, settings, typed, write_pack
from solomonic.compress.pack.fill import fill_tensors
from solomonic.compress.pack.pieces import model_of, vocabulary_of
from solomonic.core import CheckpointError, ConfigError, require
from solomonic.layers.config import LATER_SETTINGS
from solomonic.speech.config import TransducerConfig
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.endpoint import EndpointConfig
from solomonic.speech.endpoint.voice import VoiceConfig
from solomonic.speech.features import FeatureConfig
from solomonic.speech.pretrained import SpeechModel, quantise_rows
from solomonic.speech.stream import LEAD_BLOCKS, TAIL_BLOCKS

MODEL_TYPE = "solomonic-transducer"
VERSION = 1
SMALLEST = 1024
"""Weights from which on a matrix is quantised; smaller ones are not worth the rounding."""
_NOT_OF_LAYERS = (
    "vocab_size",
    "pattern",
    "num_hidden_layers",
    "tie_word_embeddings",
    "initializer_range",
)


class DeviceSettings(NamedTuple):
    """What a device file says besides the model: how to search, when to end, what is speech."""

    decode: DecodeConfig
    endpoint: EndpointConfig
    voice: VoiceConfig
    features: FeatureConfig


def write_device_model(
    path: str | Path,
    model: SpeechModel,
    matrices: Mapping[str, QuantisedMatrix] | None = None,
    *,
    bits: int = 8,
    decode: DecodeConfig | None = None,
    endpoint: EndpointConfig | None = None,
    voice: VoiceConfig | None = None,
) -> str:
    """Write the recogniser.

    Args:
        matrices: quantised weights by tensor name, from `solomonic.compress`; they take the place
            of the model's own.
        bits: of all other matrices: 8, with one scale an output, or 32 as they are.
        decode, endpoint, voice: settings that the device starts with; `decode` by default the
            model's own.

    Returns:
        the file's identity.

    Raises:
        ConfigError: a matrix that is not the model's or has another shape, or other bits.
        StorageError: the disk is full or the place cannot be written.
    """
    context, pointer = model.transducer.context, model.transducer.pointer
    config = settings("model", {"type": MODEL_TYPE, "version": VERSION})
    config |= settings("transducer", model.transducer.config.to_json())
    config |= settings("layers", layer_settings(model.transducer.config), LATER_SETTINGS)
    config |= settings("features", _features(model.transducer.config).to_json())
    config |= settings("decode", (decode or model.decode or DecodeConfig()).to_json())
    config |= settings("endpoint", (endpoint or EndpointConfig()).to_json())
    config |= settings("voice", (voice or VoiceConfig()).to_json())
    config |= settings("stream", {"lead_blocks": LEAD_BLOCKS, "tail_blocks": TAIL_BLOCKS})
    if context is not None:
        config |= settings("context", context.config.to_json())
    if pointer is not None:
        config |= settings("pointer", pointer.config.to_json())
    if model.end is not None:
        config |= settings("end", model.end.config.to_json())
    tensors = device_tensors(state_of(model.parts()), matrices or {}, bits)
    return write_pack(path, Pack(config, tensors, vocabulary_of(model.pieces.to_bytes())))


def read_device_model(path: str | Path, device: str | torch.device = "cpu") -> SpeechModel:
    """The recogniser with its weights multiplied out to float32, in evaluation mode.

    Raises:
        CheckpointError: missing, cut short, corrupted, newer, or no recogniser.
    """
    from solomonic.speech.model import Transducer
    from solomonic.text.pieces import WordPieces

    pack = _read(path)
    try:
        # What says nothing of a small branch has one encoder.
        one_encoder = TransducerConfig.one_encoder()
        config = typed(TransducerConfig, "transducer", pack.config, one_encoder)
        _check_layers(pack.config, config)
        with torch.random.fork_rng(devices=[]):
            transducer = Transducer(config)
            if _has(pack, "context"):
                from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig

                transducer.context = ContextBiasing(typed(ContextConfig, "context", pack.config))
            if _has(pack, "pointer"):
                from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig

                transducer.pointer = PointerBiasing(typed(PointerConfig, "pointer", pack.config))
            end = None
            if _has(pack, "end"):
                from solomonic.speech.endpoint.head import EndHead, EndHeadConfig

                end = EndHead(typed(EndHeadConfig, "end", pack.config))
        decode = typed(DecodeConfig, "decode", pack.config)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} describes no possible recogniser: {error}") from error
    pieces = WordPieces.from_bytes(_pieces(path, pack.vocabulary), str(path))
    if pieces.size != config.vocab_size:
        raise CheckpointError(
            f"{path} has {pieces.size} pieces and a model of {config.vocab_size}; make it again."
        )
    model = SpeechModel(transducer, pieces, end, "packed", decode)
    fill_tensors(path, state_of(model.parts()), pack)
    for part in model.parts().values():
        part.to(device).eval().requires_grad_(False)
    return model


def read_device_settings(path: str | Path) -> DeviceSettings:
    """The settings that the device starts with.

    Raises:
        CheckpointError: as `read_device_model`.
    """
    pack = _read(path)
    try:
        return DeviceSettings(
            typed(DecodeConfig, "decode", pack.config),
            typed(EndpointConfig, "endpoint", pack.config),
            typed(VoiceConfig, "voice", pack.config),
            typed(FeatureConfig, "features", pack.config),
        )
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} holds impossible settings: {error}") from error


def _check_layers(found: Mapping[str, str], config: TransducerConfig) -> None:
    """What the file says of the layers must be what they are made with here."""
    said = {k: v for k, v in found.items() if k.startswith("layers.")}
    if settings("layers", LATER_SETTINGS) | said != settings("layers", layer_settings(config)):
        raise ConfigError("the encoder's layers were made with settings unknown here.")


def layer_settings(config: TransducerConfig) -> dict[str, Any]:
    """Settings of the encoder's layers with everything that was left open filled in."""
    require(
        not config.small_pattern,
        "device files hold one encoder, and this model has two branches; run it with PyTorch.",
    )
    layers = config.layers(config.pattern)
    found = {k: v for k, v in layers.to_json().items() if k not in _NOT_OF_LAYERS}
    return found | {
        "num_key_value_heads": layers.key_value_heads,
        "head_dim": layers.head_size,
        "intermediate_size": layers.mlp_size,
        "refresh_period": layers.refresh,
        "fading_lag": layers.lag,
    }


def state_of(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and stored buffers of all parts by their full names."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, part in parts.items()
        for name, tensor in part.state_dict(keep_vars=True).items()
    }


def device_tensors(
    state: Mapping[str, Tensor], matrices: Mapping[str, QuantisedMatrix], bits: int = 8
) -> dict[str, np.ndarray | QuantisedMatrix]:
    """The tensors as a device file holds them; arguments as `write_device_model`."""
    require(bits in (8, 32), f"bits = {bits} needs matrices from solomonic.compress; use 8 or 32.")
    for name, matrix in matrices.items():
        shape = tuple(state[name].shape) if name in state else "no tensor of the model"
        require(
            matrix.levels.shape == shape,
            f"the matrix '{name}' of shape {matrix.levels.shape} is {shape} in the model.",
        )
    found: dict[str, np.ndarray | QuantisedMatrix] = {}
    for name, tensor in state.items():
        value = tensor.detach().to("cpu", torch.float32).contiguous()
        if name in matrices:
            found[name] = matrices[name]
        elif bits == 8 and value.dim() == 2 and value.numel() >= SMALLEST:
            levels, scales = quantise_rows(value)
            found[name] = QuantisedMatrix(levels.numpy(), scales.numpy(), 8)
        else:
            found[name] = value.numpy()
    return found


def _features(config: TransducerConfig) -> FeatureConfig:
    return FeatureConfig(bins=config.bins, shift_ms=config.shift_ms)


def _has(pack: Pack, prefix: str) -> bool:
    return any(key.startswith(f"{prefix}.") for key in pack.config)


def _read(path: str | Path) -> Pack:
    pack = read_pack(path)
    kind, version = pack.config.get("model.type"), pack.config.get("model.version")
    if kind != MODEL_TYPE:
        raise CheckpointError(f"{path} holds a model of type '{kind}', no recogniser.")
    if version != str(VERSION):
        raise CheckpointError(
            f"{path} holds a recogniser of version {version}, this program reads {VERSION}; update "
            "solomonic."
        )
    return pack


def _pieces(path: str | Path, vocabulary: Vocabulary | None) -> bytes:
    if vocabulary is None or vocabulary.kind != "pieces":
        raise CheckpointError(f"{path} holds no word pieces; make it again.")
    return model_of(vocabulary)
