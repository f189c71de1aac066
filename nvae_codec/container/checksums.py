"""The two checksums of a file: of its content and of its bytes."""

import struct

import xxhash

from nvae_codec.images.raster import COLOURS, RasterImage

FILE_CHECKSUM_BYTES = 4


def content_checksum(image: RasterImage, file: bytes | None = None) -> bytes:
    """The 8 bytes that verify a decoded image: XXH3-64 of its size, its colour and its pixels.

    The hash covers width and height (4 bytes each), the colour's number (1 byte) and the pixels in rows from the top
    (for 16 bits, all high bytes, then all low ones). If the image is kept as its own ``file`` or has no pixels, the
    file replaces the pixels. All integers are little-endian.
    """
    content = xxhash.xxh3_64(struct.pack("<IIB", image.width, image.height, COLOURS.index(image.colour)))
    if file is not None or image.pixels is None:
        content.update(file or image.file or b"")
    else:
        content.update(image.pixels.tobytes())
        content.update(image.low.tobytes() if image.low is not None else b"")
    return content.intdigest().to_bytes(8, "little")


def bytes_checksum(data: bytes | memoryview) -> bytes:
    """The low 4 bytes of the XXH3-64 of these bytes, little-endian."""
    return (xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF).to_bytes(FILE_CHECKSUM_BYTES, "little")
