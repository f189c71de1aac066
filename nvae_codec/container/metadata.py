"""The metadata block: what an image's file held beside its pixels, as PNG chunks, compressed together.

    ┌ type, 4 letters ┬ length, varint ┬ data ┐ ... the same for every chunk, in the file's order, all in one zlib
    └─────────────────┴────────────────┴──────┘     stream; an empty IDAT stands for the pixels

The block is that stream and its checksum. It is there only if there is metadata. In an archive, the metadata of a
segment's images are one stream, each behind its length (varint).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.fields import ByteReader, pack_sized
from nvae_codec.container.inflate import inflate
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import Chunk

LARGEST_METADATA = 1 << 27  # bytes once inflated

_NOT_METADATA = frozenset((b"IHDR", b"IEND"))


def pack_metadata(chunks: Sequence[Chunk]) -> bytes:
    """The block that holds these chunks."""
    stream = zlib.compress(_join_chunks(chunks), 9)
    return stream + bytes_checksum(stream)


def pack_shared_metadata(images: Sequence[Sequence[Chunk]]) -> bytes:
    """One stream with the chunks of several images."""
    blocks = [_join_chunks(chunks) for chunks in images]
    return zlib.compress(b"".join(pack_sized(block) for block in blocks), 9)


def _join_chunks(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.type + pack_sized(chunk.data) for chunk in chunks)


def unpack_metadata(block: bytes) -> tuple[Chunk, ...]:
    """The chunks of a block; raises DamagedFileError for anything that ``pack_metadata`` does not write."""
    stream, checksum = block[:-FILE_CHECKSUM_BYTES], block[-FILE_CHECKSUM_BYTES:]
    if bytes_checksum(stream) != checksum:
        raise DamagedFileError("damaged: the checksum of its metadata is wrong")
    return _split_chunks(inflate(stream, LARGEST_METADATA, "metadata"))


def unpack_shared_metadata(stream: bytes, count: int) -> list[tuple[Chunk, ...]]:
    """The chunks of ``count`` images; raises DamagedFileError."""
    plain = inflate(stream, LARGEST_METADATA, "metadata")
    reader = ByteReader(plain)
    images = [_split_chunks(reader.sized(1)) for _ in range(count)]
    if reader.left:
        raise DamagedFileError("damaged: its metadata is too long or cut off")
    return images


def _split_chunks(plain: bytes) -> tuple[Chunk, ...]:
    chunks = []
    reader = ByteReader(plain)
    while reader.left:
        kind = reader.take(4)
        chunks.append(Chunk(kind, reader.sized()))
        if not (kind.isalpha() and kind.isascii()) or kind in _NOT_METADATA:
            raise DamagedFileError("damaged: its metadata holds a chunk that is none")
    if [chunk for chunk in chunks if chunk.type == b"IDAT"] != [IDAT_PLACE]:
        raise DamagedFileError("damaged: its metadata does not say where the pixels stand")
    return tuple(chunks)
