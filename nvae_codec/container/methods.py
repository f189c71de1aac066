"""Which way an image is kept: the method that was asked for, or the smallest of all, without paying for losers."""

from __future__ import annotations

import contextlib
import ctypes
import math
from typing import Protocol

from nvae_codec.container.image import write_model_file, write_pixels_file, write_png_file, write_webp_file
from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.webp import MEDIUM, SMALL_IMAGE
from nvae_codec.zoo.library import ImageCodec

METHODS = ("auto", "model", "webp", "stored")

# WebP's best effort takes about 20 seconds a megapixel. Below this many pixels it is always tried; above, quick efforts
# go first, at 0.3 and 0.9 seconds a megapixel. Photographs end there: the second was within 1.1 % of the best on four
# of five, within 1.7 % on all. On graphics and palettes (dithered photographs: 7 %) the best follows where it may win.
FAST = (2, 60)

# How much smaller than a quick effort a greater one may be, less the 1 % that a file may be larger than the smallest.
# Measured: photographs, fast at most 1.089 times the best; graphics, fast 1.47 and medium 1.15.
GRAPHICS_BITS_PER_DIM = 1.5
PHOTO_MARGIN = 1.09
GRAPHICS_MARGINS = {FAST: 1.5, MEDIUM: 1.16}


class ChosenCodec(Protocol):
    """Where a writer gets its codec, if it needs one."""

    def chosen(self) -> ImageCodec:
        """The codec to compress with."""
        ...

    def input(self) -> ModelInput:
        """What that codec takes, known without loading it."""
        ...


def write_file(image: RasterImage, method: str, codecs: ChosenCodec) -> bytes:
    """The .nvae file of an image by one of ``METHODS``.

    ``model`` takes what its model was made for, ``webp`` all that comes as 8-bit pixels, ``stored`` everything: a PNG
    as its own bytes, other images as their pixels. ``auto`` takes the smallest of those that the image allows.
    Raises UnsupportedImageError where the method does not take the image, and what loading a model raises.
    """
    match method:
        case "auto":
            return _write_smallest(image, codecs)
        case "model":
            codecs.input().take(image)
            return write_model_file(image, codecs.chosen())
        case "webp":
            return write_webp_file(image)
        case "stored":
            return write_png_file(image) if image.png is not None else write_pixels_file(image)
    raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")


def write_without_model(image: RasterImage, to_beat: float = math.inf) -> bytes:
    """The smallest file that needs no model, giving up on WebP where it cannot be below ``to_beat`` bytes."""
    best = _write_stored(image)
    if image.has_bytes:
        with contextlib.suppress(UnsupportedImageError):
            best = _try_webp(image, best, min(to_beat, len(best)), always=0)
    return best


def _write_stored(image: RasterImage) -> bytes:
    best = write_png_file(image) if image.png is not None else None
    if best is None or (image.has_bytes and image.dims < len(best)):
        best = _smaller(best, write_pixels_file(image))
    return best


def _write_smallest(image: RasterImage, codecs: ChosenCodec) -> bytes:
    """The smallest file. Only the best so far is kept: a large image's files are large, too."""
    best = _write_stored(image)
    if image.pixels is None:
        return best
    if codecs.input().takes(image):
        best = _smaller(best, write_model_file(image, codecs.chosen()))
        _return_free_memory()
    with contextlib.suppress(UnsupportedImageError):  # too wide for WebP, or too much for its memory
        best = _try_webp(image, best, len(best))
    return best


def _try_webp(image: RasterImage, best: bytes, to_beat: float, always: int = SMALL_IMAGE) -> bytes:
    """The best file and WebP's, with growing effort for as long as the next may still be the smallest.

    Up to ``always`` pixels its best effort is always made.
    """
    smallest = None
    if image.width * image.height > always:
        for effort in (FAST, MEDIUM):
            file = write_webp_file(image, effort)
            best = _smaller(best, file)
            smallest = min(smallest or len(file), len(file))
            photo = image.colour.is_8_bit and 8 * smallest > GRAPHICS_BITS_PER_DIM * image.dims
            if smallest > to_beat * (PHOTO_MARGIN if photo else GRAPHICS_MARGINS[effort]):
                return best
            if photo and effort == MEDIUM:
                return best
            del file
    return _smaller(best, write_webp_file(image))


def _return_free_memory() -> None:
    """Give back what the network's evaluation left unused in glibc's heap: 400 MB, which WebP needs elsewhere."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def _smaller(best: bytes | None, other: bytes) -> bytes:
    return other if best is None or len(other) < len(best) else best
