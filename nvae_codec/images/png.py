"""The structure of a PNG file, checked chunk by chunk, and PNG files written from chunks.

Pillow decodes many damaged PNGs without a word and gives 16-bit RGB as 8 bits, so whether a file is sound, and what
its pixels are, is decided here; Pillow only undoes the filters of files that passed.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.limits import check_size
from nvae_codec.images.raster import COLOURS, Chunk, Colour, find_colour

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = len(SIGNATURE) + 12 + 13  # a file's beginning, with the whole IHDR chunk
PAETH = 4  # the row filter's number
IDAT_PLACE = Chunk(b"IDAT", b"")

# x and y of the first pixel, and the steps between pixels, of the seven passes of Adam7
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class PngFile:
    """A sound PNG: its header, its compressed pixels, and the chunks around them in their order."""

    width: int
    height: int
    colour: Colour
    interlaced: bool
    chunks: tuple[Chunk, ...]  # all but IHDR and IEND; one empty IDAT stands where the pixels were
    pixel_stream: bytes  # the data of all IDAT chunks: one zlib stream
    trailing: bool  # whether bytes follow IEND, or the stream in the IDAT chunks


def parse_png(data: bytes) -> PngFile:
    """Check a whole PNG file and take it apart.

    Raises DamagedFileError for anything that the PNG specification forbids in the signature, the chunks (lengths,
    checksums, order) or the pixel stream, and UnsupportedImageError for animations, unknown critical chunks and
    images beyond the size limit.
    """
    if data[:8] != SIGNATURE:
        raise DamagedFileError("damaged PNG: its signature is wrong")
    chunks = split_chunks(data)
    first = next(chunks)
    width, height, colour, interlaced = read_header(first)
    kept: list[Chunk] = []
    stream: list[bytes] = []
    size = 8 + 12 + len(first.data)
    previous, ended = b"IHDR", False
    for chunk in chunks:
        size += 12 + len(chunk.data)
        if chunk.type == b"IEND":
            if chunk.data:
                raise DamagedFileError("damaged PNG: its IEND chunk is not empty")
            ended = True
            break
        if chunk.type == b"IDAT":
            if stream and previous != b"IDAT":
                raise DamagedFileError("damaged PNG: its IDAT chunks are not consecutive")
            if not stream:
                kept.append(IDAT_PLACE)
            stream.append(chunk.data)
        else:
            _check_chunk(chunk)
            kept.append(chunk)
        previous = chunk.type
    if not stream:
        raise DamagedFileError("damaged PNG: it has no IDAT chunk")
    if not ended:
        raise DamagedFileError("damaged PNG: it has no IEND chunk")
    check_palette(colour, kept)
    png = PngFile(width, height, colour, interlaced, tuple(kept), b"".join(stream), size < len(data))
    unused = _check_stream(png)
    if not unused:
        return png
    return dataclasses.replace(png, pixel_stream=png.pixel_stream[:-unused], trailing=True)


def split_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG file, each with its checksum verified; raises DamagedFileError."""
    position = 8
    while position < len(data):
        if position + 12 > len(data):
            raise DamagedFileError("truncated PNG: it ends within a chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        name = kind.decode("latin-1")
        if not (kind.isalpha() and kind.isascii()):
            raise DamagedFileError("damaged PNG: a chunk's name is not four letters")
        if length > len(data) - position - 12:
            raise DamagedFileError(f"truncated PNG: it ends within its {name} chunk")
        end = position + 8 + length
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise DamagedFileError(f"damaged PNG: the checksum of its {name} chunk is wrong")
        yield Chunk(kind, data[position + 8 : end])
        position = end + 4
    if position == 8:
        raise DamagedFileError("truncated PNG: it has no chunks")


def join_chunks(chunks: Iterable[Chunk]) -> bytes:
    """A PNG file of these chunks: the signature, and each chunk with its length and checksum."""
    parts = [SIGNATURE]
    for chunk in chunks:
        body = chunk.type + chunk.data
        parts += [struct.pack(">I", len(chunk.data)), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(parts)


def pixels_only(png: PngFile) -> bytes:
    """The same samples as a PNG without any metadata.

    Of palettes and of less than 8 bits as places in a palette, which Pillow gives as they are.
    """
    places = png.colour.mode == "palette" or png.colour.bits < 8
    colour = find_colour("palette", png.colour.bits) if places else png.colour
    header = pack_header(png.width, png.height, colour, interlaced=png.interlaced)
    palette = [Chunk(b"PLTE", bytes(3 << colour.bits))] if places else []
    return join_chunks([header, *palette, Chunk(b"IDAT", png.pixel_stream), Chunk(b"IEND", b"")])


def split_bytes(png: PngFile) -> tuple[PngFile, PngFile]:
    """A PNG of 16 bits as two of 8, of its samples' high bytes and of their low ones.

    A row's filter looks at the same byte of other samples, so it is undone for each of the two alone.
    """
    rows_of_bytes = np.frombuffer(zlib.decompress(png.pixel_stream), np.uint8)
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    start = 0
    for rows, stride in _passes(png):
        end = start + rows * stride
        lines = rows_of_bytes[start:end].reshape(rows, stride)
        for part, first in zip(parts, (1, 2), strict=True):
            part.append(np.hstack([lines[:, :1], lines[:, first::2]]).tobytes())
        start = end
    colour = find_colour(png.colour.mode, 8)
    high, low = (
        dataclasses.replace(png, colour=colour, pixel_stream=zlib.compress(b"".join(part), 0)) for part in parts
    )
    return high, low


def pack_pixels(samples: NDArray[np.uint8]) -> Chunk:
    """The IDAT chunk of bytes (H, W, bytes of a pixel), rows filtered with Paeth's predictor."""
    step, left = samples.shape[2], np.zeros_like(samples)
    above, corner = left.copy(), left.copy()
    left[:, 1:], above[1:], corner[1:, 1:] = samples[:, :-1], samples[:-1], samples[:-1, :-1]
    a, b, c = (neighbour.astype(np.int16) for neighbour in (left, above, corner))
    to_left, to_above, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    nearest = np.where(to_above <= to_corner, above, corner)
    predicted = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
    rows = (samples - predicted).reshape(len(samples), samples.shape[1] * step)
    return Chunk(b"IDAT", zlib.compress(np.insert(rows, 0, PAETH, axis=1).tobytes(), 3))


def pack_places(samples: NDArray[np.uint8], bits: int) -> Chunk:
    """The IDAT chunk of (H, W) samples of at most 8 bits, whose rows are not filtered: places seldom gain from that."""
    a_byte = 8 // bits
    padded = np.pad(samples, ((0, 0), (0, -samples.shape[1] % a_byte)))
    rows = np.zeros((len(samples), 1 + padded.shape[1] // a_byte), np.uint8)  # each behind its filter's number, 0
    for place in range(a_byte):
        rows[:, 1:] |= padded[:, place::a_byte] << np.uint8(8 - bits * (place + 1))
    return Chunk(b"IDAT", zlib.compress(rows.tobytes()))


def pack_header(width: int, height: int, colour: Colour, *, interlaced: bool = False) -> Chunk:
    """The IHDR chunk."""
    kinds = (width, height, colour.bits, colour.png_type, 0, 0, int(interlaced))
    return Chunk(b"IHDR", struct.pack(">IIBBBBB", *kinds))


def read_header(chunk: Chunk) -> tuple[int, int, Colour, bool]:
    """Width, height, colour, and whether it is interlaced, of an IHDR chunk; raises as ``parse_png``."""
    if chunk.type == b"CgBI":
        raise UnsupportedImageError("Apple's PNG (CgBI) is not supported")
    if chunk.type != b"IHDR" or len(chunk.data) != 13:
        raise DamagedFileError("damaged PNG: it does not begin with a header (IHDR)")
    width, height, bits, png_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunk.data)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise DamagedFileError(f"damaged PNG: a size of {width}x{height}")
    if png_type not in {colour.png_type for colour in COLOURS}:
        raise DamagedFileError(f"damaged PNG: there is no colour type {png_type}")
    colour = next((known for known in COLOURS if (known.png_type, known.bits) == (png_type, bits)), None)
    if colour is None:
        raise DamagedFileError(f"damaged PNG: colour type {png_type} cannot have {bits} bits")
    if compression or filtering or interlace > 1:
        raise DamagedFileError("damaged PNG: an unknown compression, filter or interlace method")
    check_size(width, height)
    return width, height, colour, interlace == 1


def check_palette(colour: Colour, chunks: Sequence[Chunk]) -> None:
    """Raise DamagedFileError for a palette that a PNG of this colour cannot have there, and where one is missing."""
    types = [chunk.type for chunk in chunks]
    palettes = [chunk for chunk in chunks if chunk.type == b"PLTE"]
    if colour.mode == "palette" and not palettes:
        raise DamagedFileError("damaged: its palette is missing")
    most = 1 << colour.bits if colour.mode == "palette" else 256
    for chunk in palettes:
        entries, rest = divmod(len(chunk.data), 3)
        if colour.is_gray or rest or not 1 <= entries <= most:
            raise DamagedFileError("damaged: a palette that its colour cannot have")
    if palettes and (len(palettes) > 1 or types.index(b"PLTE") > types.index(b"IDAT")):
        raise DamagedFileError("damaged: its palette is in the wrong place")


def _check_chunk(chunk: Chunk) -> None:
    if chunk.type == b"IHDR":
        raise DamagedFileError("damaged PNG: a second header (IHDR)")
    if chunk.type == b"acTL":
        raise UnsupportedImageError("animated PNG is not supported")
    if chunk.type[:1].isupper() and chunk.type != b"PLTE":
        raise UnsupportedImageError(f"PNG with an unknown critical chunk ({chunk.type.decode('ascii')})")


def _check_stream(png: PngFile) -> int:
    """Inflate the pixels: the stream must be whole, of exactly the image's length, and of known row filters.

    How many bytes follow it in the IDAT chunks.
    """
    passes = list(_passes(png))
    expected = sum(rows * stride for rows, stride in passes)
    inflater = zlib.decompressobj()
    try:
        rows_of_bytes = inflater.decompress(png.pixel_stream, expected + 1)
        if not inflater.eof and len(rows_of_bytes) == expected:
            rows_of_bytes += inflater.decompress(inflater.unconsumed_tail, 1)  # lets it read its checksum
    except zlib.error as error:
        raise DamagedFileError("damaged PNG: its compressed pixels are damaged") from error
    if len(rows_of_bytes) > expected:
        raise DamagedFileError("damaged PNG: it has more pixels than its header says")
    if len(rows_of_bytes) < expected or not inflater.eof:
        raise DamagedFileError("truncated PNG: pixels are missing")
    start = 0
    for rows, stride in passes:
        end = start + rows * stride
        if max(rows_of_bytes[start:end:stride]) > 4:
            raise DamagedFileError("damaged PNG: a row has an unknown filter")
        start = end
    return len(inflater.unused_data)


def _passes(png: PngFile) -> Iterator[tuple[int, int]]:
    """Rows, and bytes a row with its filter byte, of each pass that is not empty."""
    passes = ADAM7 if png.interlaced else ((0, 0, 1, 1),)
    for left, top, step_x, step_y in passes:
        columns = (png.width - left + step_x - 1) // step_x
        rows = (png.height - top + step_y - 1) // step_y
        if columns > 0 and rows > 0:
            yield rows, 1 + (columns * png.colour.bits * png.colour.channels + 7) // 8
