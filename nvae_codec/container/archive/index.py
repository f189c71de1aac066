"""An archive's header, and the index at its end: which segments there are, and which images are in them.

    magic d6 4e ┬ version ┬ kind ┬ identity of the model, 32 │ segments │ index, one zlib stream ┬ length, 8 ┬ XXH3, 8

The checksum at the end is of header, index and length; the segments' are in the index. ``docs/format.md`` describes
every byte.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import xxhash

from nvae_codec.container.archive.names import Names, next_name
from nvae_codec.container.extensions import (
    SHARD,
    Extension,
    Extensions,
    extension,
    find_extension,
    pack_extensions,
    read_extensions,
)
from nvae_codec.container.fields import (
    LARGEST,
    ByteReader,
    Field,
    Fixed,
    Varint,
    pack_fields,
    pack_varint,
    read_fields,
)
from nvae_codec.container.header import ARCHIVE, LARGEST_SIDE, MAGIC, VERSION, Kind, pack_kind, read_kind
from nvae_codec.container.inflate import inflate
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.raster import Colour

ARCHIVE_MAGIC = MAGIC + bytes((VERSION, ARCHIVE))
HEADER_BYTES = len(ARCHIVE_MAGIC) + 32
TRAILER_BYTES = 16
LARGEST_INDEX = 1 << 28  # bytes once inflated
MOST_IMAGES = 1 << 22


@dataclass(frozen=True)
class Entry:
    """A image of an archive, as its index knows it."""

    name: str
    kind: Kind
    colour: Colour
    width: int
    height: int
    metadata: bool

    @property
    def dims(self) -> int:
        """The number of colour values: W·H·C."""
        return self.width * self.height * self.colour.channels


@dataclass(frozen=True)
class Segment:
    """A segment's bytes in its file, their checksum, and its images."""

    start: int
    length: int
    checksum: bytes
    entries: tuple[Entry, ...]


SHARD_FIELDS: Mapping[str, Field] = {"number": Varint(1), "count": Varint(1), "whole": Fixed(8)}


@dataclass(frozen=True)
class Shard:
    """Which part of a whole archive this one is: ``number`` from 1 to ``count``.

    ``whole``, 8 bytes, is the same in all parts of one whole, and else another (container/shards.py).
    """

    number: int
    count: int
    whole: bytes

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def pack(self) -> Extension:
        """The extension block that says so."""
        return extension(SHARD, pack_fields(SHARD_FIELDS, self))

    @classmethod
    def unpack(cls, data: bytes) -> Shard:
        """What the bytes of a block say; raises DamagedFileError."""
        reader = ByteReader(data)
        shard = cls(**read_fields(SHARD_FIELDS, reader))
        if reader.left or shard.number > shard.count:
            raise DamagedFileError("damaged: it is an impossible shard")
        return shard


@dataclass(frozen=True)
class Index:
    """What an archive holds: its model's identity, 32 bytes, and its segments in their order."""

    identity: bytes
    segments: tuple[Segment, ...]
    extensions: Extensions = ()

    @property
    def shard(self) -> Shard | None:
        """Which part of a whole archive this one is, if it is one. Raises DamagedFileError."""
        block = find_extension(self.extensions, SHARD)
        return None if block is None else Shard.unpack(block)


def segment_checksum(data: bytes) -> bytes:
    """The XXH3-64 of a segment's bytes, little-endian."""
    return xxhash.xxh3_64_intdigest(data).to_bytes(8, "little")


def archive_header(identity: bytes) -> bytes:
    """The bytes that an archive begins with."""
    return ARCHIVE_MAGIC + identity


def check_count(images: int) -> None:
    """Raise NvaeCodecError for more images than an archive has."""
    if images > MOST_IMAGES:
        raise NvaeCodecError(f"{images:,} images: an archive has at most {MOST_IMAGES:,}")


def pack_index(index: Index) -> bytes:
    """The index and what follows it, to the end of the file. Raises NvaeCodecError for too many images."""
    entries = [entry for segment in index.segments for entry in segment.entries]
    check_count(len(entries))
    plain = bytearray(pack_varint(len(index.segments)))
    for segment in index.segments:
        plain += pack_varint(segment.length) + pack_varint(len(segment.entries)) + segment.checksum
    before = ""
    for entry in entries:
        name = b"" if before and next_name(before) == entry.name else entry.name.encode()
        plain += pack_varint(len(name)) + name
        before = entry.name
    plain += bytes(pack_kind(entry.kind, entry.colour, entry.metadata) for entry in entries)
    for sides in ([entry.width for entry in entries], [entry.height for entry in entries]):
        plain += b"".join(map(pack_varint, sides))
    plain += pack_extensions(index.extensions)
    stream = zlib.compress(bytes(plain), 9)
    length = len(stream).to_bytes(8, "little")
    return stream + length + segment_checksum(archive_header(index.identity) + stream + length)


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so is an archive."""
    return head[:4] == ARCHIVE_MAGIC


def read_index(file: BinaryIO) -> Index:
    """The index of an archive, its checksum first. Raises DamagedFileError."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = file.read(HEADER_BYTES)
    if header[:2] == MAGIC and len(header) > 2 and header[2] != VERSION:
        raise DamagedFileError(f"a file of format version {header[2]}; this nvae-codec reads version {VERSION}")
    if not is_archive(header):
        lone = ": nvae-codec decompress restores it" if header[:2] == MAGIC and len(header) > 3 else ""
        raise DamagedFileError(f"{'one image, ' if lone else ''}not an archive{lone}")
    if size < HEADER_BYTES + TRAILER_BYTES:
        raise DamagedFileError("truncated archive")
    file.seek(size - TRAILER_BYTES)
    trailer = file.read(TRAILER_BYTES)
    length = int.from_bytes(trailer[:8], "little")
    start = size - TRAILER_BYTES - length
    if start < HEADER_BYTES:
        raise DamagedFileError("damaged or truncated: its index is not at its end")
    file.seek(start)
    stream = file.read(length)
    if segment_checksum(header + stream + trailer[:8]) != trailer[8:]:
        raise DamagedFileError("damaged or truncated: the checksum of its index is wrong")
    segments, extensions = _unpack_plain(inflate(stream, LARGEST_INDEX, "index"), start)
    index = Index(header[len(ARCHIVE_MAGIC) :], segments, extensions)
    _ = index.shard  # refused here, before anything is read
    return index


def _unpack_plain(plain: bytes, end: int) -> tuple[tuple[Segment, ...], Extensions]:
    """The segments, which fill the file from the header to ``end``, and the extension blocks."""
    reader = ByteReader(plain, 0, len(plain))
    rows = [
        (reader.varint(1, LARGEST), reader.varint(1, reader.left), reader.take(8))
        for _ in range(reader.varint(0, reader.left))
    ]
    count = sum(row[1] for row in rows)
    names = _read_names(reader, count)
    bytes_of_kinds = reader.take(count)
    known = {byte: read_kind(byte) for byte in set(bytes_of_kinds)}
    if any(kind is Kind.PNG and metadata for kind, _, metadata in known.values()):
        raise DamagedFileError("damaged: a PNG file keeps its metadata itself")
    kinds = [known[byte] for byte in bytes_of_kinds]
    widths = [reader.varint(1, LARGEST_SIDE) for _ in range(count)]
    heights = [reader.varint(1, LARGEST_SIDE) for _ in range(count)]
    extensions = read_extensions(reader) if reader.left else ()
    if reader.left:
        raise DamagedFileError("damaged: its index is too long")
    entries = [
        Entry(name, kind, colour, width, height, metadata)
        for name, (kind, colour, metadata), width, height in zip(names, kinds, widths, heights, strict=True)
    ]
    segments, start, first = [], HEADER_BYTES, 0
    for length, images, checksum in rows:
        segments.append(Segment(start, length, checksum, tuple(entries[first : first + images])))
        start, first = start + length, first + images
    if start != end:
        raise DamagedFileError("damaged: its segments do not fill it")
    return tuple(segments), extensions


def _read_names(reader: ByteReader, count: int) -> Sequence[str]:
    if count > min(reader.left, MOST_IMAGES):
        raise DamagedFileError("damaged: its index does not hold so many images")
    names: list[str] = []
    known = Names()
    for _ in range(count):
        length = reader.varint(0, reader.left)
        if not length and not names:
            raise DamagedFileError("damaged: its first image has no name")
        try:
            name = reader.take(length).decode() if length else next_name(names[-1])
        except UnicodeDecodeError as error:
            raise DamagedFileError("damaged: a name is no text") from error
        if problem := known.add(name):
            raise DamagedFileError(f"refused: the name {name!r} in it {problem}")
        names.append(name)
    return names
