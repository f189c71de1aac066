"""How an image is kept: by the method asked for, or by the one that takes least, without paying for those that lose.

candidates ──> the smallest ──> finalized as a file, once
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterable, Iterator
from typing import Protocol

from nvae_codec.coding.coded import Coded
from nvae_codec.container.extensions import Extensions
from nvae_codec.container.header import ID_BYTES, Kind, model_kind
from nvae_codec.container.image import Candidate, describe
from nvae_codec.container.limits import pixel_limit
from nvae_codec.container.planes import pack_planes
from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.webp import BEST, MEDIUM, SMALL_IMAGE, encode_webp
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
    if only := needs_png(image, method):
        return only.finalize(image, ())
    metadata = describe(image)
    candidates = _all_candidates(image, metadata, codecs) if method == "auto" else [code(image, method, codecs)]
    return _smallest(image, metadata, candidates).finalize(image, metadata)


def needs_png(image: RasterImage, method: str) -> Candidate | None:
    """The PNG file of an image that is to be kept as one, or whose metadata is too much for other methods."""
    if image.png is None or method not in ("auto", "stored"):
        return None
    if method == "auto":
        with contextlib.suppress(UnsupportedImageError):
            describe(image)
            return None
    return code_png(image)


def code(image: RasterImage, method: str, codecs: ChosenCodec) -> Candidate:
    """What a method other than ``auto`` makes of an image that does not need its PNG; raises as ``write_file`` does."""
    match method:
        case "model":
            codecs.input().take(image)  # refused before a model is loaded
            return code_model(image, codecs.chosen())
        case "webp":
            return code_webp(image)
        case "stored":
            return code_pixels(image)
    raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")


def code_model(image: RasterImage, codec: ImageCodec) -> Candidate:
    """An image through a model; raises UnsupportedImageError for one that it does not take."""
    shown, levels = codec.input.take(image)
    coded = codec.encode([levels])
    if image.width * image.height > pixel_limit(len(coded.payload)):
        raise UnsupportedImageError("the model takes too few bytes for so many pixels; --method auto keeps it")
    return Candidate(model_kind(shown), coded, pack_planes(image), codec.identity[:ID_BYTES])


def code_webp(image: RasterImage, effort: tuple[int, int] = BEST) -> Candidate:
    """Pixels of at most 8 bits as lossless WebP; raises UnsupportedImageError where WebP cannot hold them."""
    return Candidate(Kind.WEBP, Coded(encode_webp(image.require_bytes("WebP"), effort), method="webp"))


def code_pixels(image: RasterImage) -> Candidate:
    """Pixels of at most 8 bits as they are: for images so small, or so noisy, that nothing gains."""
    return Candidate(Kind.PIXELS, Coded(image.require_bytes("this method").tobytes(), method="stored"))


def code_png(image: RasterImage) -> Candidate:
    """An image that came as a PNG, as that file, byte for byte."""
    if image.png is None:
        raise UnsupportedImageError("only a PNG is kept as a file")
    return Candidate(Kind.PNG, Coded(image.png, method="stored"))


def choose_without_model(image: RasterImage, to_beat: float = math.inf) -> Candidate:
    """The smallest candidate that needs no model, giving up on WebP where it cannot be below ``to_beat`` bytes."""
    metadata = describe(image)
    best = _smallest(image, metadata, _stored_candidates(image))
    size = best.size(image, metadata)
    if not image.has_bytes:
        return best
    return _smallest(image, metadata, [best, *_webp_candidates(image, metadata, min(to_beat, size), always=0)])


def _all_candidates(image: RasterImage, metadata: Extensions, codecs: ChosenCodec) -> Iterator[Candidate]:
    """All that may be the smallest, one after another."""
    sizes = []
    for candidate in _stored_candidates(image):
        sizes.append(candidate.size(image, metadata))
        yield candidate
    if image.pixels is None:
        return
    if codecs.input().takes(image):
        with contextlib.suppress(UnsupportedImageError):  # too few bytes
            candidate = code_model(image, codecs.chosen())
            sizes.append(candidate.size(image, metadata))
            yield candidate
        _return_free_memory()
    if image.has_bytes:
        yield from _webp_candidates(image, metadata, min(sizes))


def _stored_candidates(image: RasterImage) -> Iterator[Candidate]:
    if image.png is not None:
        yield code_png(image)
    if image.png is None or image.has_bytes:
        yield code_pixels(image)


def _webp_candidates(
    image: RasterImage, metadata: Extensions, to_beat: float, always: int = SMALL_IMAGE
) -> Iterator[Candidate]:
    """WebP with growing effort while the next may be below ``to_beat`` bytes; up to ``always`` pixels the best one.

    None where the image is too wide for WebP, or too large for its memory.
    """
    smallest = math.inf
    with contextlib.suppress(UnsupportedImageError):
        if image.width * image.height > always:
            for effort in (FAST, MEDIUM):
                candidate = code_webp(image, effort)
                smallest = min(smallest, candidate.size(image, metadata))
                yield candidate
                photo = image.colour.is_8_bit and 8 * smallest > GRAPHICS_BITS_PER_DIM * image.dims
                margin = PHOTO_MARGIN if photo else GRAPHICS_MARGINS[effort]
                if smallest > to_beat * margin or (photo and effort == MEDIUM):
                    return
        yield code_webp(image)


def _smallest(image: RasterImage, metadata: Extensions, candidates: Iterable[Candidate]) -> Candidate:
    """The smallest candidate, of equal ones the first. Only it is kept: those of a large image are large, too."""
    best, least = None, math.inf
    for candidate in candidates:
        if (size := candidate.size(image, metadata)) < least:
            best, least = candidate, size
    assert best is not None, "every image has a candidate"
    return best


def _return_free_memory() -> None:
    """Give back what the network's evaluation left unused in glibc's heap: 400 MB, which WebP needs elsewhere."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
