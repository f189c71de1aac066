"""Lossless WebP as a classical method: 8-bit pixels to the bare VP8L stream and back."""

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.limits import check_file_bytes
from nvae_codec.images.raster import Colour, colour_of

LARGEST_SIDE = 16383  # what VP8L's 14 bits hold
SMALL_IMAGE = 1_600  # pixels up to which the best effort costs little: 10 ms
MEDIUM = (5, 90)  # within 2 % of the best, at 0.6 megapixels a second
BEST = (6, 100)  # method and quality (effort): the smallest files that libwebp makes, at 0.06 megapixels a second


def choose_effort(pixels: int) -> tuple[int, int]:
    """That for an image of so many pixels."""
    return BEST if pixels <= SMALL_IMAGE else MEDIUM


def encode_webp(pixels: NDArray[np.uint8], effort: tuple[int, int] | None = None) -> bytes:
    """Code (H, W) gray or (H, W, C) pixels, C 2 to 4, into a VP8L stream, without the 20 bytes of RIFF around it.

    A palette's places go as gray: WebP has a palette of its own for so few values.

    Raises UnsupportedImageError where a side is longer than 16383 or libwebp did not give the same pixels back.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > LARGEST_SIDE:
        raise UnsupportedImageError(f"WebP takes at most {LARGEST_SIDE} pixels a side, not {width}x{height}")
    method, quality = effort or choose_effort(height * width)
    image = Image.fromarray(pixels)
    if pixels.ndim == 2 or pixels.shape[2] == 2:
        image = image.convert("RGB" if pixels.ndim == 2 else "RGBA")
    buffer = io.BytesIO()
    try:
        image.save(buffer, "WEBP", lossless=True, exact=True, method=method, quality=quality)
    except (OSError, ValueError) as error:  # so Pillow reports that libwebp found too little memory, among others
        raise UnsupportedImageError(f"libwebp cannot code it: {error}") from error
    data = buffer.getvalue()
    length = int.from_bytes(data[16:20], "little")
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or length > len(data) - 20:
        raise UnsupportedImageError("this build of libwebp wrote something else than a plain lossless file")
    stream = data[20 : 20 + length]
    check_file_bytes(length, 4 * height * width, "WebP")
    if not np.array_equal(decode_webp(stream, width, height, colour_of(pixels)), pixels):
        raise UnsupportedImageError("this build of libwebp did not keep every pixel")
    return stream


def decode_webp(stream: bytes, width: int, height: int, colour: Colour) -> NDArray[np.uint8]:
    """Decode a VP8L stream to 8-bit pixels of the colour: (H, W) or (H, W, C).

    Raises DamagedFileError, and UnsupportedImageError for fewer bytes than such an image takes.
    """
    if _size_of(stream) != (width, height):
        raise DamagedFileError("damaged: its WebP image has another size")
    check_file_bytes(len(stream), 4 * height * width, "WebP")
    padded = stream + b"\0" * (len(stream) % 2)
    riff = b"RIFF" + struct.pack("<I", 12 + len(padded)) + b"WEBPVP8L" + struct.pack("<I", len(stream)) + padded
    try:
        with Image.open(io.BytesIO(riff), formats=("WEBP",)) as image:
            # Opaque images come back without their alpha, and gray ones were coded as RGB with equal channels.
            pixels = np.array(image.convert("RGBA" if "alpha" in colour.mode or colour.mode == "RGBA" else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedFileError("damaged: its WebP image cannot be decoded") from error
    if colour.channels == 1:
        return np.ascontiguousarray(pixels[:, :, 0])
    if colour.mode == "gray+alpha":
        return np.ascontiguousarray(pixels[:, :, [0, 3]])
    return pixels


def _size_of(stream: bytes) -> tuple[int, int]:
    """Width and height as a VP8L stream says them (14 bits each, less one): libwebp takes memory for that at once."""
    sides = int.from_bytes(stream[1:5], "little")
    return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
