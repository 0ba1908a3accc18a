"""`solomonic inspect model.solo`: where a device file spends its bytes, and what it computes."""

from __future__ import annotations

import dataclasses
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.cli import console
from solomonic.core import CheckpointError, ConfigError

if TYPE_CHECKING:
    from solomonic.compress.pack import PackInfo

LABELS = 4
"""Word pieces a second, of which the products of a second of speech are counted."""
RECOGNISER = "solomonic-transducer"
_RARE = ("context.", "end.")  # read for personal words and at possible ends, not at every frame


def short_name(tensor: str) -> str:
    """A tensor's name for a table: without what they all begin or end with."""
    return tensor.removeprefix("transducer.").removesuffix(".weight")


def model_type(place: Path) -> str | None:
    """What a device file or a folder's config.json says it holds; None where neither says
    anything, and whoever loads it says what is wrong."""
    from solomonic.compress.pack import read_pack

    try:
        if place.is_file():
            return read_pack(place).config.get("model.type")
        record = loads((place / "config.json").read_text("utf-8"))
    except (CheckpointError, OSError, ValueError):
        return None
    return record.get("model_type") if isinstance(record, dict) else None


def inspect_device(path: Path, json: bool) -> None:
    """Show the file's tensors: format, zeros, bits a weight, products; of a recogniser also the
    products for a second of audio and the memory it takes."""
    from solomonic.compress.pack import describe_pack

    info = describe_pack(path)
    speech = info.config.get("model.type") == RECOGNISER
    second = products_a_second(info) if speech else None
    memory = memory_of(path, info) if speech else None
    if json:
        console.emit(_record(path, info, second, memory))
    else:
        _show(path, info)
        _show_cost(second, memory)


def products_a_second(info: PackInfo) -> dict[str, float]:
    """Multiplications with weights for a second of audio, by part, of a greedy search that hears
    `LABELS` pieces; what zeros save is not in them.

    Recurrences, attention scores and convolutions of the encoder's layers are not counted: they
    multiply no matrix.
    """
    config = info.config
    frames = 1000 / float(config["transducer.shift_ms"]) / int(config["transducer.stack"])
    steps = frames / int(config["transducer.reduction"])
    rates = {
        "encoder.embed.": frames, "encoder.front.": frames, "encoder.": steps, "to_joint.": steps,
        "predictor.embed.": 0.0,  # a row is looked up
        "predictor.": LABELS, "joint.": steps + LABELS,
    }  # fmt: skip
    found = {"encoder": 0.0, "prediction and joint networks": 0.0}
    for tensor in info.tensors:
        name = tensor.name.removeprefix("transducer.")
        rate = next((rate for prefix, rate in rates.items() if name.startswith(prefix)), 0.0)
        part = "encoder" if name.startswith("encoder.") else "prediction and joint networks"
        if not name.startswith(_RARE):
            found[part] += rate * tensor.macs
    return {**found, "all": sum(found.values())}


def memory_of(path: Path, info: PackInfo) -> dict[str, int]:
    """Bytes that the recogniser holds: `weights` with tables, `stream` one stream's state, and
    `reserved` what a stream sets aside for long utterances, where the native core can be asked.

    Without it the weights are taken to be as large as the file, and nothing is known of `reserved`.
    """
    from solomonic.speech.device_file import read_device_model

    state = read_device_model(path).transducer.init_state(1).nbytes
    found = {"weights": info.bytes, "stream": state}
    try:
        from solomonic.speech.native_recognizer import NativeRecognizer

        native = NativeRecognizer(path)
        return found | {"weights": native.nbytes, "reserved": native.create_stream().nbytes}
    except (ConfigError, ImportError, AttributeError):  # no native core, or an older one
        return found


def _show_cost(second: dict[str, float] | None, memory: dict[str, int] | None) -> None:
    if second is None or memory is None:
        return
    parts = ", ".join(f"{name} {count / 1e6:.1f}" for name, count in second.items())
    screen = console.screen()
    screen.print(
        f"million products for a second of audio with {LABELS} pieces: {parts}", soft_wrap=True
    )
    sizes = ", ".join(f"{name} {console.show_bytes(count)}" for name, count in memory.items())
    screen.print(f"memory: {sizes}", soft_wrap=True)


def _record(
    path: Path,
    info: PackInfo,
    second: dict[str, float] | None,
    memory: dict[str, int] | None,
) -> dict[str, Any]:
    own = {} if second is None else {"macs_per_second": second, "memory": memory}
    return {
        "file": str(path),
        **dataclasses.asdict(info),
        "weights": info.weights,
        "macs": info.macs,
        "bits_per_weight": info.bits_per_weight,
        **own,
        "tensors": [
            dataclasses.asdict(tensor) | {"bits_per_weight": tensor.bits_per_weight}
            for tensor in info.tensors
        ],
    }


def _show(path: Path, info: PackInfo) -> None:
    screen = console.screen()
    kind = info.config.get("model.type", "no model type")
    screen.print(f"[bold]{path}[/bold]  {kind}  {'signed' if info.signed else 'not signed'}")
    screen.print(f"SHA-256 {info.identity}", soft_wrap=True)
    screen.print(
        f"{console.show_bytes(info.bytes)} for {info.weights:,} weights: "
        f"{info.bits_per_weight:.2f} bits a weight, {info.float_bytes / info.bytes:.1f} times "
        f"smaller than float32; {info.macs:,} products for a row through every matrix\n",
        soft_wrap=True,
    )
    rows = [
        (
            short_name(tensor.name),
            tensor.format,
            "x".join(map(str, tensor.shape)),
            f"{tensor.zeros:.0%}",
            f"{tensor.bits_per_weight:.2f}",
            tensor.macs,
        )
        for tensor in info.tensors
        if tensor.macs
    ]
    columns = ("matrix", "format", "shape", "zeros", "bits a weight", "products")
    console.table("Matrices", columns, rows)
    rest = sum(tensor.bytes for tensor in info.tensors if not tensor.macs)
    screen.print(
        f"vectors {console.show_bytes(rest)}; header, settings, {info.pieces:,} pieces, directory "
        f"and padding {console.show_bytes(info.overhead)}"
    )
