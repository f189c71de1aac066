"""Arrays of 8 or 16 bits a sample as images, and images as arrays: what Python gives and takes."""

from typing import Any

import numpy as np

from nvae_codec.images.layout import Samples, make_image
from nvae_codec.images.limits import check_size
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.read import read_image, read_pixels


def image_of(samples: Any, channels: tuple[int, ...] = (1, 2, 3, 4)) -> RasterImage:
    """An image of samples, uint8 or uint16: (H, W) of one channel, gray, or (H, W, C): gray and alpha, RGB, RGBA.

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
    return make_image(samples, 16)


def samples_of(image: RasterImage, for_what: str) -> Samples:
    """An image's samples, as ``image_of`` takes them, that can be changed; of 1 bit, uint8 0 and 1.

    Raises UnsupportedImageError for palettes and for 2 and 4 bits.
    """
    if image.colour.bits != 16:
        return np.require(read_pixels(image, for_what), requirements="W")
    if image.pixels is None and image.file is not None:
        image = read_image(image.file, pixels_alone=True)
    if image.pixels is None or image.low is None:
        return image.require_pixels(for_what)  # which says why there are none
    return image.pixels.astype(np.uint16) << 8 | image.low
