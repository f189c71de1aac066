"""BMP files: palettes of 1 to 8 bits, and 24 or 32 bits a pixel."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.layout import Layout, make_image, unpack_bits
from nvae_codec.images.limits import check_size
from nvae_codec.images.raster import Chunk, RasterImage

_NAMES = {1: "run-length coded", 2: "run-length coded", 4: "JPEG in", 5: "PNG in"}
_BGR = (0x00FF0000, 0x0000FF00, 0x000000FF, 0)


@dataclass(frozen=True)
class _Header:
    """What both headers of a BMP say."""

    offset: int  # of the pixels
    end: int  # of the headers and masks
    width: int
    height: int
    top_down: bool
    bits: int  # a pixel
    per_metre: tuple[int, int]
    entries: int  # of the palette
    entry_bytes: int
    masks: tuple[int, int, int, int]  # red, green, blue, alpha
    profile: tuple[int, int] | None  # where it is, and its bytes


def read_bmp(data: bytes) -> RasterImage:
    """The image of a BMP file, its colour profile and resolution.

    Palettes of the gray ramp are gray. Raises DamagedFileError; UnsupportedImageError for run-length coded files and
    other layouts, and for data after the end.
    """
    header = _read_header(data)
    check_size(header.width, header.height)
    stride = (header.width * header.bits + 31) // 32 * 4
    end = header.offset + stride * header.height
    if end > len(data):
        raise DamagedFileError("truncated BMP: pixels are missing")
    _check_rest(data, header, end)
    rows = np.frombuffer(data, np.uint8, stride * header.height, header.offset).reshape(header.height, stride)
    rows = rows if header.top_down else rows[::-1]
    chunks = _metadata(data, header)
    image = _read_palette(data, header, rows, chunks) if header.bits <= 8 else _read_colours(header, rows, chunks)
    Layout(header.width, header.height, image.colour.channels, min(header.bits, 8)).check(image)
    return image


def _read_header(data: bytes) -> _Header:
    if len(data) < 26:
        raise DamagedFileError("truncated BMP: its header is missing")
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, planes, bits = struct.unpack_from("<HHHH", data, 18)
        compression, per_metre, used, entry_bytes = 0, (0, 0), 0, 3
    elif size in (40, 52, 56, 64, 108, 124) and len(data) >= 14 + size:
        width, height, planes, bits, compression, _, *per, used = struct.unpack_from("<iiHHIIiiI", data, 18)
        per_metre, entry_bytes = (per[0], per[1]), 4
    else:
        raise UnsupportedImageError(f"BMP with a header of {size} bytes is not supported")
    if width <= 0 or height == 0 or planes != 1:
        raise DamagedFileError(f"damaged BMP: a size of {width}x{height} in {planes} planes")
    masks, end = _BGR, 14 + size
    if compression == 3 and bits == 32 and size != 64:
        end += 12 if size == 40 else 0
        if end > len(data):
            raise DamagedFileError("truncated BMP: its masks are missing")
        masks = (*struct.unpack_from("<III", data, 54), struct.unpack_from("<I", data, 66)[0] if size >= 56 else 0)
    elif compression:
        raise UnsupportedImageError(f"{_NAMES.get(compression, f'compression {compression} in')} BMP is not supported")
    if bits not in (1, 2, 4, 8, 24, 32):
        raise UnsupportedImageError(f"BMP of {bits} bits a pixel is not supported")
    if offset < end:
        raise DamagedFileError("damaged BMP: its pixels begin within its header")
    entries = 0 if bits > 8 else used or 1 << bits
    if entries > 1 << bits or end + entries * entry_bytes > offset:
        entries = min(entries, 1 << bits, max(0, offset - end) // entry_bytes)
    profile = struct.unpack_from("<II", data, 14 + 112) if size == 124 and data[14 + 56 : 14 + 60] == b"DEBM" else None
    return _Header(offset, end, width, abs(height), height < 0, bits, per_metre, entries, entry_bytes, masks, profile)


def _check_rest(data: bytes, header: _Header, end: int) -> None:
    """Refuse what lies in the file and is not read: between headers and pixels, and after them."""
    if header.profile is not None:
        start, size = header.profile
        if 14 + start + size > len(data):
            raise DamagedFileError("truncated BMP: its colour profile is missing")
        if 14 + start >= end:
            end = 14 + start + size
    if data[header.end + header.entries * header.entry_bytes : header.offset].strip(b"\0"):
        raise UnsupportedImageError("BMP with data before its pixels is not supported")
    if data[end:].strip(b"\0"):
        raise UnsupportedImageError("BMP with data after its end is not supported")


def _read_palette(data: bytes, header: _Header, rows: NDArray[np.uint8], chunks: tuple[Chunk, ...]) -> RasterImage:
    indices = unpack_bits(rows, header.width, header.bits)
    count = header.entries * header.entry_bytes
    entries = np.frombuffer(data, np.uint8, count, header.end).reshape(header.entries, header.entry_bytes)
    palette = np.ascontiguousarray(entries[:, 2::-1])
    ramp = np.arange(1 << header.bits) * (255 // ((1 << header.bits) - 1))
    if len(palette) == len(ramp) and (palette == ramp[:, None]).all():
        return make_image(indices, header.bits, chunks)
    return make_image(indices, header.bits, chunks, palette=palette.tobytes() or b"\0\0\0")


def _read_colours(header: _Header, rows: NDArray[np.uint8], chunks: tuple[Chunk, ...]) -> RasterImage:
    count = header.bits // 8
    pixels = rows[:, : header.width * count].reshape(header.height, header.width, count)
    if count == 3:
        return make_image(pixels[:, :, ::-1], 8, chunks)
    places = [{0xFF << 8 * at: at for at in range(4)}.get(mask) for mask in header.masks]
    if None in places[:3] or (header.masks[3] and places[3] is None) or len(set(places)) != 4:
        raise UnsupportedImageError("BMP whose colours have other than 8 bits is not supported")
    fourth = ({0, 1, 2, 3} - {place for place in places[:3] if place is not None}).pop()
    order = [place for place in places[:3] if place is not None]
    if header.masks[3] or pixels[:, :, fourth].any():  # often alpha, though the header of 40 bytes does not say so
        order.append(fourth)
    return make_image(pixels[:, :, order], 8, chunks)


def _metadata(data: bytes, header: _Header) -> tuple[Chunk, ...]:
    chunks = []
    if header.profile is not None:
        start, size = header.profile
        profile = data[14 + start : 14 + start + size]
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile, 9)))
    if all(dots > 0 for dots in header.per_metre):
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *header.per_metre, 1)))
    return (*chunks, Chunk(b"IDAT", b"")) if chunks else ()
