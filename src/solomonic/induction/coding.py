"""A range coder driven by any predictor: what it predicts well takes few bits.

    coded = encode(Mixer(), data)
    data == decode(Mixer(), coded, len(data))

Symbols are coded as binary decisions, the highest bit of the symbol first, with probabilities
rounded to 65536ths before they are used, so that the decoder, with an equal predictor, makes the
same ones. A byte predictor that works bit by bit is asked for its bits; of any other the decisions
are sums of its probabilities.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from solomonic.core import BitPredictor, Predictor
from solomonic.induction.numbers import quantise

_TOP, _ALL = 0xFF000000, 0xFFFFFFFF


class Encoder:
    """Bits and their probabilities in, bytes out (native/src/induction/coder.h, in Python)."""

    def __init__(self) -> None:
        self._low, self._high = 0, _ALL
        self._out = bytearray()

    def encode(self, bit: int, one: int) -> None:
        """Code `bit`; `one` is the probability of a one in 65536ths."""
        middle = self._low + ((self._high - self._low) * one >> 16)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) & _TOP:
            self._out.append(self._high >> 24)
            self._low = self._low << 8 & _ALL
            self._high = self._high << 8 & _ALL | 255

    def finish(self) -> bytes:
        """As few bytes as tell the interval; the decoder reads zeros behind them."""
        if self._low:
            for shift in range(24, -1, -8):
                value = -(-self._low >> shift) << shift
                if value <= self._high:
                    self._out += value.to_bytes(4, "big")[: 4 - shift // 8]
                    break
        return bytes(self._out).rstrip(b"\0")


class Decoder:
    """The bits back, given the same probabilities."""

    def __init__(self, data: bytes) -> None:
        self._low, self._high = 0, _ALL
        self._data, self._at = data, 4
        self._value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def decode(self, one: int) -> int:
        """The next bit."""
        middle = self._low + ((self._high - self._low) * one >> 16)
        bit = int(self._value <= middle)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) & _TOP:
            self._low = self._low << 8 & _ALL
            self._high = self._high << 8 & _ALL | 255
            coming = self._data[self._at] if self._at < len(self._data) else 0
            self._value = self._value << 8 & _ALL | coming
            self._at += 1
        return bit


def encode(predictor: Predictor, symbols: Sequence[int] | bytes) -> bytes:
    """The symbols in the coder's bytes; the predictor moves on past them."""
    core = getattr(predictor, "core", None)
    if core is not None:
        return core.encode(bytes(symbols))
    coder = Encoder()
    if isinstance(predictor, BitPredictor):
        for symbol in symbols:
            for k in range(7, -1, -1):
                bit = (symbol >> k) & 1
                coder.encode(bit, quantise(predictor.bit()))
                predictor.learn(bit)
        return coder.finish()
    for symbol in symbols:
        sums, width = _sums(predictor)
        low = 0
        for size in _halves(width):
            bit = int(int(symbol) & size > 0)
            chance = _chance(sums, low, size)
            if chance is not None:
                coder.encode(bit, chance)
            low += size * bit
        predictor.update(int(symbol))
    return coder.finish()


def decode(predictor: Predictor, coded: bytes, count: int) -> list[int]:
    """`count` symbols; the predictor, equal to the encoder's, moves on past them.

    Damaged bytes give other symbols: an archive's checksums tell.
    """
    core = getattr(predictor, "core", None)
    if core is not None:
        return list(core.decode(coded, count))
    return list(decode_each(predictor, coded, count))


def decode_each(predictor: Predictor, coded: bytes, count: int) -> Iterator[int]:
    """The same, one symbol at a time."""
    coder = Decoder(coded)
    for _ in range(count):
        symbol = 0
        if isinstance(predictor, BitPredictor):
            for _ in range(8):
                bit = coder.decode(quantise(predictor.bit()))
                predictor.learn(bit)
                symbol = symbol * 2 + bit
        else:
            sums, width = _sums(predictor)
            for size in _halves(width):
                chance = _chance(sums, symbol, size)
                if chance is not None and coder.decode(chance):
                    symbol += size
            predictor.update(symbol)
        yield symbol


def _sums(predictor: Predictor) -> tuple[np.ndarray, int]:
    """Probability of all symbols below each, and the bits of a symbol."""
    sums = np.concatenate(([0.0], np.cumsum(predictor.predict())))
    return sums, (predictor.alphabet - 1).bit_length()


def _halves(width: int) -> Iterator[int]:
    return (1 << k for k in range(width - 1, -1, -1))


def _chance(sums: np.ndarray, low: int, size: int) -> int | None:
    """That the symbol is in the upper half of low .. low + 2 size - 1; None: there is no such."""
    last = len(sums) - 1
    if low + size >= last:
        return None
    middle, high = sums[low + size], sums[min(low + 2 * size, last)]
    whole = high - sums[low]
    return quantise(float((high - middle) / whole)) if whole > 0 else 1 << 15
