"""Images for training: a folder of pictures of any size, decoded once, cropped at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.errors import NvaeCodecError

IMAGE_SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff"}
MEMORY_LIMIT = 4 << 30
"""Bytes of decoded pixels kept; pictures beyond are decoded again at each use."""


def list_images(folder: str | Path) -> list[Path]:
    """All image files below a folder (or the one file), sorted. Raises NvaeCodecError where there are none."""
    folder = Path(folder)
    files = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    found = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
    if not found:
        raise NvaeCodecError(f"{folder}: no images here")
    return found


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W, 3). Raises NvaeCodecError where a file is none."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise NvaeCodecError(f"{path}: not a picture that can be read ({type(error).__name__})") from None


class ImageFolder:
    """Pictures of a folder, from which crops are drawn with a probability that follows their size."""

    def __init__(self, files: list[Path], crop: int) -> None:
        """Decode what fits in memory; pictures smaller than a crop are left out."""
        self.crop = crop
        self.files: list[Path] = []
        self.pixels: list[NDArray[np.uint8] | None] = []
        sizes, kept = [], 0
        for file in files:
            picture = read_rgb(file)
            if min(picture.shape[:2]) < crop:
                continue
            self.files.append(file)
            sizes.append(picture.shape[0] * picture.shape[1])
            self.pixels.append(picture if kept + picture.nbytes <= MEMORY_LIMIT else None)
            kept += picture.nbytes if self.pixels[-1] is not None else 0
        if not self.files:
            raise NvaeCodecError(f"no picture has a side of {crop} pixels or more")
        self.total_pixels = sum(sizes)
        self.share = np.array(sizes) / self.total_pixels

    def draw(self, count: int, transpose_share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Random crops, mirrored by half, some with rows and columns exchanged: uint8 (count, 3, crop, crop)."""
        crops = np.empty((count, self.crop, self.crop, 3), np.uint8)
        for slot, index in enumerate(rng.choice(len(self.files), count, p=self.share)):
            kept = self.pixels[index]
            picture = kept if kept is not None else read_rgb(self.files[index])
            y, x = (int(rng.integers(n - self.crop + 1)) for n in picture.shape[:2])
            crop = picture[y : y + self.crop, x : x + self.crop]
            crop = crop[:, ::-1] if rng.random() < 0.5 else crop
            crops[slot] = crop.transpose(1, 0, 2) if rng.random() < transpose_share else crop
        return crops.transpose(0, 3, 1, 2)


def held_out_crops(files: list[Path], side: int, stride: int) -> NDArray[np.uint8]:
    """The middle of each picture that is large enough, uint8 (N, 3, side, side).

    Where none is, the smallest of those that the network can see sets the side, in steps of the stride.
    """
    read = [read_rgb(file) for file in files]
    pictures = [picture for picture in read if min(picture.shape[:2]) >= side]
    pictures = pictures or [picture for picture in read if min(picture.shape[:2]) >= stride]
    side = min([side] + [n for picture in pictures for n in picture.shape[:2]]) // stride * stride
    if not pictures or side < stride:
        raise NvaeCodecError(f"no picture to measure on has sides of {stride} pixels or more")
    middle = []
    for picture in pictures:
        y, x = ((n - side) // 2 for n in picture.shape[:2])
        middle.append(picture[y : y + side, x : x + side].transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(middle))
