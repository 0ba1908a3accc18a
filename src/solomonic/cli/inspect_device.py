"""`solomonic inspect model.solo`: where a device file spends its bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.cli import console

if TYPE_CHECKING:
    from solomonic.compress.pack import PackInfo


def inspect_device(path: Path, json: bool) -> None:
    """Show the file's tensors: format, zeros, bits a weight, products."""
    from solomonic.compress.pack import describe_pack

    info = describe_pack(path)
    if json:
        console.emit(_record(path, info))
    else:
        _show(path, info)


def _record(path: Path, info: PackInfo) -> dict[str, Any]:
    return {
        "file": str(path),
        **dataclasses.asdict(info),
        "weights": info.weights,
        "macs": info.macs,
        "bits_per_weight": info.bits_per_weight,
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
            tensor.name,
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
