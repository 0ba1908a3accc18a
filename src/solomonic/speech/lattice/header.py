"""Plain fields of a message: bytes, numbers of 7 bits a byte, short texts."""

import struct

from solomonic.core import DataError

_LONGEST = 9  # bytes of a number: 63 bits
_PARTS = 1_000_000  # frame lengths are stored in microseconds where that is exact


class Writer:
    """Appends fields to `data`."""

    def __init__(self) -> None:
        self.data = bytearray()

    def byte(self, value: int) -> None:
        """0 to 255."""
        self.data.append(value)

    def number(self, value: int) -> None:
        """0 to 2 ** 63 - 1, lowest 7 bits first; all bytes but the last have the top bit set."""
        assert 0 <= value < 1 << 63
        while value > 127:
            self.data.append(value & 127 | 128)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """0, -1, 1, -2, ... as the numbers 0, 1, 2, 3, ..."""
        self.number(2 * value if value >= 0 else -2 * value - 1)

    def text(self, value: str) -> None:
        """The number of bytes, and the text in UTF-8."""
        self.number(len(value.encode()))
        self.data += value.encode()

    def seconds(self, value: float) -> None:
        """Microseconds, or 0 and the float64 where they would not give it back exactly."""
        parts = round(value * _PARTS) if value < 1e6 else 0
        if parts and parts / _PARTS == value:
            self.number(parts)
        else:
            self.number(0)
            self.data += struct.pack("<d", value)


class Reader:
    """Takes fields from `data[at:end]`.

    Raises (from every method):
        DataError: the field is cut short or malformed; the sentence names it and its byte.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.end = data, 0, len(data)

    def skip(self, count: int, name: str) -> bytes:
        """The next `count` bytes."""
        if count > self.end - self.at:
            raise DataError(
                f"the lattice message is cut short: '{name}' at byte {self.at} takes {count} "
                f"bytes and {self.end - self.at} are left."
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self, name: str) -> int:
        """0 to 255."""
        return self.skip(1, name)[0]

    def number(self, name: str) -> int:
        """See `Writer.number`."""
        start, value = self.at, 0
        for place in range(_LONGEST):
            byte = self.byte(name)
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise DataError(f"'{name}' at byte {start} of the lattice message is longer than 63 bits.")

    def signed(self, name: str) -> int:
        """See `Writer.signed`."""
        value = self.number(name)
        return -(value + 1) // 2 if value & 1 else value // 2

    def text(self, name: str) -> str:
        """See `Writer.text`."""
        start = self.at
        try:
            return self.skip(self.number(name), name).decode()
        except UnicodeDecodeError:
            raise DataError(
                f"'{name}' at byte {start} of the lattice message is not UTF-8."
            ) from None

    def seconds(self, name: str) -> float:
        """See `Writer.seconds`."""
        parts = self.number(name)
        if parts:
            return parts / _PARTS
        return struct.unpack("<d", self.skip(8, name))[0]
