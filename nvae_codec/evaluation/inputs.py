"""What evaluate, bench and pack take: picture files, folders of them, arrays in .npz files. It needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import NvaeCodecError, UnsupportedImageError
from nvae_codec.images.raster import GRAY1, GRAY8, RGB8, Picture
from nvae_codec.images.read import SUFFIXES, read_picture, read_size


@dataclass(frozen=True)
class Input:
    """A picture that is read when it is needed."""

    name: str
    read: Callable[[], Picture]
    size: Callable[[], tuple[int, int]]
    """Width and height by the header alone; of what is no picture 0 and 0."""

    def read_colours(self) -> Picture:
        """The picture, of 8-bit RGB or gray.

        Raises UnsupportedImageError for palettes, alpha, and other than 8 bits a sample; what read_picture raises.
        """
        picture = self.read()
        if picture.colour not in (RGB8, GRAY8):
            mode = f"{picture.colour.bits}-bit {picture.colour.mode}"
            raise UnsupportedImageError(f"the model takes 8-bit RGB and gray, not {mode}")
        return picture

    def read_rgb(self) -> Picture:
        """The picture as 8-bit RGB: gray with three equal colours, without its metadata; raises as read_colours."""
        picture = self.read_colours()
        if picture.colour == RGB8:
            return picture
        gray = picture.require_pixels("the model").reshape(picture.height, picture.width)
        return Picture.from_pixels(np.repeat(gray[:, :, None], 3, axis=2))

    def read_gray(self) -> Picture:
        """A gray picture as one of 8 bits, without its metadata; raises UnsupportedImageError for others."""
        picture = self.read()
        if picture.pixels is None or picture.colour not in (GRAY8, GRAY1):
            raise UnsupportedImageError(f"the model takes gray, not {picture.colour.bits}-bit {picture.colour.mode}")
        return Picture.from_pixels(255 * picture.pixels) if picture.colour == GRAY1 else picture


def find_inputs(paths: Sequence[str | Path]) -> list[Input]:
    """The pictures of files, folders (recursively) and .npz files with ``images``, uint8 (N, H, W, 3) or (N, H, W).

    Raises NvaeCodecError where there is nothing to look at.
    """
    return [found for path in paths for found in _find(Path(path))]


def _find(path: Path) -> Iterator[Input]:
    if path.suffix.lower() == ".npz":
        images = read_arrays(path)
        for index in range(len(images)):
            yield Input(f"{path.name}#{index}", partial(_picture_of, images, index), partial(_sides_of, images))
        return
    if not path.is_dir():
        yield Input(path.name, partial(_read, path), partial(_size_of, path))
        return
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise NvaeCodecError(f"{path}: no pictures here")
    for file in files:
        yield Input(file.relative_to(path).as_posix(), partial(_read, file), partial(_size_of, file))


def read_arrays(path: Path) -> NDArray[np.uint8]:
    """``images`` of an .npz file. Raises NvaeCodecError where it has none of that kind; OSError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays["images"]
    except (ValueError, KeyError, EOFError) as error:
        raise NvaeCodecError(f"{path}: no array named images in it ({type(error).__name__})") from None
    colour = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not colour or 0 in images.shape:
        raise NvaeCodecError(
            f"{path}: images must be uint8 of shape (N, H, W, 3) or (N, H, W), not {images.dtype} {images.shape}"
        )
    pixels: NDArray[np.uint8] = images
    return pixels


def _picture_of(images: NDArray[np.uint8], index: int) -> Picture:
    return Picture.from_pixels(np.ascontiguousarray(images[index]))


def _sides_of(images: NDArray[np.uint8]) -> tuple[int, int]:
    return images.shape[2], images.shape[1]


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except Exception:  # what is wrong is said when it is read
        return 0, 0


def _read(path: Path) -> Picture:
    return read_picture(path.read_bytes())
