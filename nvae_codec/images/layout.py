"""What a file's own header says of its image, and samples put into the shape that the header promises."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.raster import COLOURS, Chunk, Colour, RasterImage, find_colour

Samples = NDArray[Any]
"""uint8 or uint16."""

MODES = {1: "gray", 2: "gray+alpha", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Layout:
    """Size, samples a pixel and bits a sample, as a file's header states them, before any decoder has seen it."""

    width: int
    height: int
    channels: int
    bits: int

    def check(self, image: RasterImage) -> None:
        """Raise UnsupportedImageError where ``image`` has not all samples that the header promises."""
        colour = image.colour
        found = Layout(image.width, image.height, colour.channels, colour.bits)
        if found != self:
            raise UnsupportedImageError(f"its reader gives {found}, and the file has {self}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height} pixels of {self.channels} samples of {self.bits} bits"


def make_image(
    samples: Samples, bits: int, chunks: tuple[Chunk, ...] = (), *, palette: bytes = b"", file: bytes | None = None
) -> RasterImage:
    """An image of samples (H, W) or (H, W, C), uint8 or for 16 bits uint16; with a palette they are indices into it.

    Raises UnsupportedImageError for a combination that PNG does not know.
    """
    height, width = samples.shape[:2]
    mode = "palette" if palette else MODES[1 if samples.ndim == 2 else samples.shape[2]]
    if not any((colour.mode, colour.bits) == (mode, bits) for colour in COLOURS):
        raise UnsupportedImageError(f"{bits}-bit {mode} is not supported")
    colour = find_colour(mode, bits)
    if palette:
        chunks = _with_palette(colour, palette, int(samples.max()), chunks)
    if bits < 16:
        return RasterImage(width, height, colour, np.ascontiguousarray(samples, np.uint8), chunks, file)
    high, low = (samples >> 8).astype(np.uint8), (samples & 255).astype(np.uint8)
    return RasterImage(width, height, colour, high, chunks, file, low=low)


def _with_palette(colour: Colour, palette: bytes, largest: int, chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    entries = len(palette) // 3
    if largest >= entries:
        raise DamagedFileError(f"damaged: it uses entry {largest} of a palette of {entries}")
    around = chunks or (Chunk(b"IDAT", b""),)
    return (Chunk(b"PLTE", palette[: 3 << colour.bits]), *around)


def unpack_bits(rows: NDArray[np.uint8], width: int, bits: int) -> NDArray[np.uint8]:
    """Samples (H, W) of 1, 2, 4 or 8 bits from rows of bytes, the highest bits first."""
    if bits == 8:
        return rows[:, :width]
    per_byte = 8 // bits
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = (rows[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return samples.reshape(len(rows), rows.shape[1] * per_byte)[:, :width]
