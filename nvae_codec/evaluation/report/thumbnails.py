"""Images small enough for a page of a thousand: thumbnails, and heat maps of bits per pixel."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STOPS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""From few bits to many: dark to bright, so that it reads in gray, too."""


def thumbnail_side(count: int) -> int:
    """The longer side, in pixels, of each of so many images: all together stay a few megabytes."""
    return 384 if count <= 4 else 224 if count <= 60 else 96 if count <= 400 else 64


def draw_image(pixels: NDArray[np.uint8], side: int) -> str:
    """An image, uint8 (H, W, 3), as a data URI; never larger than it is."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _as_uri(image, 80)


def draw_heat(heat: NDArray[np.float32], side: int, top: float) -> str:
    """Bits a pixel (H, W) as colours, from 0 to ``top`` and beyond, as a data URI of the size of the image's."""
    image = Image.fromarray(heat.astype(np.float32))
    height, width = heat.shape
    scale = min(1.0, side / max(height, width))
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
    place = np.clip(np.asarray(image, np.float64) / max(top, 1e-9), 0, 1) * (len(STOPS) - 1)
    stops = np.array(STOPS, np.float64)
    colours = np.stack([np.interp(place, range(len(STOPS)), stops[:, c]) for c in range(3)], -1)
    return _as_uri(Image.fromarray(np.rint(colours).astype(np.uint8)), 70)


def _as_uri(image: Image.Image, quality: int) -> str:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
