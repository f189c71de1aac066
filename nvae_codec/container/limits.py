"""Limits of a file's demands on its reader: inflated bytes, counts and pixels are in proportion to the file's size.

So a small hostile file costs little. Writers obey the same limits.
"""

import zlib

from nvae_codec.errors import DamagedFileError

FREE_BYTES, BYTES_PER_BYTE = 1 << 24, 64
FREE_COUNT, BYTES_PER_COUNT = 1 << 16, 4
FREE_PIXELS, PIXELS_PER_BYTE = 1 << 18, 1 << 10


def inflated_limit(room: int) -> int:
    """The largest inflated size of the streams in a file of ``room`` bytes."""
    return FREE_BYTES + BYTES_PER_BYTE * room


def count_limit(room: int) -> int:
    """The largest number of images, segments or chunks in a file of ``room`` bytes."""
    return FREE_COUNT + room // BYTES_PER_COUNT


def inflate(stream: bytes, most: int, what: str) -> bytes:
    """The content of a whole zlib stream, at most ``most`` bytes; raises DamagedFileError, which names ``what``."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(stream, most)
    except zlib.error as error:
        raise DamagedFileError(f"damaged: its {what} cannot be inflated") from error
    if not inflater.eof or inflater.unused_data:
        raise DamagedFileError(f"damaged: its {what} is too long or cut off")
    return plain


def pixel_limit(payload: int) -> int:
    """The largest number of pixels that a model may code in a payload of so many bytes.

    Flat images cost least. Measured, in pixels a byte: 20 with ``photo``, 65 blank digits with ``mnist``.
    """
    return FREE_PIXELS + PIXELS_PER_BYTE * payload


def check_pixels(pixels: int, payload: int) -> None:
    """Raise DamagedFileError if there are more pixels than that, before anything is loaded or decoded."""
    if pixels > pixel_limit(payload):
        raise DamagedFileError(f"damaged: {payload:,} bytes are too few for {pixels:,} pixels of a model")
