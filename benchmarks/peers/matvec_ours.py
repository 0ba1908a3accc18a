"""Worker of `matvec`: the packed matrices of this library."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers.matvec_worker import LSTM_LAYERS, SIZE, serve
from solomonic import _native

LARGEST = {"q8": 127, "s24_8": 127, "v16_8": 127}


def part(kind: str, outputs: int, seed: int = 0) -> tuple[str, int, int, bytes, bytes]:
    """A random matrix (outputs, SIZE) of a kind, "format" or "format share-of-zeros%", in tiles.

    Outputs have about the size of the inputs, so that chains neither grow nor vanish.
    """
    format, _, share = kind.partition(" ")
    rng = np.random.default_rng(seed)
    most = LARGEST.get(format, 7)
    levels = rng.integers(1, most + 1, (outputs, SIZE)) * rng.choice([-1, 1], (outputs, SIZE))
    if format.startswith("s24"):
        order = rng.random((outputs, SIZE // 4, 4)).argsort(axis=2).argsort(axis=2)
        levels = levels * (order < 2).reshape(outputs, SIZE)
    if format.startswith("v16"):
        keep = rng.random((outputs // 16, SIZE)).argsort(axis=1).argsort(axis=1)
        zeros = SIZE * int(share.rstrip("%") or 50) // 100
        levels = levels * np.repeat(keep >= zeros, 16, axis=0)
    scale = SIZE**-0.5 / np.sqrt(np.square(levels.astype(float)).mean())
    data = _native.packed_levels(format, np.ascontiguousarray(levels, np.int8))
    if format == "q4":  # bfloat16, one for 64 inputs
        scales = (np.full(outputs * SIZE // 64, scale, "<f4").view("<u4") >> 16).astype("<u2")
    else:
        scales = np.full(outputs, scale, "<f4")
    return format, outputs, SIZE, data, scales.tobytes()


def load(folder: Path, kind: str, layers: int) -> Callable[[int], object]:
    """A chain of one matrix's copies, side by side in one arena; or five LSTM layers."""
    x = np.random.default_rng(1).normal(size=(1, SIZE)).astype(np.float32)
    if kind.startswith("LSTM "):
        parts = [part(kind.removeprefix("LSTM "), 4 * SIZE, seed) for seed in range(2)]
        frames = _native.PackedLstm(_native.packed_arena(parts, LSTM_LAYERS))

        def steps(times: int) -> None:
            for _ in range(times):
                frames.step(x)

        return steps
    matrices = _native.packed_arena([part(kind, SIZE)], layers)
    return lambda times: _native.packed_chain(matrices, x, times)


if __name__ == "__main__":
    serve(load)
