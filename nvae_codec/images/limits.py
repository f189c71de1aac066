"""What an image may be: arrays of RGB, and no larger than Pillow's limit against decompression bombs."""

from typing import Any

import numpy as np
from PIL import Image

from nvae_codec.errors import UnsupportedImageError


def limit_pixels(most: int | None) -> int | None:
    """Set the limit of this process, which is Pillow's own too, and give the one before; None: no limit."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most
    return before


def check_size(width: int, height: int) -> None:
    """Raise UnsupportedImageError for more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (None there: no limit)."""
    check_pixel_count(width * height, f"{width}x{height}")


def check_pixel_count(count: int, what: str) -> None:
    """Raise UnsupportedImageError, which names ``what``, for more pixels than that limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and count > limit:
        raise UnsupportedImageError(f"{what} is more than the limit of {limit:,} pixels")


def check_file_bytes(size: int, decoded: int, kind: str, free: int = 1 << 26) -> None:
    """Raise UnsupportedImageError, before memory is taken, for a small file that claims to be a very large image.

    size: of the file. decoded: what it decodes to, in bytes. Up to ``free`` bytes any file may claim; beyond, not more
    than zlib's 1024 for each of its own.
    """
    if decoded > free + (size << 10):
        raise UnsupportedImageError(f"{kind} of {size:,} bytes that claims {decoded:,} is not supported")


def check_pixels(pixels: Any, channels: int = 3) -> None:
    """Raise TypeError or ValueError for anything but uint8 of shape (H, W, 3), or (H, W) of 1 channel, and for none."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise TypeError(f"pixels must be an array of uint8, not {getattr(pixels, 'dtype', type(pixels).__name__)}")
    shape = "(height, width)" if channels == 1 else f"(height, width, {channels})"
    if pixels.shape[2:] != ((channels,) if channels > 1 else ()) or pixels.ndim < 2 or 0 in pixels.shape:
        raise ValueError(f"pixels must have the shape {shape}, not {pixels.shape}")
