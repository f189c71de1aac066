"""Read an image's file without losing a bit of it, or refuse it by name."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnsupportedImageError
from nvae_codec.images.limits import check_size
from nvae_codec.images.png import (
    HEADER_BYTES,
    IDAT_PLACE,
    SIGNATURE,
    PngFile,
    parse_png,
    pixels_only,
    read_header,
    split_bytes,
    split_chunks,
)
from nvae_codec.images.raster import GRAY1, PIXEL_COLOURS, Chunk, RasterImage

_PIXEL_FORMATS = frozenset(("PPM", "BMP", "DIB", "WEBP", "TIFF", "JPEG", "MPO"))
_PIXEL_MODES = frozenset(("L", "LA", "RGB", "RGBA"))
_METADATA_LIMIT = 1 << 26  # bytes of PNG chunks beyond which an image is kept as its file


def read_image(data: bytes) -> RasterImage:
    """Read the bytes of a PNG, PPM, BMP, WebP, TIFF or JPEG file.

    All that a PNG may be comes as pixels, gray of few bits as levels from 0, a palette as places in it; but one with
    data behind its end, or too much metadata, is kept as the file that it is. Of other formats, which have 8 bits, the
    decoded pixels count, and their colour profile, EXIF data, XMP and dots an inch are kept as PNG chunks.

    Raises DamagedFileError for files that are not sound images, UnsupportedImageError for images whose every bit
    could not be kept, and for those beyond Pillow's pixel limit.
    """
    if not data:
        raise DamagedFileError("empty file")
    if data[:8] == SIGNATURE:
        return _read_png(data)
    if b"IHDR" in data[8:20]:
        raise DamagedFileError("damaged PNG: its signature is wrong")
    return _read_pixels(data)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height as an image's file says them at its beginning; nothing is decoded.

    Raises OSError, and what comes where it is no image.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if head[:8] == SIGNATURE:
        return read_header(next(split_chunks(head)))[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            return image.size


def read_pixels(image: RasterImage, for_what: str) -> NDArray[np.uint8]:
    """A image's pixels, out of its PNG where it is kept as one; raises UnsupportedImageError where it has none."""
    if image.pixels is None and image.png is not None:
        image = read_image(image.png)
    if image.pixels is not None and image.colour == GRAY1:
        return image.pixels
    return image.require_pixels(for_what)


def _read_png(data: bytes) -> RasterImage:
    png = parse_png(data)
    chunks = png.chunks if len(png.chunks) > 1 else ()
    why = _why_file_only(png)
    if why:
        return RasterImage(png.width, png.height, png.colour, None, (), data, why)
    if png.colour.bits == 16:
        high, low = map(_decode_png, split_bytes(png))
        return RasterImage(png.width, png.height, png.colour, high, chunks, data, low=low)
    return RasterImage(png.width, png.height, png.colour, _decode_png(png), chunks, data)


def _why_file_only(png: PngFile) -> str:
    if png.trailing:
        return "has data after its end"
    if sum(len(chunk.data) + 16 for chunk in png.chunks) > _METADATA_LIMIT:
        return "has more metadata than is kept beside pixels"
    return ""


def _decode_png(png: PngFile) -> NDArray[np.uint8]:
    # Without its metadata: Pillow has limits and opinions about some chunks that have nothing to do with pixels.
    with Image.open(io.BytesIO(pixels_only(png)), formats=("PNG",)) as image:
        pixels = np.asarray(image)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels != png.colour.channels or pixels.shape[:2] != (png.height, png.width):
        raise UnsupportedImageError(f"PNG that Pillow reads as {pixels.dtype} of shape {pixels.shape}")
    return pixels


def _read_pixels(data: bytes) -> RasterImage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                _check_exact(image, data)
                check_size(*image.size)
                pixels = np.array(image)
                chunks = _metadata_chunks(image)
    except NvaeCodecError:
        raise
    except UnidentifiedImageError as error:
        raise DamagedFileError("not an image, or none of a kind that is known here") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsupportedImageError(f"more than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise what comes: OSError, SyntaxError, ValueError, struct.error
        raise DamagedFileError(f"damaged image: {error}") from error
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in PIXEL_COLOURS or pixels.size == 0:
        raise UnsupportedImageError(f"pixels of type {pixels.dtype} and shape {pixels.shape} are not supported")
    return RasterImage.from_pixels(pixels, chunks)


def _check_exact(image: Image.Image, data: bytes) -> None:
    """Refuse what Pillow would reduce to 8 bits, convert, or show only a part of."""
    name = {"MPO": "JPEG", "DIB": "BMP", "PPM": "PNM"}.get(image.format or "", image.format)
    if image.format not in _PIXEL_FORMATS:
        raise UnsupportedImageError(f"{name} files are not supported")
    if image.format == "TIFF":
        _check_tiff(image)
    if image.format == "PPM":
        header = re.match(rb"P[2356]\s(?:\s|#[^\n]*\n)*\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s", data)
        if header is None or int(header[1]) != 255:
            raise UnsupportedImageError("PNM that does not have 8 bits a sample (a maximum of 255) is not supported")
        samples = image.width * image.height * len(image.getbands())
        if header[0][1:2] in b"56" and re.match(rb"P[1-7]\s", data[header.end() + samples :][:3]):
            raise UnsupportedImageError("PNM with several images is not supported")
    if getattr(image, "n_frames", 1) != 1:
        raise UnsupportedImageError(f"{name} with several frames is not supported")
    if image.mode not in _PIXEL_MODES:
        raise UnsupportedImageError(f"{name} of mode {image.mode} is not supported")


def _check_tiff(image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (1,))
    if any(depth != 8 for depth in bits):
        raise UnsupportedImageError(f"{max(bits)}-bit TIFF is not supported")
    if any(kind != 1 for kind in tags.get(339, (1,))):
        raise UnsupportedImageError("TIFF of signed or floating samples is not supported")
    if 1 in tags.get(338, ()):  # Pillow divides by the alpha, which is not exact
        raise UnsupportedImageError("TIFF with premultiplied alpha is not supported")


def _metadata_chunks(image: Image.Image) -> tuple[Chunk, ...]:
    """Colour profile, dots an inch, EXIF data and XMP of a file that is not a PNG, as PNG chunks that hold the same."""
    chunks = []
    profile = image.info.get("icc_profile")
    if profile:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile, 9)))
    # without a density of its own a file has Pillow's guess, or what its EXIF data say
    stated = {"JPEG": image.info.get("jfif_unit") in (1, 2), "MPO": False, "TIFF": 282 in getattr(image, "tag_v2", {})}
    per_metre = [float(dots) / 0.0254 for dots in image.info.get("dpi", ()) if stated.get(image.format or "", True)]
    if len(per_metre) == 2 and all(1 <= dots < 1 << 31 for dots in per_metre):
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *map(round, per_metre), 1)))
    exif = image.info.get("exif")
    if exif:
        chunks.append(Chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    xmp = image.info.get("xmp")
    if isinstance(xmp, bytes):
        chunks.append(Chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp))
    return (*chunks, IDAT_PLACE) if chunks else ()
