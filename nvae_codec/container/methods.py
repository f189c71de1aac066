"""The methods: the requested one, or the one with the smallest file, without wasting time on the others.

candidates ──> the smallest ──> finalized as a file, once
"""

import contextlib
import ctypes
import math
from collections.abc import Iterable, Iterator
from typing import Protocol

from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.coding.coded import Coded
from nvae_codec.container.extensions import Extensions
from nvae_codec.container.header import ID_BYTES, Kind, model_kind
from nvae_codec.container.image import Candidate, describe
from nvae_codec.container.limits import pixel_limit
from nvae_codec.container.planes import pack_planes
from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.png import SIGNATURE
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.webp import BEST, MEDIUM, choose_effort, encode_webp
from nvae_codec.images.write import write_png
from nvae_codec.zoo.library import ImageCodec

METHODS = ("auto", "model", "webp", "stored")

# WebP's efforts, as Pillow's method and quality. Photographs end with the first, at 0.35 seconds a megapixel an eighth
# of the model's time: the second gains at most 1.5 % there, and up to 6 % on graphics and palettes. libwebp's best,
# (6, 100), gains 1.5 % more at 20 seconds a megapixel, so it is left to the smallest images.
FAST = (3, 75)
GRAPHICS_BITS_PER_DIM = 1.5
GRAPHICS_MARGIN = 1.15  # how much smaller the second effort may be, with room

# A row of 200,000 pixels takes 20 seconds by the model, whose tiles are padded, and more bytes than PNG.
PADDED_SIDE, MOST_PADDED, MOST_PADDING = 32, 1 << 20, 8

HOPELESS = 0.5
"""A JPEG smaller than this fraction of a fast WebP is not coded by the model, whose files are at most 20 % below
WebP."""


class ChosenCodec(Protocol):
    """Gives a writer its codec, if it needs one."""

    def chosen(self) -> ImageCodec:
        """The codec to compress with."""
        ...

    def input(self) -> ModelInput:
        """The images that the codec takes, known without loading it."""
        ...


def write_file(image: RasterImage, method: str, codecs: ChosenCodec, effort: int = DEFAULT_EFFORT) -> bytes:
    """The .nvae file of an image by one of ``METHODS``.

    ``model`` takes what its model was made for, ``webp`` all that comes as 8-bit pixels, ``stored`` everything: PNG,
    JPEG and WebP as their own bytes, other images as their pixels. ``auto`` takes the smallest of those that the image
    allows. ``effort``, from 1 to 9: how long to adapt a model to the image; other methods have their own. Raises
    UnsupportedImageError where the method does not take the image, and what loading a model raises.
    """
    if only := needs_own_file(image, method):
        return only.finalize(image, ())
    metadata = describe(image)
    candidates = (
        _all_candidates(image, metadata, codecs, effort) if method == "auto" else [code(image, method, codecs, effort)]
    )
    return _smallest(image, metadata, candidates).finalize(image, metadata)


def needs_own_file(image: RasterImage, method: str) -> Candidate | None:
    """The own file of an image that is to be kept as one, or of which other methods do not keep everything."""
    if method not in ("auto", "stored") or (image.file is None and image.low is None):
        return None
    if method == "auto":
        with contextlib.suppress(UnsupportedImageError):
            describe(image)
            return code_own_file(image) if image.not_in_pixels or _is_small_file(image) else None
    return code_own_file(image)


def _is_small_file(image: RasterImage) -> bool:
    """Whether an image came in a lossy file so small that no lossless coding of its pixels is smaller."""
    if image.file is None or image.file.startswith(SIGNATURE) or not image.has_bytes:
        return False
    with contextlib.suppress(UnsupportedImageError):
        return len(image.file) < HOPELESS * len(code_webp(image, FAST).coded.payload)
    return False


def code(image: RasterImage, method: str, codecs: ChosenCodec, effort: int) -> Candidate:
    """Code an image that need not be kept as its own file, by a method other than ``auto``. Raises as
    ``write_file``."""
    match method:
        case "model":
            codecs.input().take(image)  # refused before a model is loaded
            return code_model(image, codecs.chosen(), effort)
        case "webp":
            return code_webp(image)
        case "stored":
            return code_pixels(image)
    raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")


def takes(model: ModelInput, image: RasterImage) -> bool:
    """Whether ``auto`` tries the model: if it takes the image, and the network would not see mostly padding."""
    padded = math.prod(-(-side // PADDED_SIDE) * PADDED_SIDE for side in (image.height, image.width))
    thin = padded > MOST_PADDED and padded > MOST_PADDING * image.height * image.width
    return not thin and model.takes(image)


def code_model(image: RasterImage, codec: ImageCodec, effort: int) -> Candidate:
    """Code an image with a model. Raises UnsupportedImageError if the model does not take it."""
    shown, levels = codec.input.take(image)
    coded = codec.encode([levels], effort=effort)
    if image.width * image.height > pixel_limit(len(coded.payload)):
        raise UnsupportedImageError("the model takes too few bytes for so many pixels; --method auto keeps it")
    return Candidate(model_kind(shown), coded, pack_planes(image), codec.identity[:ID_BYTES])


def code_webp(image: RasterImage, effort: tuple[int, int] | None = None) -> Candidate:
    """Pixels of at most 8 bits as lossless WebP; raises UnsupportedImageError where WebP cannot hold them."""
    return Candidate(Kind.WEBP, Coded(encode_webp(image.require_bytes("WebP"), effort), method="webp"))


def code_pixels(image: RasterImage) -> Candidate:
    """Keep pixels of at most 8 bits uncompressed: for images that are very small or noise."""
    return Candidate(Kind.PIXELS, Coded(image.require_bytes("this method").tobytes(), method="stored"))


def code_own_file(image: RasterImage) -> Candidate:
    """Keep an image as its own PNG, JPEG or WebP, byte for byte; 16 bits without a file become a PNG."""
    if image.file is None and image.low is None:
        raise UnsupportedImageError("only a PNG, JPEG or WebP is kept as a file")
    return Candidate(Kind.FILE, Coded(image.file or write_png(image), method="stored"))


def choose_without_model(image: RasterImage, to_beat: float = math.inf) -> Candidate:
    """The smallest candidate that needs no model, giving up on WebP where it cannot be below ``to_beat`` bytes."""
    metadata = describe(image)
    best = _smallest(image, metadata, _stored_candidates(image))
    size = best.size(image, metadata)
    if not image.has_bytes:
        return best
    return _smallest(image, metadata, [best, *_webp_candidates(image, metadata, min(to_beat, size))])


def _all_candidates(image: RasterImage, metadata: Extensions, codecs: ChosenCodec, effort: int) -> Iterator[Candidate]:
    """All candidates that may be the smallest, lazily."""
    sizes = []
    for candidate in _stored_candidates(image):
        sizes.append(candidate.size(image, metadata))
        yield candidate
    if image.pixels is None:
        return
    if takes(codecs.input(), image):
        with contextlib.suppress(UnsupportedImageError):  # too few bytes
            candidate = code_model(image, codecs.chosen(), effort)
            sizes.append(candidate.size(image, metadata))
            yield candidate
        _return_free_memory()
    if image.has_bytes:
        yield from _webp_candidates(image, metadata, min(sizes))


def _stored_candidates(image: RasterImage) -> Iterator[Candidate]:
    if image.file is not None or image.low is not None:
        yield code_own_file(image)
    if image.has_bytes:
        yield code_pixels(image)


def _webp_candidates(image: RasterImage, metadata: Extensions, to_beat: float) -> Iterator[Candidate]:
    """WebP, with more effort if the result may be below ``to_beat`` bytes; small images with the highest effort.

    There is none if the image is too wide for WebP, or needs too much memory.
    """
    with contextlib.suppress(UnsupportedImageError):
        if choose_effort(image.width * image.height) == BEST:
            yield code_webp(image)
            return
        candidate = code_webp(image, FAST)
        yield candidate
        size = candidate.size(image, metadata)
        photo = image.colour.is_8_bit and 8 * size > GRAPHICS_BITS_PER_DIM * image.dims
        if not photo and size <= GRAPHICS_MARGIN * to_beat:
            yield code_webp(image, MEDIUM)


def _smallest(image: RasterImage, metadata: Extensions, candidates: Iterable[Candidate]) -> Candidate:
    """The smallest candidate, the first of equal ones. The others are dropped as they come, since they may be large."""
    best, least = None, math.inf
    for candidate in candidates:
        if (size := candidate.size(image, metadata)) < least:
            best, least = candidate, size
    assert best is not None, "every image has a candidate"
    return best


def _return_free_memory() -> None:
    """Return the free part of glibc's heap to the system after the network's evaluation: 400 MB, which WebP needs."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
