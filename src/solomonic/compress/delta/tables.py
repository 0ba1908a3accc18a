"""How likely each symbol is: contexts that behave alike share one table of frequencies.

A symbol comes with a context that the reader knows already (which matrix, how large the old level
was, how much its row moved). Every context has its own histogram; those that cost fewer bits as one
table than as two are merged, and a byte for each context says which table it reads. Tables are
written as logarithms in steps of 1/8 octave, which costs less than 0.1% of the symbols' bits.
"""

import struct
import zlib

import numpy as np

from solomonic.compress.delta import rans
from solomonic.core import CheckpointError

_TABLE_BITS, _ENTRY_BITS = 24.0, 7.0  # what a table and each of its symbols take, about
_MOST_TABLES = 254
_OCTAVE = 8
# round(2 ** (16 + i / 8)): integers, so that every machine has the same frequencies.
_STEPS = np.array([65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194], np.int64)
_HEAD = struct.Struct("<HI")  # lanes, bytes of the zlib-coded tables
# Small differences of either sign first: 0, 1, 255, 2, 254, ...
_NEAREST = np.array([0] + [v for i in range(1, 128) for v in (i, 256 - i)] + [128])


def write_symbols(
    symbols: np.ndarray, contexts: np.ndarray, count: int
) -> tuple[bytes, np.ndarray]:
    """Code symbols (n,) uint8, each in its context (n,) of `count`.

    Returns:
        the bytes, and (count,) float64: bits that the symbols of each context took.
    """
    used = np.flatnonzero(np.bincount(contexts, minlength=count))
    number = np.zeros(count, np.int64)
    number[used] = np.arange(len(used))
    joint = number[contexts] * rans.ALPHABET + symbols
    sizes = np.bincount(joint, minlength=len(used) * rans.ALPHABET)
    histograms = sizes.reshape(len(used), rans.ALPHABET)
    table_of, sums = _clusters(histograms)
    codes = _log_codes(sums)
    frequencies = _frequencies(codes)
    logs = rans.PRECISION - np.log2(np.maximum(frequencies, 1))
    bits = np.zeros(count)
    bits[used] = (histograms * logs[table_of - 1]).sum(axis=1)
    chosen = np.zeros(count, np.uint8)
    chosen[used] = table_of
    lanes = rans.choose_lanes(len(symbols), float(bits.sum()) / 8)
    side = zlib.compress(chosen.tobytes() + b"".join(_trimmed(row) for row in codes), 9)
    body = b""
    if len(symbols):
        body = rans.encode(symbols, chosen[contexts] - 1, frequencies, lanes)
    return _HEAD.pack(lanes, len(side)) + side + body, bits


def read_symbols(data: bytes, contexts: np.ndarray, count: int) -> np.ndarray:
    """The symbols (n,) uint8 that `write_symbols` was given with these contexts.

    Raises:
        CheckpointError: the bytes are damaged.
    """
    if len(data) < _HEAD.size:
        raise CheckpointError("its tables are cut short")
    lanes, size = _HEAD.unpack_from(data)
    limit = count + rans.ALPHABET * (_MOST_TABLES + 1)
    inflate = zlib.decompressobj()
    side = inflate.decompress(data[_HEAD.size : _HEAD.size + size], limit)
    if not 1 <= lanes <= rans.MOST_LANES or len(side) < count or not inflate.eof:
        raise CheckpointError("its tables are damaged")
    if not len(contexts):
        return np.empty(0, np.uint8)
    chosen = np.frombuffer(side, np.uint8, count)
    codes = _untrimmed(side[count:])
    used = chosen[contexts]
    if not len(codes) or used.min() == 0 or used.max() > len(codes):
        raise CheckpointError("its tables are damaged")
    return rans.decode(data[_HEAD.size + size :], used - 1, _frequencies(codes), lanes)


def entropy_bits(histograms: np.ndarray) -> np.ndarray:
    """Bits of all symbols of each histogram (..., 256) under its own frequencies."""
    counts = histograms.astype(np.float64)
    total = counts.sum(axis=-1)
    logs = np.log2(np.maximum(counts, 1))
    return total * np.log2(np.maximum(total, 1)) - (counts * logs).sum(axis=-1)


def table_bits(histograms: np.ndarray) -> np.ndarray:
    """Bits that the tables of histograms (..., 256) take, about; none for one without symbols."""
    entries = (histograms > 0).sum(axis=-1)
    return np.where(entries > 0, _TABLE_BITS + _ENTRY_BITS * entries, 0.0)


def _clusters(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(table of each context (C,), from 1; sums (T, 256)) for histograms that are not empty."""
    chosen = np.zeros(len(histograms), np.int64)
    order = np.argsort(-histograms.sum(axis=1), kind="stable")
    sums = np.zeros((0, rans.ALPHABET), np.int64)
    own = _cost(histograms)
    for context in order:
        rise = _cost(sums + histograms[context]) - _cost(sums)
        best = int(rise.argmin()) if len(sums) else 0
        if len(sums) == _MOST_TABLES or (len(sums) and rise[best] <= own[context]):
            sums[best] += histograms[context]
        else:
            best = len(sums)
            sums = np.vstack([sums, histograms[context]])
        chosen[context] = best + 1
    return _merged(chosen, sums)


def _merged(chosen: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join pairs of tables for as long as that saves bits: the first pass was greedy."""
    while len(sums) > 1:
        costs = _cost(sums)
        gains = np.full((len(sums), len(sums)), -np.inf)
        for a in range(len(sums) - 1):
            gains[a, a + 1 :] = costs[a] + costs[a + 1 :] - _cost(sums[a] + sums[a + 1 :])
        a, b = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[a, b] <= 0:
            break
        sums[a] += sums[b]
        sums = np.delete(sums, b, axis=0)
        chosen[chosen == b + 1] = a + 1
        chosen[chosen > b + 1] -= 1
    return chosen, sums


def _cost(histograms: np.ndarray) -> np.ndarray:
    return entropy_bits(histograms) + table_bits(histograms)


def _log_codes(sums: np.ndarray) -> np.ndarray:
    """(T, 256) uint8: 0 for no symbol, else 1 + round(8 log2 count)."""
    logs = np.rint(_OCTAVE * np.log2(np.maximum(sums, 1))).astype(np.int64)
    return np.where(sums > 0, np.minimum(logs, 254) + 1, 0).astype(np.uint8)


def _frequencies(codes: np.ndarray) -> np.ndarray:
    """(T, 256) int64, each row summing to 2^15, from the logarithms."""
    exponent = codes.astype(np.int64) - 1
    octaves = np.maximum(exponent // _OCTAVE, 0)
    weight = np.where(codes > 0, _STEPS[exponent % _OCTAVE] << octaves, 0)
    total = 1 << rans.PRECISION
    # weight < 2^49 and its sum < 2^57: scaled down before it is multiplied.
    weight >>= 12
    sums = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    frequencies = np.where(codes > 0, np.maximum(weight * total // sums, 1), 0)
    rows = np.arange(len(codes))
    frequencies[rows, frequencies.argmax(axis=1)] += total - frequencies.sum(axis=1)
    return frequencies


def _trimmed(codes: np.ndarray) -> bytes:
    row = codes[_NEAREST]
    last = int(np.flatnonzero(row)[-1])
    return bytes([last]) + row[: last + 1].tobytes()


def _untrimmed(data: bytes) -> np.ndarray:
    rows, at = [], 0
    while at < len(data):
        row = np.zeros(rans.ALPHABET, np.uint8)
        part = np.frombuffer(data[at + 1 : at + 2 + data[at]], np.uint8)
        if len(part) != data[at] + 1 or not part.any():
            raise CheckpointError("its tables are damaged")
        row[_NEAREST[: len(part)]] = part
        rows.append(row)
        at += 1 + len(part)
    return np.array(rows, np.uint8).reshape(-1, rans.ALPHABET)
