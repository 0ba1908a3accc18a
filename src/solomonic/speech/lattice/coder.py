"""Whole numbers and words in few bits: an adaptive binary range coder.

The one of LZMA in outline (32-bit range, byte-wise), with probabilities that learn as fast as a
message of a few hundred bytes needs: the first bits of a context count as much as its later ones.
`docs/lattice-format.md` describes it bit by bit, for readers in other languages.
"""

from collections.abc import Hashable

from solomonic.core import DataError

_TOP = 1 << 24  # below this the range takes in another byte
_FULL = (1 << 32) - 1
_HALF = 1 << 15
_MEMORY = 30  # bits after which a context begins to forget
_SURE = 1 << 10  # probabilities stay within 1/64 .. 63/64, so that a bit costs at least 0.02 bits
_LARGEST = 31  # most bits of a number

_LETTERS = "\0abcdefghijklmnopqrstuvwxyz'"  # the end of a word is letter 0
_LETTER_BITS = 5
_OTHER = 31  # what is not among the letters follows as a byte
_CODE = {letter: code for code, letter in enumerate(_LETTERS) if code}


class _Contexts:
    """For every context, the probability of a 1 (of 65536) and how many bits it has seen."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[int, int]] = {}

    def chance(self, context: Hashable) -> int:
        return self._seen.get(context, (_HALF, 0))[0]

    def learn(self, context: Hashable, bit: int) -> None:
        """The estimate of Krichevsky and Trofimov, (ones + 1/2) / (bits + 1), with a limit."""
        chance, count = self._seen.get(context, (_HALF, 0))
        step = min(count, _MEMORY) + 2
        chance += (65536 - chance) // step if bit else -(chance // step)
        self._seen[context] = min(max(chance, _SURE), 65536 - _SURE), count + 1


class Encoder:
    """Writes bits into `finish()`'s bytes; the decoder must ask with the same contexts."""

    def __init__(self) -> None:
        self._contexts = _Contexts()
        self._bytes = bytearray()
        self._low, self._range = 0, _FULL

    def bit(self, context: Hashable, bit: int) -> int:
        """One bit, as likely as the context has seen it; None: as likely 0 as 1."""
        chance = _HALF if context is None else self._contexts.chance(context)
        bound = (self._range >> 16) * chance
        if bit:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        if context is not None:
            self._contexts.learn(context, bit)
        while self._range < _TOP:
            self._shift()
            self._range <<= 8
        return bit

    def finish(self) -> bytes:
        """All bytes; the last ones are as few as tell the decoder where it is."""
        for count in range(1, 5):
            rest = (1 << (32 - 8 * count)) - 1
            value = (self._low + rest) & ~rest
            if value < self._low + self._range:
                self._low = value
                for _ in range(count):
                    self._shift()
                break
        return bytes(self._bytes)

    def _shift(self) -> None:
        """Move the top byte out of `low`, carrying into the bytes before it."""
        if self._low > _FULL:
            self._low &= _FULL
            at = len(self._bytes) - 1
            while self._bytes[at] == 255:
                self._bytes[at] = 0
                at -= 1
            self._bytes[at] += 1
        self._bytes.append(self._low >> 24)
        self._low = (self._low << 8) & _FULL


class Decoder:
    """Reads bits from `data[start:end]`.

    Raises (from `bit` and `finish`):
        DataError: the bits reach beyond the end, or stop before it.
    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._contexts = _Contexts()
        self._data, self._at, self._end = data, start, end
        self._code, self._range = 0, _FULL
        for _ in range(4):
            self._code = self._code << 8 | self._next()

    @property
    def offset(self) -> int:
        """The byte that was read last."""
        return min(self._at, self._end) - 1

    def bit(self, context: Hashable, bit: int = 0) -> int:
        """The bit that was written with this context; the argument is not looked at."""
        chance = _HALF if context is None else self._contexts.chance(context)
        bound = (self._range >> 16) * chance
        bit = int(self._code < bound)
        if bit:
            self._range = bound
        else:
            self._code -= bound
            self._range -= bound
        if context is not None:
            self._contexts.learn(context, bit)
        while self._range < _TOP:
            self._code = self._code << 8 | self._next()
            self._range <<= 8
        return bit

    def finish(self) -> None:
        """Check that everything was read."""
        if self._at < self._end:
            raise DataError(f"{self._end - self._at} bytes are left over at byte {self._at}")

    def _next(self) -> int:
        """The next byte; after the last, up to three zeros that `Encoder.finish` left out."""
        at = self._at
        self._at += 1
        if at < self._end:
            return self._data[at]
        if at >= self._end + 3:
            raise DataError(f"the data ends at byte {self._end}, in the middle")
        return 0


Coder = Encoder | Decoder


def code_number(coder: Coder, context: Hashable, value: int = 0) -> int:
    """A number from 0 to 2 ** 32 - 2: the length of value + 1 in unary, then its lower bits."""
    assert 0 <= value < (1 << (_LARGEST + 1)) - 1, "the caller checks the range"
    bits = 0
    length = (value + 1).bit_length() - 1
    while bits < _LARGEST and coder.bit((context, "length", bits), bits < length):
        bits += 1
    number = 1
    for place in reversed(range(bits)):
        # The first bits after the leading one tell much, the lower ones are noise.
        known = (context, "lower", bits, number) if number < 4 else None
        number = number << 1 | coder.bit(known, (value + 1) >> place & 1)
    return number - 1


def code_signed(coder: Coder, context: Hashable, value: int = 0) -> int:
    """A number with a sign: its size, then whether it is negative."""
    size = code_number(coder, context, abs(value))
    return -size if size and coder.bit((context, "negative"), value < 0) else size


class WordCoder:
    """Words by letters: what followed the same two letters last time, else one of 32 codes.

    Rivals are alike ("light", "lights", "lie"), and so most letters of a lattice are foreseen.
    """

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._followed: dict[tuple[int, int], int] = {}

    def code(self, word: str = "") -> str:
        """The word that is written or read.

        Raises:
            DataError: what is read is no UTF-8.
        """
        codes = [_CODE.get(chr(byte), byte + 256) for byte in word.encode()] + [0]
        known, before, spelt = (0, 0), bytearray(), 0
        while True:
            code = self._letter(known, codes[min(spelt, len(codes) - 1)])
            if not code:
                break
            before += _LETTERS[code].encode() if code < 256 else bytes([code - 256])
            known = (known[1], code)
            spelt += 1
        try:
            return before.decode()
        except UnicodeDecodeError:
            raise DataError("a word is not UTF-8") from None

    def _letter(self, known: tuple[int, int], code: int) -> int:
        guess = self._followed.get(known)
        if guess is not None and self._coder.bit("as before", code == guess):
            return guess
        found = self._tree("letter", _LETTER_BITS, min(code, _OTHER))
        if found == _OTHER:
            found = 256 + self._tree("byte", 8, code & 255)
        elif found >= len(_LETTERS):
            raise DataError(f"letter {found} does not exist")
        self._followed[known] = found
        return found

    def _tree(self, name: str, bits: int, value: int) -> int:
        node = 1
        for place in reversed(range(bits)):
            node = node << 1 | self._coder.bit((name, node), value >> place & 1)
        return node - (1 << bits)
