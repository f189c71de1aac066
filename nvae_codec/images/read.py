"""Read an image's file without losing a bit of it, or refuse it by name.

What a file holds is read from its own header, by code of this room, and compared with what a decoder gives.
"""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError, WebPImagePlugin

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.bmp import read_bmp
from nvae_codec.images.jpeg import parse_jpeg
from nvae_codec.images.layout import MODES, make_image
from nvae_codec.images.limits import check_file_bytes, check_size
from nvae_codec.images.png import (
    HEADER_BYTES,
    SIGNATURE,
    PngFile,
    parse_png,
    pixels_only,
    read_header,
    split_bytes,
    split_chunks,
)
from nvae_codec.images.pnm import read_layout, read_pnm
from nvae_codec.images.raster import GRAY1, RasterImage, find_colour
from nvae_codec.images.riff import parse_webp
from nvae_codec.images.tiff import read_tiff

_METADATA_LIMIT = 1 << 26  # bytes of PNG chunks beyond which an image is kept as its file


def read_image(data: bytes, *, pixels_alone: bool = False) -> RasterImage:
    """Read the bytes of a PNG, JPEG, WebP, TIFF, BMP, PNM or PAM file.

    They come as pixels: gray of few bits as levels from 0, a palette as indices into it; with the metadata of other
    formats as PNG chunks. A PNG or JPEG with data after its end, or a PNG with too much metadata, is kept as its file.
    The decoded pixels of a JPEG count, and so do those of lossy WebP; ``file`` holds their own bytes, too. With
    ``pixels_alone`` there are pixels whatever else is in a PNG or JPEG.

    Raises DamagedFileError for files that are not sound, and UnsupportedImageError for those that are no images, whose
    samples could not all be kept, or that are beyond Pillow's pixel limit.
    """
    if not data:
        raise DamagedFileError("empty file")
    match data[:2]:
        case b"\x89P" if data[:8] == SIGNATURE:
            return _read_png(data, pixels_alone=pixels_alone)
        case b"\xff\xd8":
            return _read_jpeg(data, pixels_alone=pixels_alone)
        case b"RI" if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
        case b"II" | b"MM":
            return read_tiff(data)
        case b"BM":
            return read_bmp(data)
        case b"P1" | b"P2" | b"P3" | b"P4" | b"P5" | b"P6" | b"P7":
            return read_pnm(data)
    if b"IHDR" in data[8:20]:
        raise DamagedFileError("damaged PNG: its signature is wrong")
    raise _unknown(data)


def read_own_file(data: bytes) -> RasterImage:
    """An image that is kept as its own PNG, JPEG or WebP: nothing but its header is decoded.

    Raises as ``read_image``.
    """
    if data[:8] == SIGNATURE:
        png = parse_png(data)
        return RasterImage(png.width, png.height, png.colour, None, (), data)
    if data[:2] == b"\xff\xd8":
        layout = parse_jpeg(data).layout
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        layout = parse_webp(data).layout
    else:
        raise DamagedFileError("damaged: the file that it holds is no PNG, JPEG or WebP")
    check_size(layout.width, layout.height)
    return RasterImage(layout.width, layout.height, find_colour(MODES[layout.channels], layout.bits), None, (), data)


def find_suffix(data: bytes) -> str:
    """The suffix of a file that ``write_png`` gives: .png, or that of an image's own file."""
    return {b"\xff\xd8": ".jpg", b"RI": ".webp"}.get(data[:2], ".png")


def read_size(path: Path) -> tuple[int, int]:
    """Width and height as an image's file says them at its beginning; nothing is decoded.

    Raises OSError, and what comes where it is no image.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7"):
        layout = read_layout(head)[0]
        return layout.width, layout.height
    if head[:8] == SIGNATURE:
        return read_header(next(split_chunks(head[:HEADER_BYTES])))[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            return image.size


def read_pixels(image: RasterImage, for_what: str) -> NDArray[np.uint8]:
    """An image's pixels, out of its PNG where it is kept as one; raises UnsupportedImageError where it has none."""
    if image.pixels is None and image.file is not None:
        image = read_image(image.file, pixels_alone=True)
    if image.pixels is not None and image.colour == GRAY1:
        return image.pixels
    return image.require_pixels(for_what)


def _read_png(data: bytes, *, pixels_alone: bool) -> RasterImage:
    png = parse_png(data)
    chunks = png.chunks if len(png.chunks) > 1 else ()
    why = _why_file_only(png)
    if why and not pixels_alone:
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


def _read_jpeg(data: bytes, *, pixels_alone: bool) -> RasterImage:
    jpeg = parse_jpeg(data)
    check_size(jpeg.layout.width, jpeg.layout.height)
    image = make_image(_decode(JpegImagePlugin.JpegImageFile, data, "JPEG"), 8, jpeg.chunks, file=data)
    image = replace(image, not_in_pixels=", ".join(jpeg.other))
    jpeg.layout.check(image)
    if jpeg.trailing and not pixels_alone:
        why = "has data after its end, as of a second image"
        return RasterImage(image.width, image.height, image.colour, None, (), data, why)
    return image


def _read_webp(data: bytes) -> RasterImage:
    webp = parse_webp(data)
    check_size(webp.layout.width, webp.layout.height)
    check_file_bytes(len(data), 4 * webp.layout.width * webp.layout.height, "WebP")
    image = make_image(_decode(WebPImagePlugin.WebPImageFile, data, "WebP"), 8, webp.chunks, file=data)
    webp.layout.check(image)
    return image


def _decode(plugin: type[Image.Image], data: bytes, name: str) -> NDArray[np.uint8]:
    """The pixels that Pillow gives. The plug-in is called itself: ``Image.open`` may choose another."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with plugin(io.BytesIO(data)) as image:  # type: ignore[call-arg]
                return np.array(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise what comes: OSError, SyntaxError, ValueError, struct.error
        raise DamagedFileError(f"damaged {name}: {error}") from error


def _unknown(data: bytes) -> UnsupportedImageError:
    """What is said of files of other formats."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return UnsupportedImageError(f"{image.format} files are not supported")
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return UnsupportedImageError("not an image, or of a format that is not supported")
    except Exception:  # a plug-in that took it and failed
        return UnsupportedImageError("an image of a format that is not supported, or damaged")
