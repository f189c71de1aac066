"""Arrays of 8 or 16 bits a sample as images, and images as arrays: what Python gives and takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.images.limits import check_size
from nvae_codec.images.raster import PIXEL_COLOURS, RasterImage, find_colour
from nvae_codec.images.read import read_image, read_pixels
from nvae_codec.images.write import write_png

Samples = NDArray[Any]
"""uint8 or uint16."""


def image_of(samples: Any, channels: tuple[int, ...] = (1, 2, 3, 4)) -> RasterImage:
    """A image of samples, uint8 or uint16: (H, W) of one channel, gray, or (H, W, C): gray and alpha, RGB, RGBA.

    Raises TypeError and ValueError for other arrays, and for as many channels as are not in ``channels``;
    UnsupportedImageError for more pixels than the limit.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        kind = getattr(samples, "dtype", type(samples).__name__)
        raise TypeError(f"pixels must be an array of uint8 or uint16, not {kind}")
    count = samples.shape[2] if samples.ndim == 3 else 1
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and count == 1) or count not in channels or not samples.size:
        more = " or ".join(f"(height, width, {each})" if each > 1 else "(height, width)" for each in channels)
        raise ValueError(f"pixels must have the shape {more}, not {samples.shape}")
    check_size(samples.shape[1], samples.shape[0])
    if samples.dtype == np.uint8:
        return RasterImage.from_pixels(np.ascontiguousarray(samples))
    colour = find_colour(PIXEL_COLOURS[count].mode, 16)
    height, width = samples.shape[:2]
    high, low = (samples >> 8).astype(np.uint8), (samples & 255).astype(np.uint8)
    image = RasterImage(width, height, colour, high, low=low)
    return replace(image, png=write_png(image))  # without a model, 16 bits are kept as a PNG


def samples_of(image: RasterImage, for_what: str) -> Samples:
    """A image's samples, as ``image_of`` takes them, that can be changed; of 1 bit, uint8 0 and 1.

    Raises UnsupportedImageError for palettes and for 2 and 4 bits.
    """
    if image.colour.bits != 16:
        return np.require(read_pixels(image, for_what), requirements="W")
    if image.pixels is None and image.png is not None:
        image = read_image(image.png)
    if image.pixels is None or image.low is None:
        return image.require_pixels(for_what)  # which says why there are none
    return image.pixels.astype(np.uint16) << 8 | image.low
