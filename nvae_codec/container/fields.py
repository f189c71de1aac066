"""Fields of a file. Each is declared once, as an object that packs and reads values.

A table of fields (a dictionary from name to field) describes a part of the file; ``pack_fields`` writes one and
``read_fields`` reads it. Readers check everything: values out of range and lengths beyond the end of the file raise
DamagedFileError.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nvae_codec.errors import DamagedFileError

LARGEST = (1 << 35) - 1
"""The largest varint: five bytes of seven bits."""


def pack_varint(value: int) -> bytes:
    """An integer from 0 to 2^35 - 1: seven bits a byte, the low ones first; all bytes but the last have the top bit."""
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} does not fit a varint of five bytes")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_varints(values: Iterable[int]) -> bytes:
    """Varints one after another."""
    return b"".join(map(pack_varint, values))


def pack_sized(data: bytes) -> bytes:
    """Bytes after their length."""
    return pack_varint(len(data)) + data


class ByteReader:
    """Reads one field after another from ``data[start:end]``."""

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data, self._position, self._end = data, start, len(data) if end is None else end

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
        """The next varint, which must be from ``least`` to ``most`` and take no more bytes than it needs."""
        if self._position < self._end and least <= (value := self._data[self._position]) <= min(most, 0x7F):
            self._position += 1  # a single byte: an index has millions of them
            return value
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or not least <= value <= most:
                    break
                return value
        raise DamagedFileError("damaged: a number is out of its range")

    def sized(self, least: int = 0) -> bytes:
        """The next bytes, after their length."""
        return self.take(self.varint(least, max(least, self.left)))


class Field(NamedTuple):
    """How one value is written to a file, and read back; ``read`` raises DamagedFileError."""

    pack: Callable[[Any], bytes]
    read: Callable[[ByteReader], Any]


def varint(least: int, most: int = LARGEST) -> Field:
    """An integer from ``least`` to ``most``, one to five bytes."""
    return Field(pack_varint, lambda reader: reader.varint(least, most))


def fixed(count: int) -> Field:
    """A fixed number of bytes."""
    return Field(bytes, lambda reader: reader.take(count))


VARINTS = Field(
    lambda values: pack_varint(len(values)) + pack_varints(values),
    lambda reader: tuple(reader.varint(0, LARGEST) for _ in range(reader.varint(0, reader.left))),
)
"""A list of varints, after its length."""


def pack_fields(table: Mapping[str, Field], record: object) -> bytes:
    """The fields of a table, from the attributes of a record."""
    return b"".join(field.pack(getattr(record, name)) for name, field in table.items())


def read_fields(table: Mapping[str, Field], reader: ByteReader) -> dict[str, Any]:
    """The fields of a table by their names; raises DamagedFileError."""
    return {name: field.read(reader) for name, field in table.items()}
