"""A trained recogniser as a directory: configuration, weights, word pieces, and nothing executable.

config.json          model_type, version, settings of every part, the SHA-256 of the other files
model.safetensors    the parameters, matrices as float32 or as int8 with one scale a row
pieces.model         the SentencePiece model
README.md            the model card, where there is one

A folder may hold one device file, model.solo, in place of the first three.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from solomonic.core import CheckpointError, ConfigError
from solomonic.speech.config import TransducerConfig
from solomonic.speech.places import CONFIG_FILE, device_file_of
from solomonic.train import write_files

if TYPE_CHECKING:
    from solomonic.speech.decode.config import DecodeConfig
    from solomonic.speech.endpoint.head import EndHead
    from solomonic.speech.model import Transducer
    from solomonic.text.pieces import WordPieces

MODEL_TYPE = "solomonic-transducer"
VERSION = 1
WEIGHTS = ("float32", "int8")
_TENSORS, _PIECES, _CARD = "model.safetensors", "pieces.model", "README.md"
_SCALE = ".scale"
_LEVELS = 127


@dataclasses.dataclass
class SpeechModel:
    """All that recognition needs.

    transducer: the acoustic model, with its attention to personal words where it was trained.
    pieces: its vocabulary.
    end: the end-pointers' head, or None: rules end utterances then, and events say so.
    weights: how the matrices were stored, 'float32' or 'int8'. They are computed in float32.
    decode: how to search where a caller says nothing: what was best on held-out recordings. None:
        the search's own defaults.
    """

    transducer: "Transducer"
    pieces: "WordPieces"
    end: "EndHead | None" = None
    weights: str = "float32"
    decode: "DecodeConfig | None" = None

    def parts(self) -> dict[str, nn.Module]:
        """The modules with weights, by the prefix under which they are stored."""
        found: dict[str, nn.Module] = {"transducer": self.transducer}
        return found | ({} if self.end is None else {"end": self.end})

    @property
    def parameters(self) -> int:
        """Numbers in all parts."""
        return sum(p.numel() for part in self.parts().values() for p in part.parameters())


def save_speech_model(
    directory: str | Path, model: SpeechModel, weights: str = "float32", card: str | None = None
) -> None:
    """Write the model so that a crash or a full disk leaves the one that was there.

    Args:
        weights: 'float32', or 'int8': matrices in 8 bits with one scale a row.
        card: the text of the model card.

    Raises:
        ConfigError: another kind of weights.
        StorageError: the disk is full or the place cannot be written.
    """
    write_files(Path(directory), lambda folder: write_speech_model(folder, model, weights, card))


def write_speech_model(
    folder: Path, model: SpeechModel, weights: str = "float32", card: str | None = None
) -> None:
    """The same into a folder whose completion is the caller's care."""
    if weights not in WEIGHTS:
        raise ConfigError(f"weights = '{weights}' is unknown; use one of {', '.join(WEIGHTS)}.")
    stored: dict[str, Tensor] = {}
    for name, tensor in _tensors(model).items():
        tensor = tensor.detach().cpu().contiguous()
        if weights == "int8" and tensor.dim() == 2 and tensor.numel() >= 1024:
            stored[name], stored[name + _SCALE] = quantise_rows(tensor)
        else:
            stored[name] = tensor
    save_file(stored, folder / _TENSORS, metadata={"format": "pt"})
    model.pieces.save(folder / _PIECES)
    transducer = model.transducer
    context, pointer = transducer.context, transducer.pointer
    record = {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        "weights": weights,
        "transducer": transducer.config.to_json(),
        "context": None if context is None else context.config.to_json(),
        "pointer": None if pointer is None else pointer.config.to_json(),
        "end": None if model.end is None else model.end.config.to_json(),
        "decode": None if model.decode is None else model.decode.to_json(),
        "sha256": {name: _digest(folder / name) for name in (_TENSORS, _PIECES)},
    }
    record["fingerprint"] = fingerprint(record)
    (folder / CONFIG_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    if card is not None:
        (folder / _CARD).write_text(card, "utf-8")


def load_speech_model(directory: str | Path, device: str | torch.device = "cpu") -> SpeechModel:
    """Read what `save_speech_model` wrote, or a device file with its weights multiplied out to
    float32; in evaluation mode.

    Raises:
        CheckpointError: a file is missing, cut short, corrupted, foreign or newer.
    """
    from solomonic.speech.model import Transducer
    from solomonic.text.pieces import WordPieces

    folder = Path(directory)
    device_file = device_file_of(folder)
    if device_file is not None:
        from solomonic.speech.device_file import read_device_model

        return read_device_model(device_file, device)
    record = _read_config(folder)
    for name in (_TENSORS, _PIECES):
        _verify(folder / name, record["sha256"][name])
    try:
        stored = {name: tensor.clone() for name, tensor in load_file(folder / _TENSORS).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder / _TENSORS} is cut short or corrupted ({error}); copy it again."
        ) from error
    pieces = WordPieces.load(folder / _PIECES)
    try:
        with torch.random.fork_rng(devices=[]):
            transducer = Transducer(TransducerConfig.from_json(record["transducer"]))
            if record["context"] is not None:
                from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig

                transducer.context = ContextBiasing(ContextConfig.from_json(record["context"]))
            if record.get("pointer") is not None:  # older models do not speak of it
                from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig

                transducer.pointer = PointerBiasing(PointerConfig.from_json(record["pointer"]))
            end = None
            if record["end"] is not None:
                from solomonic.speech.endpoint.head import EndHead, EndHeadConfig

                end = EndHead(EndHeadConfig.from_json(record["end"]))
            decode = _search(record.get("decode"))
    except (ConfigError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} describes no possible model: {error}"
        ) from error
    if pieces.size != transducer.config.vocab_size:
        raise CheckpointError(
            f"{folder / _PIECES} has {pieces.size} pieces and the model "
            f"{transducer.config.vocab_size}; copy both files from the same model."
        )
    model = SpeechModel(transducer, pieces, end, record["weights"], decode)
    _fill(folder, model, stored)
    for part in model.parts().values():
        part.to(device).eval().requires_grad_(False)
    return model


def fingerprint(record: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration's record without its own fingerprint: the sizes of tensors do not
    show every change of a setting."""
    rest = {name: value for name, value in record.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def quantise_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 (n, m), float32 scale (n,)): symmetric, the largest weight of a row becomes 127."""
    scale = matrix.abs().amax(dim=1).clamp(min=1e-12) / _LEVELS
    return (matrix / scale[:, None]).round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale


def _search(record: Mapping[str, Any] | None) -> "DecodeConfig | None":
    if record is None:  # models made before it was stored
        return None
    from solomonic.speech.decode.config import DecodeConfig

    return DecodeConfig.from_json(record)


def _fill(folder: Path, model: SpeechModel, stored: dict[str, Tensor]) -> None:
    """Copy the stored tensors into the model, each checked by name and shape."""
    expected = _tensors(model)
    scales = {name: stored.pop(name) for name in list(stored) if name.endswith(_SCALE)}
    for name in sorted(set(expected) | set(stored)):
        wanted = tuple(expected[name].shape) if name in expected else "absent"
        found = tuple(stored[name].shape) if name in stored else "absent"
        if wanted != found:
            raise CheckpointError(
                f"{folder / _TENSORS} does not fit {CONFIG_FILE}: '{name}' is {found} and should "
                f"be {wanted}; copy both files from the same model."
            )
    with torch.no_grad():
        for name, tensor in expected.items():
            value = stored[name]
            if value.dtype == torch.int8:
                scale = scales.get(name + _SCALE)
                if scale is None or scale.shape != (len(value),):
                    raise CheckpointError(
                        f"{folder / _TENSORS} lacks the scales of '{name}'; copy it again."
                    )
                value = value.to(torch.float32) * scale[:, None]
            if not value.isfinite().all():
                raise CheckpointError(
                    f"{folder / _TENSORS}: '{name}' holds NaN or infinity; train the model again."
                )
            tensor.copy_(value)


def _tensors(model: SpeechModel) -> dict[str, Tensor]:
    """Parameters and stored buffers of all parts by their full names."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, part in model.parts().items()
        for name, tensor in part.state_dict(keep_vars=True).items()
    }


def _read_config(folder: Path) -> Mapping[str, Any]:
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds no {CONFIG_FILE}, so there is no speech model; give the --out of "
            "`solomonic train asr` or another saved model."
        )
    try:
        record = json.loads(file.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file} is cut short or no JSON ({error}); copy it again."
        ) from error
    kind = record.get("model_type") if isinstance(record, dict) else None
    if kind != MODEL_TYPE:
        raise CheckpointError(
            f"{file} describes a model of type '{kind}', not '{MODEL_TYPE}'; give a speech model "
            "that solomonic trained."
        )
    version = record.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"{file} has version {version}, this program reads up to {VERSION}; update solomonic."
        )
    missing = {"weights", "transducer", "context", "end", "sha256"} - set(record)
    if missing:
        raise CheckpointError(f"{file} lacks '{min(missing)}'; copy it again.")
    if record.get("fingerprint", fingerprint(record)) != fingerprint(record):
        raise CheckpointError(f"{file} is corrupted (its SHA-256 does not fit); copy it again.")
    if record["weights"] not in WEIGHTS:
        raise CheckpointError(
            f"{file} has weights '{record['weights']}', this program reads {', '.join(WEIGHTS)}; "
            "update solomonic."
        )
    for name in (_TENSORS, _PIECES):
        if not isinstance(record["sha256"], dict) or name not in record["sha256"]:
            raise CheckpointError(f"{file} names no checksum of {name}; copy it again.")
    return record


def _verify(file: Path, expected: str) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; copy it from where the model was trained.")
    if _digest(file) != expected:
        raise CheckpointError(
            f"{file} is cut short or corrupted (its SHA-256 does not fit); copy it again."
        )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
