"""The metadata block: what a picture's file held beside its pixels, as PNG chunks, compressed together.

    ┌ type, 4 letters ┬ length, varint ┬ data ┐ ... the same for every chunk, in the file's order, all in one zlib
    └─────────────────┴────────────────┴──────┘     stream; an empty IDAT stands for the pixels

The block is that stream and its checksum. It is there only if there is metadata.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.varints import ByteReader, pack_varint
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.picture import Chunk
from nvae_codec.images.png import IDAT_PLACE

LARGEST_METADATA = 1 << 27  # bytes once inflated

_NOT_METADATA = frozenset((b"IHDR", b"IEND"))


def pack_metadata(chunks: Sequence[Chunk]) -> bytes:
    """The block that holds these chunks."""
    plain = b"".join(chunk.type + pack_varint(len(chunk.data)) + chunk.data for chunk in chunks)
    stream = zlib.compress(plain, 9)
    return stream + bytes_checksum(stream)


def unpack_metadata(block: bytes) -> tuple[Chunk, ...]:
    """The chunks of a block; raises DamagedFileError for anything that ``pack_metadata`` does not write."""
    stream, checksum = block[:-FILE_CHECKSUM_BYTES], block[-FILE_CHECKSUM_BYTES:]
    if bytes_checksum(stream) != checksum:
        raise DamagedFileError("damaged: the checksum of its metadata is wrong")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(stream, LARGEST_METADATA)
    except zlib.error as error:
        raise DamagedFileError("damaged: its metadata cannot be inflated") from error
    if not inflater.eof or inflater.unused_data:
        raise DamagedFileError("damaged: its metadata is too long or cut off")
    chunks = []
    reader = ByteReader(plain, 0, len(plain))
    while reader.left:
        kind = reader.take(4)
        chunks.append(Chunk(kind, reader.take(reader.varint(0, reader.left))))
        if not (kind.isalpha() and kind.isascii()) or kind in _NOT_METADATA:
            raise DamagedFileError("damaged: its metadata holds a chunk that is none")
    if [chunk for chunk in chunks if chunk.type == b"IDAT"] != [IDAT_PLACE]:
        raise DamagedFileError("damaged: its metadata does not say where the pixels stand")
    return tuple(chunks)
