"""An image as this codec sees it: its colour, its pixels, what else its file holds, and that file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import UnsupportedImageError


class Colour(NamedTuple):
    """What a pixel is made of, as PNG defines it."""

    mode: str  # "gray", "RGB", "palette", "gray+alpha", "RGBA"
    bits: int  # a sample
    png_type: int  # the colour type of PNG's IHDR
    channels: int  # samples a pixel

    @property
    def is_gray(self) -> bool:
        """Whether a pixel has one colour, with alpha or without."""
        return self.mode.startswith("gray")

    @property
    def has_alpha(self) -> bool:
        """Whether its last sample is alpha."""
        return self.mode in ("gray+alpha", "RGBA")

    @property
    def is_8_bit(self) -> bool:
        """Whether its samples are levels from 0 to 255: 8 bits, and no places in a palette."""
        return self.bits == 8 and self.mode != "palette"


# Every combination that PNG allows. A colour's place in this row is its number in .nvae files: append, never reorder.
COLOURS = (
    Colour("gray", 1, 0, 1),
    Colour("gray", 2, 0, 1),
    Colour("gray", 4, 0, 1),
    Colour("gray", 8, 0, 1),
    Colour("gray", 16, 0, 1),
    Colour("RGB", 8, 2, 3),
    Colour("RGB", 16, 2, 3),
    Colour("palette", 1, 3, 1),
    Colour("palette", 2, 3, 1),
    Colour("palette", 4, 3, 1),
    Colour("palette", 8, 3, 1),
    Colour("gray+alpha", 8, 4, 2),
    Colour("gray+alpha", 16, 4, 2),
    Colour("RGBA", 8, 6, 4),
    Colour("RGBA", 16, 6, 4),
)
GRAY1, GRAY8, RGB8, GRAY_ALPHA8, RGBA8 = COLOURS[0], COLOURS[3], COLOURS[5], COLOURS[11], COLOURS[13]
WHOLE_BYTES = tuple(colour for colour in COLOURS if colour.bits >= 8 and colour.mode != "palette")
IN_BYTES = tuple(colour for colour in COLOURS if colour.bits <= 8)  # whose samples take a byte each
PIXEL_COLOURS = {1: GRAY8, 2: GRAY_ALPHA8, 3: RGB8, 4: RGBA8}  # by channels: those of 8 bits that are no places


def find_colour(mode: str, bits: int) -> Colour:
    """The colour of a mode and so many bits a sample. Raises StopIteration where PNG has none."""
    return next(colour for colour in COLOURS if (colour.mode, colour.bits) == (mode, bits))


class Chunk(NamedTuple):
    """One chunk of a PNG file; ``Chunk(b"IDAT", b"")`` stands for the place of the pixels among the others."""

    type: bytes
    data: bytes


@dataclass(frozen=True, eq=False)
class RasterImage:
    """What was read from an image's file, or is to be written to one.

    ``pixels`` is uint8, (H, W) for gray and palettes (of few bits from 0: of 1 bit 0 and 1) and (H, W, C) else, or None
    where the image is kept as a file only, and then ``why_file_only`` says why in words that follow "it". Of 16 bits
    it has the high bytes, and ``low``, of the same shape, the low ones. ``chunks`` are the palette and the ancillary
    chunks of a PNG in their order, with one empty IDAT that says where the pixels stand; they are empty where there is
    nothing to keep.
    ``file`` is the image's own file, byte for byte, where it came as a PNG, JPEG or WebP. ``not_in_pixels`` names what
    that file holds besides pixels and chunks. ``modified`` is its modification time, in seconds since 1970.
    """

    width: int
    height: int
    colour: Colour
    pixels: NDArray[np.uint8] | None
    chunks: tuple[Chunk, ...] = ()
    file: bytes | None = None
    why_file_only: str = ""
    low: NDArray[np.uint8] | None = None
    not_in_pixels: str = ""
    modified: int | None = None

    @property
    def dims(self) -> int:
        """The number of colour values: W·H·C."""
        return self.width * self.height * self.colour.channels

    @classmethod
    def from_pixels(cls, pixels: NDArray[np.uint8], chunks: tuple[Chunk, ...] = ()) -> RasterImage:
        """An image of 8-bit pixels: (H, W) gray, or (H, W, C) with 2 (gray and alpha), 3 (RGB) or 4 (RGBA)."""
        height, width = pixels.shape[:2]
        return cls(width, height, colour_of(pixels), pixels, chunks)

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The pixels without their alpha, (H, W) or (H, W, 3). Raises ValueError where there are no pixels."""
        if self.pixels is None:
            raise ValueError("an image without pixels")
        if not self.colour.has_alpha:
            return self.pixels
        return np.ascontiguousarray(self.pixels[:, :, 0] if self.colour.is_gray else self.pixels[:, :, :3])

    @property
    def has_bytes(self) -> bool:
        """Whether there are pixels of at most 8 bits a sample."""
        return self.pixels is not None and self.colour in IN_BYTES

    def require_bytes(self, for_what: str) -> NDArray[np.uint8]:
        """The pixels, of at most 8 bits, palettes too; raises UnsupportedImageError where there are none."""
        if self.pixels is None or self.colour not in IN_BYTES:
            why = self.why_file_only or f"has {self.colour.bits} bits a sample"
            raise UnsupportedImageError(f"{for_what} takes pixels of at most 8 bits, but this image {why}")
        return self.pixels

    def require_pixels(self, for_what: str) -> NDArray[np.uint8]:
        """The pixels of 8 bits, without a palette; raises UnsupportedImageError where there are none."""
        if self.pixels is None or not self.colour.is_8_bit:
            bits = f"{self.colour.bits} bit{'s' if self.colour.bits > 1 else ''} a sample"
            why = self.why_file_only or f"has {'a palette' if self.colour.mode == 'palette' else bits}"
            raise UnsupportedImageError(f"{for_what} takes 8-bit pixels, but this image {why}")
        return self.pixels


def colour_of(pixels: NDArray[np.uint8]) -> Colour:
    """The colour of 8-bit pixels, by their channels."""
    return PIXEL_COLOURS[1 if pixels.ndim == 2 else pixels.shape[-1]]


def same_image(one: RasterImage, other: RasterImage) -> bool:
    """Whether two images have the same colour, pixels and chunks; images kept as files: the same bytes."""
    if (one.width, one.height, one.colour) != (other.width, other.height, other.colour):
        return False
    if one.pixels is None or other.pixels is None:
        return one.file is not None and one.file == other.file
    low, other_low = (np.zeros(0, np.uint8) if each.low is None else each.low for each in (one, other))
    return one.chunks == other.chunks and np.array_equal(one.pixels, other.pixels) and np.array_equal(low, other_low)
