"""What evaluate, bench and pack take: image files, folders of them, arrays in .npz files. It needs no torch."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import NvaeCodecError, UnsupportedImageError
from nvae_codec.files import read_with_snapshot
from nvae_codec.images.find import Findings, find_files
from nvae_codec.images.raster import GRAY1, GRAY8, RGB8, RasterImage
from nvae_codec.images.read import read_image, read_size


@dataclass(frozen=True)
class Input:
    """An image that is read when it is needed."""

    name: str
    read: Callable[[], RasterImage]
    size: Callable[[], tuple[int, int]]
    """Width and height by the header alone; 0 and 0 where there is no image."""
    bytes: int
    """Of its file; of an array its samples."""
    path: Path
    """The file that it is in."""

    def read_colours(self) -> RasterImage:
        """The image, of 8-bit RGB or gray.

        Raises UnsupportedImageError for palettes, alpha, and other than 8 bits a sample; what read_image raises.
        """
        image = self.read()
        if image.colour not in (RGB8, GRAY8):
            mode = f"{image.colour.bits}-bit {image.colour.mode}"
            raise UnsupportedImageError(f"the model takes 8-bit RGB and gray, not {mode}")
        return image

    def read_rgb(self) -> RasterImage:
        """The image as 8-bit RGB: gray with three equal colours, without its metadata; raises as read_colours."""
        image = self.read_colours()
        if image.colour == RGB8:
            return image
        gray = image.require_pixels("the model").reshape(image.height, image.width)
        return RasterImage.from_pixels(np.repeat(gray[:, :, None], 3, axis=2))

    def read_gray(self) -> RasterImage:
        """A gray image as one of 8 bits, without its metadata; raises UnsupportedImageError for others."""
        image = self.read()
        if image.pixels is None or image.colour not in (GRAY8, GRAY1):
            raise UnsupportedImageError(f"the model takes gray, not {image.colour.bits}-bit {image.colour.mode}")
        return RasterImage.from_pixels(255 * image.pixels) if image.colour == GRAY1 else image


def find_inputs(paths: Sequence[str | Path], left: Findings | None = None) -> list[Input]:
    """The images of files, folders (recursively) and .npz files with ``images``, uint8 (N, H, W, 3) or (N, H, W).

    ``left`` takes what is left in folders. Raises NvaeCodecError where there is nothing to look at.
    """
    return [found for path in paths for found in _find(Path(path), Findings() if left is None else left)]


def _find(path: Path, left: Findings) -> Iterator[Input]:
    if path.suffix.lower() == ".npz":
        images = read_arrays(path)
        for index in range(len(images)):
            size = partial(_sides_of, images)
            yield Input(f"{path.name}#{index}", partial(_image_of, images, index), size, images[0].nbytes, path)
        return
    if not path.is_dir():
        yield _of_file(path, _in_unicode(path.name))
        return
    found = find_files(path)
    left.add(found)
    if not found.files and not found.unreadable:
        raise NvaeCodecError(f"{path}: no images here")
    for file in found.files:
        yield _of_file(file, _in_unicode(file.relative_to(path).as_posix()))


def _in_unicode(name: str) -> str:
    """A file's name in UTF-8, whatever the locale makes of its bytes."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _of_file(path: Path, name: str) -> Input:
    try:
        size = path.stat().st_size
    except OSError:  # what is wrong is reported when it is read
        size = 0
    return Input(name, partial(_read, path), partial(_size_of, path), size, path)


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


def _image_of(images: NDArray[np.uint8], index: int) -> RasterImage:
    return RasterImage.from_pixels(np.ascontiguousarray(images[index]))


def _sides_of(images: NDArray[np.uint8]) -> tuple[int, int]:
    return images.shape[2], images.shape[1]


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except Exception:  # what is wrong is said when it is read
        return 0, 0


def _read(path: Path) -> RasterImage:
    data, snapshot = read_with_snapshot(path)
    return replace(read_image(data), modified=snapshot.modified // 10**9)
