"""Where training images come from: folders, arrays, archives, idx files, and torchvision's data sets by name.

A source is a list of loaders, one per image, each of which returns uint8 (H, W, C).
"""

import gzip
import importlib
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.find import find_files

Pixels = NDArray[np.uint8]
Loader = Callable[[], Pixels]
"""Gives one image, uint8 (H, W, C) of the channels asked for."""

ROOT_VARIABLE = "NVAE_CODEC_DATA"
"""The environment variable that names the folder of torchvision's data sets; by default ./data."""
CELEBA_BOX, CELEBA_SIDE = (15, 40, 163, 188), 64
"""The square of an aligned CelebA portrait that is used (left, top, right, bottom), and its size after shrinking."""


def open_source(where: str | Path, channels: int = 3) -> list[Loader]:
    """The images of a folder, a file, an .npz, an .nvae archive, an idx file, or a named data set, in a fixed order.

    Gray images become colour where colour is asked for, and folders' colour gray where gray is; arrays of colour are
    refused there. Raises NvaeCodecError with what is missing.
    """
    text = str(where)
    path = Path(where)
    name, _, folder = text.partition(":")
    if not path.exists() and name in NAMED:
        return NAMED[name](folder, channels)
    if path.is_file():
        if path.suffix == ".npz":
            from nvae_codec.evaluation.inputs import read_arrays

            return array_source(read_arrays(path), channels, text)
        if path.suffix == ".nvae":
            return _open_archive(path, channels)
        if path.name.removesuffix(".gz").endswith(("idx3-ubyte", ".idx3")):
            return array_source(read_idx(path), channels, text)
    return file_source(list_images(path), channels)


def list_images(folder: str | Path) -> list[Path]:
    """All image files below a folder (or the one file), sorted. Raises NvaeCodecError where there are none."""
    folder = Path(folder)
    found = [folder] if folder.is_file() else find_files(folder).files
    if not found:
        named = f"; data sets by name: {', '.join(NAMED)}" if not folder.exists() else ""
        raise NvaeCodecError(f"{folder}: no images here{named}")
    return found


def file_source(files: list[Path], channels: int = 3) -> list[Loader]:
    """One loader per file."""
    return [partial(read_image, file, channels) for file in files]


def array_source(images: Pixels, channels: int, what: str) -> list[Loader]:
    """A loader for each of the images (N, H, W) or (N, H, W, 3); they stay in memory."""
    if images.ndim == 4 and channels == 1:
        raise NvaeCodecError(f"{what}: colour images, but the recipe has image.channels = 1")
    return [partial(_of_array, images, index, channels) for index in range(len(images))]


def _of_array(images: Pixels, index: int, channels: int) -> Pixels:
    image = images[index]
    return image if image.ndim == 3 else np.broadcast_to(image[:, :, None], (*image.shape, channels))


def read_image(path: Path, channels: int = 3) -> Pixels:
    """An image as uint8 (H, W, C). Raises NvaeCodecError where a file is none."""
    try:
        with Image.open(path) as image:
            return np.atleast_3d(np.asarray(image.convert("RGB" if channels == 3 else "L")))
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise NvaeCodecError(f"{path}: not an image that can be read ({type(error).__name__})") from None


def read_idx(path: Path) -> Pixels:
    """The images (N, H, W) of an idx file, as MNIST comes, gzipped or not. Raises NvaeCodecError."""
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        magic, count, rows, columns = struct.unpack(">4I", data[:16])
        if magic == 0x803 and len(data) == 16 + count * rows * columns and count:
            return np.frombuffer(data, np.uint8, offset=16).reshape(count, rows, columns)
    except (OSError, EOFError, struct.error):
        pass
    raise NvaeCodecError(f"{path}: not an idx file of 8-bit images")


def _open_archive(path: Path, channels: int) -> list[Loader]:
    import nvae_codec
    from nvae_codec.images.read import read_pixels

    archive = nvae_codec.open_archive(path)

    def read(index: int) -> Pixels:
        pixels = read_pixels(archive.read_image(index), "training")
        if pixels.ndim == 2:
            return np.broadcast_to(pixels[:, :, None], (*pixels.shape, channels))
        if pixels.shape[2] != channels:
            raise NvaeCodecError(f"{path}: {archive.names[index]} has {pixels.shape[2]} channels, not {channels}")
        return pixels

    return [partial(read, index) for index in range(len(archive.names))]


def _torchvision(name: str, what: str, **options: Any) -> Any:
    """A torchvision data set from the disk. Raises NvaeCodecError that says what to put where."""
    root = Path(os.environ.get(ROOT_VARIABLE, "data"))
    try:
        datasets = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        install = "python -m pip install 'nvae-codec[train]'"
        if isinstance(error, ModuleNotFoundError) and error.name in ("torchvision", "torchvision.datasets"):
            raise NvaeCodecError(f"the data set {name} needs torchvision; {install}") from None
        reason = " ".join(str(error).split())  # often a build for another release of torch
        raise NvaeCodecError(f"torchvision is installed but does not load ({reason}); {install} --upgrade") from None
    try:
        return getattr(datasets, name)(str(root), **options)
    except (RuntimeError, OSError) as error:
        raise NvaeCodecError(f"{root}: no {name} here ({error}); put {what} there, or set {ROOT_VARIABLE}") from None


def _open_mnist(_: str, channels: int) -> list[Loader]:
    digits = _torchvision("MNIST", "MNIST/raw with the four idx files", train=True)
    return array_source(np.asarray(digits.data), channels, "mnist")


def _open_cifar10(_: str, channels: int) -> list[Loader]:
    images = _torchvision("CIFAR10", "cifar-10-batches-py out of cifar-10-python.tar.gz", train=True)
    return array_source(np.asarray(images.data), channels, "cifar10")


def _open_celeba(_: str, channels: int) -> list[Loader]:
    portraits = _torchvision("CelebA", "celeba/ with img_align_celeba and its lists", split="train")
    folder = Path(portraits.root) / portraits.base_folder / "img_align_celeba"
    return [partial(_crop_portrait, folder / name, channels) for name in portraits.filename]


def _crop_portrait(path: Path, channels: int) -> Pixels:
    """The face of an aligned portrait, 64x64 (NVAE's code, datasets.py)."""
    portrait = Image.fromarray(read_image(path)).crop(CELEBA_BOX)
    shrunk = portrait.resize((CELEBA_SIDE, CELEBA_SIDE), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(shrunk if channels == 3 else shrunk.convert("L")))


def _open_image_folder(folder: str, channels: int) -> list[Loader]:
    """torchvision's ImageFolder: one folder per class, whose names do not matter here."""
    if not folder:
        raise NvaeCodecError("imagefolder needs its folder: imagefolder:PATH")
    return file_source(list_images(folder), channels)


NAMED: dict[str, Callable[[str, int], list[Loader]]] = {
    "mnist": _open_mnist, "cifar10": _open_cifar10, "celeba": _open_celeba, "imagefolder": _open_image_folder,
}  # fmt: skip
