"""An archive's header, and the index at its end: which segments there are, and which images are in them.

    magic d6 4e ┬ version ┬ kind ┬ identity of the model, 32 │ segments │ index, one zlib stream ┬ length, 8 ┬ XXH3, 8

The checksum at the end covers header, index and length; those of the segments are in the index. ``docs/format.md``
describes every byte.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import xxhash

from nvae_codec.container.archive.names import LONGEST_NAME, name_problems, next_name
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
    ByteReader,
    Field,
    fixed,
    pack_fields,
    pack_sized,
    pack_varint,
    read_fields,
    varint,
)
from nvae_codec.container.header import ARCHIVE, MAGIC, SIDE, VERSION, Kind, check_version, pack_kind, read_kind
from nvae_codec.container.limits import FREE_BYTES, count_limit, inflate, inflated_limit
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.raster import Colour

ARCHIVE_MAGIC = MAGIC + bytes((VERSION, ARCHIVE))
HEADER_BYTES = len(ARCHIVE_MAGIC) + 32
TRAILER_BYTES = 16
LARGEST_INDEX = 1 << 28  # bytes once inflated
MOST_IMAGES = 1 << 22


class Entry(NamedTuple):
    """An image of an archive, as its index describes it."""

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

    @property
    def images(self) -> int:
        """How many images it has."""
        return len(self.entries)


@dataclass(frozen=True)
class Shard:
    """Which part of a whole archive this one is: ``number`` from 1 to ``count``.

    ``whole``, 8 bytes, is the same in all shards of one archive, and differs between archives (container/shards.py).
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
    """What an archive holds: its model's identity, 32 bytes, its segments in their order, and extension blocks."""

    identity: bytes
    segments: tuple[Segment, ...]
    extensions: Extensions = ()

    @property
    def shard(self) -> Shard | None:
        """Which part of a whole archive this one is, if it is one. Raises DamagedFileError."""
        block = find_extension(self.extensions, SHARD)
        return None if block is None else Shard.unpack(block)


class Column(NamedTuple):
    """How one field of all images is written to an index and read back; ``read`` raises DamagedFileError."""

    pack: Callable[[Sequence[Entry]], bytes]
    read: Callable[[ByteReader, int], Sequence[Any]]


def pack_names(entries: Sequence[Entry]) -> bytes:
    """Each name after its length; a length of 0 stands for the name that follows the one before (``next_name``)."""
    out, before, left = bytearray(), "", implied_limit(len(entries))
    for entry in entries:
        implied = bool(before) and next_name(before) == entry.name and len(entry.name) <= left
        left -= len(entry.name) if implied else 0
        out += pack_sized(b"" if implied else entry.name.encode())
        before = entry.name
    return bytes(out)


def read_names(reader: ByteReader, count: int) -> Sequence[str]:
    """The names of so many images. Raises DamagedFileError also for names that an archive cannot have."""
    names: list[str] = []
    left = implied_limit(count)
    for _ in range(count):
        encoded = reader.sized()
        if not encoded and not names:
            raise DamagedFileError("damaged: its first image has no name")
        try:
            names.append(encoded.decode() if encoded else next_name(names[-1]))
        except UnicodeDecodeError as error:
            raise DamagedFileError("damaged: a name is no text") from error
        left -= 0 if encoded else len(names[-1])
        if left < 0:
            raise DamagedFileError("damaged: its names are too long")
    for index, problem in name_problems(names).items():
        raise DamagedFileError(f"refused: the name {names[index]!r} in it {problem}")
    return names


def implied_limit(count: int) -> int:
    """How many characters the names that follow from others may have, of so many images."""
    return FREE_BYTES + count * LONGEST_NAME // 4


def read_kinds(reader: ByteReader, count: int) -> Sequence[tuple[Kind, Colour, bool]]:
    """A byte of each image: kind, colour, and whether it has metadata. Raises DamagedFileError."""
    column = reader.take(count)
    known = {byte: read_kind(byte) for byte in set(column)}
    if any(kind is Kind.FILE and metadata for kind, _, metadata in known.values()):
        raise DamagedFileError("damaged: an own file keeps its metadata itself")
    return [known[byte] for byte in column]


def column_of(field: Field, name: str) -> Column:
    """The column of a field that is an attribute of each entry."""
    return Column(
        lambda entries: b"".join(field.pack(getattr(entry, name)) for entry in entries),
        lambda reader, count: [field.read(reader) for _ in range(count)],
    )


SEGMENT: Mapping[str, Field] = {"length": varint(1), "images": varint(1), "checksum": fixed(8)}
"""The fields of each segment in the index."""
COLUMNS = (
    Column(pack_names, read_names),
    Column(lambda entries: bytes(pack_kind(each.kind, each.colour, each.metadata) for each in entries), read_kinds),
    column_of(SIDE, "width"),
    column_of(SIDE, "height"),
)
"""The fields of all images, which follow: column by column, they deflate to less."""
SHARD_FIELDS: Mapping[str, Field] = {"number": varint(1), "count": varint(1), "whole": fixed(8)}


def segment_checksum(data: bytes) -> bytes:
    """The XXH3-64 of a segment's bytes, little-endian."""
    return xxhash.xxh3_64_intdigest(data).to_bytes(8, "little")


def archive_header(identity: bytes) -> bytes:
    """The bytes that an archive begins with."""
    return ARCHIVE_MAGIC + identity


def check_count(images: int) -> None:
    """Raise NvaeCodecError for more images than an archive may have."""
    if images > MOST_IMAGES:
        raise NvaeCodecError(f"{images:,} images: an archive has at most {MOST_IMAGES:,}")


def pack_index(index: Index) -> bytes:
    """The index and what follows it, to the end of the file. Raises NvaeCodecError for too many images."""
    entries = [entry for segment in index.segments for entry in segment.entries]
    check_count(len(entries))
    plain = pack_varint(len(index.segments))
    plain += b"".join(pack_fields(SEGMENT, segment) for segment in index.segments)
    plain += b"".join(column.pack(entries) for column in COLUMNS) + pack_extensions(index.extensions)
    stream = zlib.compress(plain, 9)
    room = HEADER_BYTES + sum(segment.length for segment in index.segments) + len(stream) + TRAILER_BYTES
    if len(entries) > count_limit(room) or len(plain) > min(LARGEST_INDEX, inflated_limit(room)):
        raise NvaeCodecError(f"{len(entries):,} images and their names are too many for an archive of {room:,} bytes")
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
    if header[:2] == MAGIC and len(header) > 2:
        check_version(header[2])
    if not is_archive(header):
        single = ": nvae-codec decompress restores it" if header[:2] == MAGIC and len(header) > 3 else ""
        raise DamagedFileError(f"{'one image, ' if single else ''}not an archive{single}")
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
    plain = inflate(stream, min(LARGEST_INDEX, inflated_limit(size)), "index")
    index = Index(header[len(ARCHIVE_MAGIC) :], *_unpack_plain(plain, start, min(MOST_IMAGES, count_limit(size))))
    _ = index.shard  # an impossible one is refused here, before anything is decoded
    return index


def _unpack_plain(plain: bytes, end: int, most: int) -> tuple[tuple[Segment, ...], Extensions]:
    """The segments, which fill the file from the header to ``end``, and the extension blocks.

    There are at most ``most`` segments, and images.
    """
    reader = ByteReader(plain)
    rows = [read_fields(SEGMENT, reader) for _ in range(reader.varint(0, min(most, reader.left)))]
    count = sum(row["images"] for row in rows)
    if count > min(most, reader.left):
        raise DamagedFileError("damaged: its index does not hold so many images")
    names, kinds, widths, heights = (column.read(reader, count) for column in COLUMNS)
    extensions = read_extensions(reader) if reader.left else ()
    if reader.left:
        raise DamagedFileError("damaged: its index is too long")
    entries = [
        Entry(name, kind, colour, width, height, metadata)
        for name, (kind, colour, metadata), width, height in zip(names, kinds, widths, heights, strict=True)
    ]
    segments, start, first = [], HEADER_BYTES, 0
    for row in rows:
        length, images = row["length"], row["images"]
        segments.append(Segment(start, length, row["checksum"], tuple(entries[first : first + images])))
        start, first = start + length, first + images
    if start != end:
        raise DamagedFileError("damaged: its segments do not fill it")
    return tuple(segments), extensions
