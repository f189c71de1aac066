"""Images of few levels: the values that a model of less than 8 bits codes, and how an image shows them."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.raster import GRAY1, GRAY8, RGB8, WHOLE_BYTES, Colour, RasterImage

Pixels = NDArray[np.uint8]


class Shown(Enum):
    """How an image's values, uint8, show levels from 0 to 2^bits - 1."""

    PLAIN = "plain"  # as they are
    SPREAD = "spread"  # over 0 to 255: round(255 level / (2^bits - 1)), as the official code and PNG viewers
    SHIFTED = "shifted"  # in the highest bits, the others 0


def show_levels(levels: Pixels, bits: int, shown: Shown) -> Pixels:
    """The values of an image of these levels."""
    if shown is Shown.PLAIN or bits == 8:
        return levels
    top = 2**bits - 1
    every = np.arange(top + 1)
    table = every << (8 - bits) if shown is Shown.SHIFTED else (255 * every + top // 2) // top
    return table.astype(np.uint8)[levels]


def find_levels(pixels: Pixels, bits: int) -> tuple[Shown, Pixels] | None:
    """How pixels show levels, and those levels; None where they have others."""
    top = 2**bits - 1
    spread: Pixels = ((pixels.astype(np.int32) * top + 127) // 255).astype(np.uint8)
    shifted: Pixels = pixels >> np.uint8(8 - bits)
    for shown, levels in ((Shown.PLAIN, pixels), (Shown.SPREAD, spread), (Shown.SHIFTED, shifted)):
        if levels.max(initial=0) <= top and np.array_equal(show_levels(levels, bits, shown), pixels):
            return shown, levels
    return None


@dataclass(frozen=True)
class ModelInput:
    """The images that a model codes: colours of a pixel, and bits of each that it tells apart."""

    channels: int = 3
    bits: int = 8

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Those of the images that it takes; one of RGB takes gray, too, as three equal colours.

        Of 8 bits: also those with alpha and of 16 bits, whose colours' high bytes it codes.
        """
        if self.bits == 8:
            return tuple(colour for colour in WHOLE_BYTES if colour.is_gray or self.channels == 3)
        if self.channels == 3:
            return RGB8, GRAY8
        return (GRAY8, GRAY1) if self.bits == 1 else (GRAY8,)

    def take(self, image: RasterImage) -> tuple[Shown, Pixels]:
        """The levels of an image's colours, (H, W) or (H, W, 3), and how they are shown.

        Raises UnsupportedImageError for an image that the model does not take.
        """
        if image.colour not in self.colours or image.pixels is None:
            why = "" if image.colour not in self.colours else f" that {image.why_file_only}"
            mode = f"{image.colour.bits}-bit {image.colour.mode}{why}"
            raise UnsupportedImageError(f"the model takes {self}, not {mode}; --method auto takes it")
        if self.bits == 8:
            return Shown.PLAIN, image.colours
        found = find_levels(image.pixels, self.bits)
        if found is None:
            raise UnsupportedImageError(f"the model takes {self}, and this image has others; --method auto takes it")
        return found

    def takes(self, image: RasterImage) -> bool:
        """Whether the model codes an image."""
        try:
            self.take(image)
        except UnsupportedImageError:
            return False
        return True

    def show(self, levels: Pixels, shown: Shown) -> Pixels:
        """The pixels that show levels."""
        return show_levels(levels, self.bits, shown)

    def __str__(self) -> str:
        mode = "gray" if self.channels == 1 else "RGB and gray"
        if self.bits == 8:
            return f"8- and 16-bit {mode}, with or without alpha"
        top = 2**self.bits - 1
        return f"{mode} of the values {'0 and 1, or 0 and 255' if top == 1 else f'0 to {top}, or those spread to 255'}"


RGB_INPUT = ModelInput()
