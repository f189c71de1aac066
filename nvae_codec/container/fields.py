"""Numbers of variable length, and a reader that never reads past its end."""

from __future__ import annotations

from nvae_codec.errors import DamagedFileError

LARGEST = (1 << 35) - 1  # five bytes of seven bits


def pack_varint(value: int) -> bytes:
    """Seven bits a byte, the low ones first; every byte but the last has its top bit set. 0 to 2^35 − 1."""
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} does not fit a varint of five bytes")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ByteReader:
    """Reads a file's fields one after another; whatever does not fit raises DamagedFileError."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._position, self._end = data, start, end

    @property
    def left(self) -> int:
        """The number of bytes not read yet."""
        return self._end - self._position

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if not 0 <= count <= self.left:
            raise DamagedFileError("damaged: a field is longer than the file")
        self._position += count
        return self._data[self._position - count : self._position]

    def varint(self, least: int, most: int) -> int:
        """The next varint, which must be from ``least`` to ``most`` and written in as few bytes as it needs."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or not least <= value <= most:
                    break
                return value
        raise DamagedFileError("damaged: a number is out of its range")
