"""Float arrays (scales, norms, biases): which numbers changed, by how many representable steps.

float32 numbers in the order of their size are whole numbers in order; the differences of those,
with the sign in the lowest bit, are written byte by byte, the lowest first. Scales that are
bfloat16 have two low bytes that never change and cost nothing.
"""

import numpy as np

from solomonic.compress.delta.levels import Part

PLANES = 4
_SIGN = np.uint32(0x7FFFFFFF)


def overlap(old: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Old numbers in a new shape, float32; zeros where there were none."""
    found = np.zeros(shape, np.float32)
    if old is not None and old.ndim == len(shape):
        both = tuple(slice(0, min(a, b)) for a, b in zip(old.shape, shape, strict=True))
        found[both] = old[both]
    return found


def flags(old: np.ndarray, new: np.ndarray | None) -> Part:
    """Which numbers changed, of arrays of equal shape; `new` is None when reading."""
    changed = None if new is None else (_ordered(old) != _ordered(new)).ravel().astype(np.uint8)
    return Part(np.zeros(old.size, np.int64), 1, changed)


def planes(old: np.ndarray, changed: np.ndarray, new: np.ndarray | None) -> Part:
    """The bytes of the changes of the numbers where `changed` (n,) is 1."""
    count = int(np.count_nonzero(changed))
    contexts = np.repeat(np.arange(PLANES), count)
    if new is None:
        return Part(contexts, PLANES)
    places = np.flatnonzero(changed)
    step = (_ordered(new).ravel()[places] - _ordered(old).ravel()[places]).view(np.int32)
    folded = (step << 1 ^ step >> 31).view(np.uint32)
    symbols = [(folded >> np.uint32(8 * plane)).astype(np.uint8) for plane in range(PLANES)]
    return Part(contexts, PLANES, np.concatenate(symbols))


def restore(old: np.ndarray, changed: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """The new array from the answers to both questions."""
    places = np.flatnonzero(changed)
    folded = np.zeros(len(places), np.uint32)
    for plane, part in enumerate(symbols.reshape(PLANES, -1)):
        folded |= part.astype(np.uint32) << np.uint32(8 * plane)
    step = folded >> np.uint32(1) ^ (np.uint32(0) - (folded & np.uint32(1)))
    numbers = _ordered(old).ravel().copy()
    numbers[places] += step
    return _unordered(numbers).reshape(old.shape)


def _ordered(array: np.ndarray) -> np.ndarray:
    """uint32 that grow (around the circle) as the floats do, one for each bit pattern."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return np.where(bits >> np.uint32(31), bits ^ _SIGN, bits)


def _unordered(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers >> np.uint32(31), numbers ^ _SIGN, numbers).view(np.float32)
