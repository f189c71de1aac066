"""Other lossless formats, of the same pixels: PNG, WebP and JPEG 2000 through Pillow, JPEG XL through imagecodecs."""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Baseline:
    """A format at an effort. made_by: what makes it, with its version; None where it is not installed."""

    name: str
    made_by: str | None
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes], Pixels]


def list_baselines() -> list[Baseline]:
    """All formats that are compared with, in the order of the tables."""
    pillow = f"Pillow {pillow_version}"
    webp = f"{pillow}, libwebp {features.version('webp')}" if features.check("webp") else None
    jpeg2000 = f"{pillow}, OpenJPEG {features.version('jpg_2000')}" if features.check("jpg_2000") else None
    baselines = [_pillow("PNG", pillow, format="PNG", optimize=True)]
    for name, method, quality in (("WebP m2", 2, 80), ("WebP m6", 6, 100)):
        baselines.append(_pillow(name, webp, format="WEBP", lossless=True, method=method, quality=quality))
    baselines.append(_pillow("JPEG 2000", jpeg2000, format="JPEG2000", irreversible=False, mct=1, no_jp2=True))
    return baselines + [_jpeg_xl(effort) for effort in (3, 7, 9)]


REPORTED = ("PNG", "WebP m6", "JPEG XL e7")
"""Those that ``evaluate --baselines`` makes."""


def _pillow(name: str, made_by: str | None, **options: Any) -> Baseline:
    return Baseline(name, made_by, partial(_encode_pillow, options=options), _decode_pillow)


def _encode_pillow(pixels: Pixels, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **options)
    return out.getvalue()


def _decode_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _jpeg_xl(effort: int) -> Baseline:
    name = f"JPEG XL e{effort}"
    try:
        imagecodecs: Any = importlib.import_module("imagecodecs")
        library = f"imagecodecs {imagecodecs.__version__}, {imagecodecs.jpegxl_version()}"
    except (ImportError, AttributeError, RuntimeError):  # a build without JPEG XL raises when it is asked
        return Baseline(name, None, _missing, _missing)
    encode = partial(imagecodecs.jpegxl_encode, lossless=True, effort=effort, numthreads=1)
    return Baseline(name, library, encode, partial(imagecodecs.jpegxl_decode, numthreads=1))


def _missing(_: Any) -> Any:
    raise RuntimeError("not installed")


def baseline_bits(pixels: Pixels) -> dict[str, int]:
    """The files of the reported formats that are installed, in bits, for pixels uint8 (H, W, 3)."""
    return {
        baseline.name: 8 * len(baseline.encode(pixels))
        for baseline in list_baselines()
        if baseline.name in REPORTED and baseline.made_by is not None
    }
