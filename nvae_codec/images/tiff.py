"""TIFF files of one image: gray, RGB, alpha and palettes, of 1 to 16 bits a sample.

Pillow's libtiff only undoes the compression of rows of bytes; which bytes are which samples is decided here, as Pillow
drops the low bytes of 16-bit RGB and all samples that it does not know.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.layout import Layout, make_image, unpack_bits
from nvae_codec.images.limits import check_file_bytes, check_size
from nvae_codec.images.raster import Chunk, RasterImage
from nvae_codec.images.tiff_tags import Directory, pack_directories, read_directory

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_BYTES, RESOLUTION, PLANAR = 273, 274, 277, 278, 279, (282, 283), 284
T4_OPTIONS, T6_OPTIONS, UNIT, PREDICTOR, COLOUR_MAP = 292, 293, 296, 317, 320
TILE_SIZE, TILES, TILE_BYTES = (322, 323), 324, 325
SUB_IMAGES, EXTRA, FORMAT, XMP, EXIF, PROFILE, GPS = 330, 338, 339, 700, 34665, 34675, 34853
NONE, JPEG, FAX = 1, 7, (2, 3, 4)
PREDICTED = {5, 8, 32946, 34925, 50000}  # the compressions to which a predictor belongs
_LOSSLESS = {NONE, *FAX, 32773, *PREDICTED}
_BAND = 1 << 26  # bytes that Pillow decompresses at once; it refuses 179 MB
_OF_PIXELS = {
    254, 255, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 263, 264, 265, FILL_ORDER, STRIPS, ORIENTATION, SAMPLES,
    STRIP_ROWS, STRIP_BYTES, 280, 281, *RESOLUTION, PLANAR, 288, 289, 290, 291, T4_OPTIONS, T6_OPTIONS, UNIT, PREDICTOR,
    COLOUR_MAP, *TILE_SIZE, TILES, TILE_BYTES, 326, 327, 328, EXTRA, FORMAT, 347, 529, 530, 531, 532, XMP, PROFILE,
}  # fmt: skip
"""Tags whose meaning is in the pixels, or that are kept as other PNG chunks."""


@dataclass(frozen=True)
class _Plan:
    """How the samples lie in the file."""

    layout: Layout
    compression: int
    separate: bool  # a plane of each sample, one after another
    tile: tuple[int, int] | None  # width and height
    strip_rows: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    predictor: bool
    inverted: bool
    palette: bytes


def read_tiff(data: bytes) -> RasterImage:
    """The image of a TIFF file, upright, with its colour profile, resolution, XMP and other tags.

    Raises DamagedFileError; UnsupportedImageError for several images, samples without a meaning, floating ones,
    premultiplied alpha, CMYK and other colours, and data that no tag leads to after the end.
    """
    directory = read_directory(data)
    if directory.next:
        raise UnsupportedImageError("TIFF with several frames is not supported")
    if SUB_IMAGES in directory.tags:
        raise UnsupportedImageError("TIFF with images within its image is not supported")
    plan = _read_plan(directory)
    layout = plan.layout
    check_size(layout.width, layout.height)
    row_bits = layout.width * layout.channels * layout.bits
    check_file_bytes(len(data), layout.height * row_bits // 8, "TIFF")
    _check_all_is_used(data, directory, plan)
    samples = _read_jpeg(data, plan) if plan.compression == JPEG else _read_samples(data, plan, directory)
    if plan.inverted:
        samples = ((1 << plan.layout.bits) - 1) - samples
    samples = _turn_upright(samples, directory.number(ORIENTATION, 1))
    image = make_image(samples, plan.layout.bits, _metadata(directory), palette=plan.palette)
    turned = directory.number(ORIENTATION, 1) > 4
    width, height = (plan.layout.width, plan.layout.height)[:: -1 if turned else 1]
    Layout(width, height, plan.layout.channels, plan.layout.bits).check(image)
    return image


def _check_all_is_used(data: bytes, directory: Directory, plan: _Plan) -> None:
    """Refuse what lies in the file and no tag leads to, such as further frames that only a description tells of."""
    pixels = ((offset, offset + length) for offset, length in zip(plan.offsets, plan.lengths, strict=True))
    end = 8
    for start, stop in sorted((*directory.used, *pixels)):
        if stop > len(data):
            raise DamagedFileError("truncated TIFF: pixels are missing")
        if data[end:start].strip(b"\0"):
            raise UnsupportedImageError("TIFF with data that no tag leads to is not supported")
        end = max(end, stop)
    if data[end:].strip(b"\0"):
        raise UnsupportedImageError("TIFF with data after its end is not supported")


def _read_plan(directory: Directory) -> _Plan:
    number = directory.number
    channels, photometric, compression = number(SAMPLES, 1), number(PHOTOMETRIC, -1), number(COMPRESSION, NONE)
    bits = set(directory.numbers(BITS, (1,)))
    if len(bits) != 1:
        raise UnsupportedImageError("TIFF with different numbers of bits is not supported")
    if set(directory.numbers(FORMAT, (1,))) != {1}:
        raise UnsupportedImageError("TIFF of signed or floating samples is not supported")
    layout = Layout(number(WIDTH, 0), number(HEIGHT, 0), channels, bits.pop())
    if not (layout.width > 0 and layout.height > 0):
        raise DamagedFileError(f"damaged TIFF: a size of {layout.width}x{layout.height}")
    _check_samples(layout, photometric, directory.numbers(EXTRA, ()), compression)
    tile = (number(TILE_SIZE[0], 0), number(TILE_SIZE[1], 0)) if TILES in directory.tags else None
    offsets = directory.numbers(STRIPS if tile is None else TILES, ())
    lengths = directory.numbers(STRIP_BYTES if tile is None else TILE_BYTES, ())
    separate = number(PLANAR, 1) == 2 and channels > 1
    strip_rows = min(number(STRIP_ROWS, layout.height), layout.height)
    if strip_rows < 1 or (tile is not None and min(tile) < 1):
        raise DamagedFileError("damaged TIFF: its strips are empty")
    rows = strip_rows if tile is None else tile[1]
    expected = -(-layout.height // rows) * (1 if tile is None else -(-layout.width // tile[0]))
    if len(offsets) != len(lengths) or len(offsets) != expected * (channels if separate else 1):
        raise DamagedFileError("damaged TIFF: it has not the strips that it needs")
    predictor = number(PREDICTOR, 1)
    if predictor > 2 or (predictor == 2 and (layout.bits < 8 or compression not in PREDICTED)):
        raise UnsupportedImageError("TIFF with this predictor is not supported")
    palette = _read_palette(directory, layout) if photometric == 3 else b""
    return _Plan(
        layout, compression, separate, tile, strip_rows, offsets, lengths, predictor == 2, photometric == 0, palette
    )


def _check_samples(layout: Layout, photometric: int, extra: tuple[int, ...], compression: int) -> None:
    coloured = {0: 1, 1: 1, 2: 3, 3: 1}.get(photometric)
    if photometric == 6 and compression == JPEG:
        coloured = 3
    if coloured is None:
        name = {5: "CMYK", 6: "YCbCr", 8: "Lab"}.get(photometric, f"photometric interpretation {photometric}")
        raise UnsupportedImageError(f"TIFF of mode {name} is not supported")
    more = layout.channels - coloured
    if more == 1 and extra == (1,):
        raise UnsupportedImageError("TIFF with premultiplied alpha is not supported")
    if more < 0 or (more and (more > 1 or extra != (2,) or photometric == 3)):
        raise UnsupportedImageError("TIFF with more samples than its colours need is not supported")
    allowed = (1, 2, 4, 8, 16) if layout.channels == 1 and photometric != 3 else (8, 16)
    if layout.bits not in ((1, 2, 4, 8) if photometric == 3 else allowed):
        raise UnsupportedImageError(f"{layout.bits}-bit TIFF is not supported")
    plain = layout.bits == 8 and not more and photometric != 3
    if compression not in _LOSSLESS and not (compression == JPEG and plain):
        raise UnsupportedImageError(f"TIFF with compression {compression} is not supported")
    if compression in FAX and (layout.bits, layout.channels) != (1, 1):
        raise DamagedFileError("damaged TIFF: its compression is for 1 bit a pixel")


def _read_palette(directory: Directory, layout: Layout) -> bytes:
    values = np.array(directory.numbers(COLOUR_MAP, ()))
    if len(values) != 3 << layout.bits:
        raise DamagedFileError("damaged TIFF: its palette has not the entries that it needs")
    if (values >> 8 == (values & 255)).all() or not (values & 255).any():
        values = values >> 8
    elif values.max() > 255:  # some writers leave the high bytes 0
        raise UnsupportedImageError("TIFF with a palette of 16 bits is not supported")
    return bytes(values.reshape(3, -1).T.astype(np.uint8).tobytes())


def _read_samples(data: bytes, plan: _Plan, directory: Directory) -> NDArray[Any]:
    layout = plan.layout
    planes = layout.channels if plan.separate else 1
    own = 1 if plan.separate else layout.channels
    count = len(plan.offsets) // planes
    found = []
    for plane in range(planes):
        part = slice(plane * count, (plane + 1) * count)
        rows = _inflate(data, plan, own, plan.offsets[part], plan.lengths[part], directory)
        if layout.bits < 8:
            found.append(unpack_bits(rows, layout.width, layout.bits))
            continue
        values = rows.view(np.dtype(directory.order + "u2") if layout.bits == 16 else np.uint8)
        values = values.reshape(layout.height, layout.width, own).astype(np.uint16 if layout.bits == 16 else np.uint8)
        if plan.predictor:
            step = layout.width if plan.tile is None else plan.tile[0]
            for left in range(0, layout.width, step):
                part_of_row = values[:, left : left + step]
                np.cumsum(part_of_row, axis=1, dtype=values.dtype, out=part_of_row)
        found.append(values)
    if layout.bits < 8:
        return found[0]
    samples = np.concatenate(found, axis=2)
    return samples if layout.channels > 1 else samples[:, :, 0]


def _inflate(
    data: bytes, plan: _Plan, own: int, offsets: tuple[int, ...], lengths: tuple[int, ...], directory: Directory
) -> NDArray[np.uint8]:
    """The rows of bytes (H, bytes) of strips or tiles: Pillow reads them as a gray image of that width."""
    layout = plan.layout
    fax = plan.compression in FAX
    rows_each = plan.strip_rows if plan.tile is None else plan.tile[1]
    down = -(-layout.height // rows_each)

    def in_bytes(pixels: int) -> int:
        return -(-pixels * own * layout.bits // 8)

    width = layout.width if fax else in_bytes(layout.width)
    parts = [data[offset : offset + length] for offset, length in zip(offsets, lengths, strict=True)]
    if plan.compression == NONE and plan.tile is None and directory.number(FILL_ORDER, 1) == 1:
        return _join_strips(parts, layout.height, width, rows_each)
    if rows_each * width > 2 * _BAND:
        raise UnsupportedImageError(f"TIFF with strips or tiles above {2 * _BAND >> 20} MiB is not supported")
    tags: dict[int, tuple[int, ...]] = {
        WIDTH: (width,),
        BITS: (1 if fax else 8,),
        COMPRESSION: (plan.compression,),
        PHOTOMETRIC: (1,),
        SAMPLES: (1,),
    }
    if plan.tile is None:
        tags[STRIP_ROWS] = (rows_each,)
    else:
        tags |= {TILE_SIZE[0]: (plan.tile[0] if fax else in_bytes(plan.tile[0]),), TILE_SIZE[1]: (rows_each,)}
    for tag in (FILL_ORDER, T4_OPTIONS, T6_OPTIONS):
        if tag in directory.tags:
            tags[tag] = directory.numbers(tag, ())
    at_once, across = max(1, _BAND // (rows_each * width)), len(parts) // down
    bands = []
    for first in range(0, down, at_once):
        height = min(layout.height - first * rows_each, at_once * rows_each)
        some = parts[first * across : (first + at_once) * across]
        rows = _decode(_pack_plain(tags | {HEIGHT: (height,)}, some, tiles=plan.tile is not None))
        if rows.shape != (height, width):
            raise DamagedFileError("damaged TIFF: its rows are of another length")
        bands.append(np.packbits(rows, axis=1) if fax else rows)
    return np.concatenate(bands)


def _join_strips(parts: list[bytes], height: int, width: int, rows_each: int) -> NDArray[np.uint8]:
    """Rows of uncompressed strips."""
    tops = range(0, height, rows_each)
    sizes = [min(rows_each, height - top) * width for top in tops]
    if any(len(part) < size for part, size in zip(parts, sizes, strict=True)):
        raise DamagedFileError("truncated TIFF: pixels are missing")
    joined = b"".join(part[:size] for part, size in zip(parts, sizes, strict=True))
    return np.frombuffer(joined, np.uint8).reshape(height, width).copy()


def _pack_plain(tags: dict[int, tuple[int, ...]], parts: list[bytes], *, tiles: bool) -> bytes:
    """A TIFF of these tags, of 4 bytes a number, and strips or tiles."""
    places = TILES if tiles else STRIPS
    tags = tags | {places: (0,) * len(parts), TILE_BYTES if tiles else STRIP_BYTES: tuple(map(len, parts))}
    size = 8 + 2 + 12 * len(tags) + 4
    positions, at = {}, size
    for tag, values in tags.items():
        if len(values) > 1:
            positions[tag], at = at, at + 4 * len(values)
    starts = []
    for part in parts:
        starts.append(at)
        at += len(part)
    tags = tags | {places: tuple(starts)}
    out = bytearray(struct.pack("<2sHIH", b"II", 42, 8, len(tags)))
    for tag in sorted(tags):
        out += struct.pack("<HHII", tag, 4, len(tags[tag]), positions.get(tag, tags[tag][0]))
    out += bytes(4)
    for tag in positions:
        out += struct.pack(f"<{len(tags[tag])}I", *tags[tag])
    return bytes(out) + b"".join(parts)


def _decode(data: bytes) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as image:
                return np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises what comes: OSError, SyntaxError, ValueError, struct.error
        raise DamagedFileError(f"damaged TIFF: {error}") from error


def _read_jpeg(data: bytes, plan: _Plan) -> NDArray[np.uint8]:
    """The pixels of a TIFF that holds JPEG data, whose colours Pillow converts."""
    pixels = _decode(data)
    expected = (plan.layout.height, plan.layout.width, 3)[: 3 if plan.layout.channels > 1 else 2]
    if pixels.dtype != np.uint8 or sorted(pixels.shape) != sorted(expected):
        raise DamagedFileError("damaged TIFF: its JPEG data are of another size")
    return pixels


def _turn_upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows from the top and columns from the left, as Pillow gives them, too."""
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _metadata(directory: Directory) -> tuple[Chunk, ...]:
    """Colour profile, resolution, all other tags as EXIF data, and XMP."""
    chunks = []
    if PROFILE in directory.tags:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(directory.raw(PROFILE), 9)))
    unit = {2: 1 / 0.0254, 3: 100.0}.get(directory.number(UNIT, 2))
    dots = [directory.ratio(tag) for tag in RESOLUTION]
    if unit is not None and all(dots) and all(1 <= each * unit < 1 << 31 for each in dots):
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *(round(each * unit) for each in dots), 1)))
    exif = pack_directories(directory, _OF_PIXELS, (EXIF, GPS))
    if exif:
        chunks.append(Chunk(b"eXIf", exif))
    if XMP in directory.tags:
        chunks.append(Chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + directory.raw(XMP).rstrip(b"\0")))
    return (*chunks, Chunk(b"IDAT", b"")) if chunks else ()
