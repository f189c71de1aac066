"""Functions for arrays with the interface of imagecodecs: ``nvae_encode``, ``nvae_decode``, ``nvae_check`` and others.

    from nvae_codec.arrays import nvae_decode, nvae_encode

    data = nvae_encode(pixels)
    pixels = nvae_decode(data)

They have the arguments and results of ``png_encode``, ``webp_encode`` and so on, and keep the models that they load.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import nvae_codec
from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.container.header import ARCHIVE, MAGIC, VERSION
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.images.samples import image_of, samples_of
from nvae_codec.zoo.library import ImageCodec, Models

__all__ = ["nvae_check", "nvae_decode", "nvae_encode", "nvae_version"]

Model = str | Path | ImageCodec | None

_named_models = functools.lru_cache(maxsize=8)(Models)


def nvae_encode(data: ArrayLike, /, level: int | None = None, *, model: Model = None, method: str = "auto") -> bytes:
    """The bytes of an .nvae file of pixels, uint8 or uint16: (H, W) gray, or (H, W, C) with C of 1 to 4.

    One channel is gray, two are gray and alpha, three RGB, four RGBA. ``model`` is a name, a path, or what
    ``load_model`` gave (None: photo); ``method`` is auto, model, webp or stored. ``level``: the effort, from 1 to 9
    (None: 5).

    Raises TypeError and ValueError for other arrays and methods, and what ``nvae_codec.compress`` raises.
    """
    samples = np.asarray(data)
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    return write_file(image_of(samples), method, _models_of(model), DEFAULT_EFFORT if level is None else level)


def nvae_decode(
    data: bytes | bytearray | memoryview, /, *, model: Model = None, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The pixels of an .nvae file: (H, W), or (H, W, C) with C from 2 to 4; written to ``out`` if it is given.

    Raises what ``nvae_codec.decompress`` raises, and ValueError if ``out`` has another shape or type.
    """
    pixels = samples_of(read_file(bytes(data), _models_of(model)), "an array")
    if out is None:
        return pixels
    if out.shape != pixels.shape or out.dtype != pixels.dtype:
        raise ValueError(f"out is {out.dtype} {out.shape}, the image {pixels.dtype} {pixels.shape}")
    np.copyto(out, pixels)
    return out


def nvae_check(data: bytes | bytearray | memoryview, /) -> bool:
    """Whether data begins like an .nvae file of a single image; the rest is not examined."""
    beginning = bytes(data[: len(MAGIC) + 2])
    return len(beginning) > 3 and beginning[:-1] == MAGIC + bytes((VERSION,)) and beginning[-1] != ARCHIVE


def nvae_version() -> str:
    """Name and version of this library."""
    return f"nvae_codec {nvae_codec.__version__}"


def _models_of(model: Model) -> Models:
    return _named_models(model) if model is None or isinstance(model, str | Path) else Models(model)
