"""The metadata block: everything in an image's file except its pixels, as PNG chunks, compressed together.

    ┌ type, 4 letters ┬ length, varint ┬ data ┐ ... the same for every chunk, in the file's order, all in one zlib
    └─────────────────┴────────────────┴──────┘     stream; an empty IDAT stands for the pixels

The block is that stream and its checksum. It is there only if there is metadata. In an archive, the metadata of a
segment's images are one stream, each after its length (varint).
"""

import zlib
from collections.abc import Sequence

from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.fields import ByteReader, pack_sized
from nvae_codec.container.limits import count_limit, inflate, inflated_limit
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import Chunk

LARGEST_METADATA = 1 << 27  # bytes once inflated

_NOT_METADATA = frozenset((b"IHDR", b"IEND"))


def pack_metadata(chunks: Sequence[Chunk]) -> bytes:
    """The block that holds these chunks. Raises UnsupportedImageError where they are beyond a reader's limits."""
    plain = _join_chunks(chunks)
    stream = zlib.compress(plain, 9)
    if len(chunks) > count_limit(0) or len(plain) > metadata_limit(len(stream)):
        raise UnsupportedImageError(f"its metadata is too much: {len(chunks):,} chunks, {len(plain):,} bytes")
    return stream + bytes_checksum(stream)


def pack_shared_metadata(images: Sequence[Sequence[Chunk]]) -> bytes:
    """One stream with the chunks of several images, each of which ``pack_metadata`` takes."""
    return zlib.compress(b"".join(pack_sized(_join_chunks(chunks)) for chunks in images), 9)


def metadata_limit(room: int) -> int:
    """How many bytes the metadata in a file or segment of ``room`` bytes may inflate to."""
    return min(LARGEST_METADATA, inflated_limit(room))


def _join_chunks(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.type + pack_sized(chunk.data) for chunk in chunks)


def unpack_metadata(block: bytes) -> tuple[Chunk, ...]:
    """The chunks of a block; raises DamagedFileError for anything that ``pack_metadata`` does not write."""
    stream, checksum = block[:-FILE_CHECKSUM_BYTES], block[-FILE_CHECKSUM_BYTES:]
    if bytes_checksum(stream) != checksum:
        raise DamagedFileError("damaged: the checksum of its metadata is wrong")
    plain = inflate(stream, metadata_limit(len(stream)), "metadata")
    return _split_chunks(plain, count_limit(0))


def unpack_shared_metadata(stream: bytes, count: int, room: int) -> list[tuple[Chunk, ...]]:
    """The chunks of ``count`` images in a segment of ``room`` bytes; raises DamagedFileError."""
    reader = ByteReader(inflate(stream, metadata_limit(room), "metadata"))
    images: list[tuple[Chunk, ...]] = []
    most = count_limit(room)
    for _ in range(count):
        images.append(_split_chunks(reader.sized(1), most))
        most -= len(images[-1])
    if reader.left:
        raise DamagedFileError("damaged: its metadata is too long or cut off")
    return images


def _split_chunks(plain: bytes, most: int) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    reader = ByteReader(plain)
    while reader.left:
        if len(chunks) == most:
            raise DamagedFileError("damaged: its metadata has too many chunks")
        kind = reader.take(4)
        chunks.append(Chunk(kind, reader.sized()))
        if not (kind.isalpha() and kind.isascii()) or kind in _NOT_METADATA:
            raise DamagedFileError("damaged: its metadata has an impossible chunk")
    if [chunk for chunk in chunks if chunk.type == b"IDAT"] != [IDAT_PLACE]:
        raise DamagedFileError("damaged: its metadata does not say where the pixels stand")
    return tuple(chunks)
