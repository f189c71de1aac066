"""The planes of an image that are not coded by the model: alpha, and the low bytes of 16 bits.

    [alpha] ┬ [low bytes]          each after its length; empty if all is opaque, or low bytes equal the high ones
    kind (WebP or pixels), 1 ┬ data

Alpha is like graphics and low bytes are mostly noise, so classical methods suit both (docs/other-pixels.md).
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nvae_codec.container.fields import ByteReader, pack_sized
from nvae_codec.container.header import Kind
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.raster import Colour, RasterImage, colour_of
from nvae_codec.images.webp import decode_webp, encode_webp

Pixels = NDArray[np.uint8]
OPAQUE = 255


def pack_planes(image: RasterImage) -> bytes:
    """The planes of an image that its model does not code; empty for 8-bit RGB and gray."""
    return b"".join(pack_sized(block) for block in _blocks(image))


def _blocks(image: RasterImage) -> Iterator[bytes]:
    pixels = image.pixels
    assert pixels is not None
    if image.colour.has_alpha:
        alpha = np.ascontiguousarray(pixels[:, :, -1])
        yield _pack_block(alpha) if (alpha != OPAQUE).any() else b""
    if image.low is not None:
        yield _pack_block(image.low) if not np.array_equal(image.low, pixels) else b""


def _pack_block(samples: Pixels) -> bytes:
    stored = bytes((Kind.PIXELS,)) + samples.tobytes()
    with contextlib.suppress(UnsupportedImageError):  # too wide for WebP, or too much for its memory
        return min(bytes((Kind.WEBP,)) + encode_webp(samples), stored, key=len)
    return stored


def take_planes(reader: ByteReader, colour: Colour) -> list[bytes]:
    """The blocks that ``pack_planes`` wrote of an image of this colour; raises DamagedFileError."""
    count = colour.has_alpha + (colour.bits == 16)
    return [reader.sized() for _ in range(count)]


def add_planes(coded: Pixels, colour: Colour, blocks: Sequence[bytes]) -> tuple[Pixels, Pixels | None]:
    """Pixels and low bytes of an image, whose colours (H, W) or (H, W, 3) the model gave; raises DamagedFileError."""
    pixels = coded
    if colour.has_alpha:
        alpha = np.full(coded.shape[:2], OPAQUE, np.uint8)
        pixels = np.dstack([coded, _unpack_block(blocks[0], alpha)])
    return pixels, _unpack_block(blocks[-1], pixels) if colour.bits == 16 else None


def _unpack_block(block: bytes, usual: Pixels) -> Pixels:
    """The samples of a block; an empty block stands for ``usual``."""
    if not block:
        return usual
    match block[0]:
        case Kind.PIXELS if len(block) == 1 + usual.size:
            return np.frombuffer(block, np.uint8, offset=1).reshape(usual.shape)
        case Kind.WEBP:
            height, width = usual.shape[:2]
            return decode_webp(block[1:], width, height, colour_of(usual))
    raise DamagedFileError("damaged: its alpha or its low bytes are not such")
