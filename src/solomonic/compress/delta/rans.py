"""Many symbols in few bytes: interleaved range asymmetric numeral systems, in numpy.

Symbol i belongs to lane i mod `lanes`; a step codes one symbol of every lane, so that 6 million
symbols are some ten thousand steps of vector arithmetic. Frequencies of a table sum to 2^15, states
lie in [2^16, 2^32), and a lane that leaves that range takes or gives one 16-bit word. All of it is
whole numbers: the same bytes on every machine.
(Duda 2013, arXiv 1311.2540; interleaving: Giesen 2014, arXiv 1402.3392.)

    bytes = u32 state of every lane, then the words in the order in which the decoder takes them
"""

import numpy as np

from solomonic.core import CheckpointError

PRECISION = 15
"""Frequencies of a table sum to 2 ** PRECISION."""
ALPHABET = 256
MOST_LANES = 4096
_TOTAL = 1 << PRECISION
_LOWEST = 1 << 16
_STEPS, _FEW_STEPS = 30_000, 4_000  # half a second at most, and what 16 lanes are worth


def choose_lanes(symbols: int, expected_bytes: float) -> int:
    """A power of two: each lane costs three bytes, each step some microseconds."""
    wanted = max(expected_bytes / 512, symbols / _STEPS, min(symbols / _FEW_STEPS, 16.0), 1.0)
    return min(1 << int(np.ceil(np.log2(wanted))), MOST_LANES)


def encode(symbols: np.ndarray, tables: np.ndarray, frequencies: np.ndarray, lanes: int) -> bytes:
    """Code `symbols`.

    Args:
        symbols: (n,) uint8.
        tables: (n,) which row of `frequencies` codes each.
        frequencies: (T, 256) integers, every row summing to 2^15, not zero at a symbol in use.
        lanes: states side by side.
    """
    heights = frequencies.astype(np.uint64)
    starts = (np.cumsum(heights, axis=1) - heights).ravel()
    heights = heights.ravel()
    index = tables.astype(np.int64) * ALPHABET + symbols
    state = np.full(lanes, _LOWEST, np.uint64)
    words: list[np.ndarray] = []
    shift, half, low = np.uint64(PRECISION), np.uint64(16), np.uint64(0xFFFF)
    room = np.uint64(32 - PRECISION)
    for begin in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        at = index[begin : begin + lanes]
        height, x = heights[at], state[: len(at)]
        full = x >= height << room
        if full.any():
            words.append((x[full] & low).astype("<u2"))
            x[full] >>= half
        quotient = x // height
        x[:] = (quotient << shift) + (x - quotient * height) + starts[at]
    return state.astype("<u4").tobytes() + b"".join(w.tobytes() for w in reversed(words))


def decode(data: bytes, tables: np.ndarray, frequencies: np.ndarray, lanes: int) -> np.ndarray:
    """The symbols (n,) uint8 that `encode` was given with the same tables.

    Raises:
        CheckpointError: the bytes stop early, go on, or were made with other tables.
    """
    if len(data) < 4 * lanes or len(data) % 2:
        raise CheckpointError("its coded symbols are cut short")
    heights = frequencies.astype(np.int64)
    starts = (np.cumsum(heights, axis=1) - heights).ravel()
    symbol_at = np.stack([np.repeat(np.arange(ALPHABET, dtype=np.uint8), row) for row in heights])
    symbol_at, heights = symbol_at.ravel(), heights.ravel()
    state = np.frombuffer(data, "<u4", lanes).astype(np.int64)
    words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.int64)
    symbols = np.empty(len(tables), np.uint8)
    rows = tables.astype(np.int64)
    taken = 0
    for begin in range(0, len(rows), lanes):
        row = rows[begin : begin + lanes]
        x = state[: len(row)]
        slot = x & (_TOTAL - 1)
        found = symbol_at[(row << PRECISION) + slot]
        symbols[begin : begin + lanes] = found
        at = (row << 8) + found
        x[:] = heights[at] * (x >> PRECISION) + slot - starts[at]
        low = np.flatnonzero(x < _LOWEST)
        if len(low):
            more = words[taken : taken + len(low)]
            if len(more) < len(low):
                raise CheckpointError("its coded symbols are cut short")
            x[low] = x[low] << 16 | more
            taken += len(low)
    if taken != len(words) or (state != _LOWEST).any():
        raise CheckpointError("its coded symbols do not end where they should")
    return symbols
