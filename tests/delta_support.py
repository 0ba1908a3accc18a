"""Random device files, and small changes of them as training makes them."""

import dataclasses

import numpy as np

from solomonic.compress.delta.rules import movable
from solomonic.compress.matrix import LARGEST, QuantisedMatrix
from solomonic.compress.pack import Pack, Piece, Vocabulary, build_pack

Rng = np.random.Generator


def matrix(
    rng: Rng, shape: tuple[int, int], bits: int = 4, pattern: str = "dense", grouped: bool = False
) -> QuantisedMatrix:
    """A Gaussian matrix, half of it zeros where the pattern has them."""
    outputs, inputs = shape
    weights = rng.normal(size=shape) * LARGEST[bits] / 3
    kept = np.ones(shape, bool)
    if pattern == "unstructured":
        kept = rng.random(shape) < 0.5
    elif pattern == "vec16":
        kept = np.repeat(rng.random((-(-outputs // 16), inputs)) < 0.5, 16, axis=0)[:outputs]
    elif pattern == "2:4":
        order = rng.random((outputs, -(-inputs // 4), 4)).argsort(axis=2)
        kept = (order < 2).reshape(outputs, -1)[:, :inputs]
    levels = np.clip(np.rint(weights), -LARGEST[bits], LARGEST[bits]) * kept
    width = -(-inputs // 64)
    scales = rng.random((outputs, width) if grouped else outputs).astype(np.float32) + 0.5
    if grouped:
        scales = (scales.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return QuantisedMatrix(levels.astype(np.int8), scales, bits, pattern)


def nudged(rng: Rng, old: QuantisedMatrix, rate: float = 0.05) -> QuantisedMatrix:
    """Some levels moved by up to two; scales and zeros as they were."""
    step = rng.integers(-2, 3, old.levels.shape) * (rng.random(old.levels.shape) < rate)
    levels = np.clip(old.levels + step * movable(old), -old.largest, old.largest)
    return dataclasses.replace(old, levels=levels.astype(np.int8))


def vocabulary(*texts: str) -> Vocabulary:
    return Vocabulary("pieces", tuple(Piece(text.encode(), -1.0) for text in texts))


def pack(seed: int = 0, **tensors: np.ndarray | QuantisedMatrix) -> Pack:
    """A file with three matrices and a bias, or with `tensors`."""
    rng = np.random.default_rng(seed)
    found = tensors or {
        "embed.weight": matrix(rng, (70, 40), 8),
        "mix.weight": matrix(rng, (64, 128), 4, "vec16"),
        "mix.bias": rng.normal(size=(64,)).astype(np.float32),
        "joint.weight": matrix(rng, (33, 64), 4, "2:4"),
    }
    return Pack({"model.kind": "test", "model.size": "40"}, found, vocabulary("a", "b", "c"))


def trained(old: Pack, seed: int = 1, rate: float = 0.02) -> Pack:
    """`old` after a little training."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: nudged(rng, tensor, rate)
        if isinstance(tensor, QuantisedMatrix)
        else (tensor * (1 + 0.01 * (rng.random(tensor.shape) < 0.3))).astype(np.float32)
        for name, tensor in old.tensors.items()
    }
    return dataclasses.replace(old, tensors=tensors)


def generations(count: int) -> list[bytes]:
    """Device files, each the one before after a little training."""
    packs = [pack()]
    while len(packs) < count:
        packs.append(trained(packs[-1], seed=len(packs)))
    return [build_pack(p) for p in packs]
