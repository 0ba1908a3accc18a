"""Worker of `matvec`: ExecuTorch with XNNPACK, 8-bit activations by 4-bit or 8-bit weights.

Runs in a virtual environment of its own (`pip install executorch`), see `matvec.py`. Exporting a
chain takes minutes; it is done once, by `python -m peers.matvec_executorch FOLDER export`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from peers.matvec_worker import SIZE, serve

LAYERS = {"4 bit, groups of 32": 120, "8 bit": 72}
"""Layers of a chain: 70 MB, for one of half of it would be in part in cache."""


def path_of(folder: Path, kind: str, layers: int) -> Path:
    """File of an exported chain."""
    return folder / f"executorch {kind} {layers}.pte"


def export(folder: Path, kind: str, layers: int) -> None:
    """A chain of linear layers with weights that all differ: equal ones are stored once."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    torch.manual_seed(0)
    chain = torch.nn.Sequential(*[torch.nn.Linear(SIZE, SIZE, bias=False) for _ in range(layers)])
    for layer in chain:
        torch.nn.init.normal_(layer.weight, std=SIZE**-0.5)
    weights = (torch.int4, PerGroup(32)) if kind.startswith("4") else (torch.int8, PerAxis(0))
    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=weights[0], weight_granularity=weights[1]
    )
    quantize_(chain.eval(), config)
    program = torch.export.export(chain, (torch.randn(1, SIZE),), strict=False)
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path = path_of(folder, kind, layers)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        edge.to_executorch().write_to_file(file)
    part.replace(path)


def load(folder: Path, kind: str, layers: int) -> Callable[[int], None]:
    """Run an exported chain that often."""
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

    data = path_of(folder, kind, layers).read_bytes()
    module = _load_for_executorch_from_buffer(data)
    inputs = [torch.randn(1, SIZE)]

    def run(times: int) -> None:
        assert data  # is read where it lies
        for _ in range(times):
            module.forward(inputs)

    return run


def main(arguments: list[str]) -> None:
    """Nothing: serve. FOLDER have: end with 0 if every chain is there. FOLDER export: make them."""
    if not arguments:
        return serve(load)
    folder, do = Path(arguments[0]), arguments[1]
    for kind, most in LAYERS.items():
        for layers in (1, 3, most):
            if path_of(folder, kind, layers).exists():
                continue
            if do == "have":
                sys.exit(1)
            export(folder, kind, layers)


if __name__ == "__main__":
    main(sys.argv[1:])
