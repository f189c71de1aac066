import struct
import zlib

import pytest

from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnsupportedImageError
from nvae_codec.images.png import SIGNATURE, join_chunks, parse_png, split_chunks
from nvae_codec.images.raster import Chunk, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png


def header(width: int = 2, height: int = 2, bits: int = 8, kind: int = 2, *rest: int) -> Chunk:
    return Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, *(rest or (0, 0, 0))))


def pixels(raw: bytes = bytes(14)) -> Chunk:
    return Chunk(b"IDAT", zlib.compress(raw))


END = Chunk(b"IEND", b"")
TEXT = Chunk(b"tEXt", b"Title\0Harbour")
PALETTE = Chunk(b"PLTE", bytes(6))


def test_a_plain_png_is_read() -> None:
    image = read_image(join_chunks([header(), pixels(), END]))
    assert image.pixels is not None
    assert image.pixels.shape == (2, 2, 3)
    assert image.chunks == ()


def test_chunks_keep_their_places() -> None:
    chunks = [header(), Chunk(b"gAMA", bytes(4)), PALETTE, pixels(), TEXT, Chunk(b"prVt", b"\0\1"), END]
    image = read_image(join_chunks(chunks))
    written = list(split_chunks(write_png(image)))
    assert [chunk.type for chunk in written] == [chunk.type for chunk in chunks]
    assert [c for c in written if c.type != b"IDAT"] == [c for c in chunks if c.type != b"IDAT"]
    assert same_image(image, read_image(write_png(image)))


def test_pixels_in_many_chunks_are_one_stream() -> None:
    stream = pixels().data
    chunks = [header(), *(Chunk(b"IDAT", stream[at : at + 1]) for at in range(len(stream))), Chunk(b"IDAT", b""), END]
    assert read_image(join_chunks(chunks)).pixels is not None


def test_a_file_with_data_behind_its_end_is_kept_as_a_file() -> None:
    data = join_chunks([header(), pixels(), END]) + b"a film"
    image = read_image(data)
    assert image.pixels is None
    assert write_png(image) == data


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([], "no chunks"),
        ([pixels(), header(), END], "does not begin with a header"),
        ([Chunk(b"IHDR", bytes(12)), pixels(), END], "does not begin with a header"),
        ([header(0), pixels(), END], "a size of 0x2"),
        ([header(2, 1 << 31), pixels(), END], "a size of"),
        ([header(2, 2, 8, 5), pixels(), END], "no colour type 5"),
        ([header(2, 2, 16, 3), PALETTE, pixels(), END], "colour type 3 cannot have 16 bits"),
        ([header(2, 2, 8, 2, 0, 0, 2), pixels(), END], "unknown compression, filter or interlace"),
        ([header(2, 2, 8, 2, 1, 0, 0), pixels(), END], "unknown compression, filter or interlace"),
        ([header(), header(), pixels(), END], "a second header"),
        ([header(), END], "no IDAT"),
        ([header(), pixels()], "no IEND"),
        ([header(), pixels(), Chunk(b"IEND", b"x")], "IEND chunk is not empty"),
        ([header(), pixels(), TEXT, pixels(), END], "not consecutive"),
        ([header(2, 2, 8, 3), pixels(bytes(6)), END], "palette is missing"),
        ([header(2, 2, 8, 0), PALETTE, pixels(bytes(6)), END], "cannot have"),
        ([header(2, 2, 1, 3), Chunk(b"PLTE", bytes(9)), pixels(bytes(4)), END], "cannot have"),
        ([header(), Chunk(b"PLTE", bytes(7)), pixels(), END], "cannot have"),
        ([header(), pixels(), PALETTE, END], "wrong place"),
        ([header(), PALETTE, PALETTE, pixels(), END], "wrong place"),
        ([header(), pixels(bytes(13)), END], "pixels are missing"),
        ([header(), pixels(bytes(15)), END], "more pixels than"),
        ([header(), pixels(b"\5" + bytes(13)), END], "unknown filter"),
        ([header(), Chunk(b"IDAT", pixels().data[:-1]), END], "pixels are missing"),
        ([header(), Chunk(b"IDAT", pixels().data[:-1] + b"x"), END], "compressed pixels are damaged"),
        ([header(), Chunk(b"IDAT", b"nonsense"), END], "compressed pixels are damaged"),
        ([header(), Chunk(b"gA1A", b""), pixels(), END], "not four letters"),
    ],
)
def test_what_the_specification_forbids_is_refused(chunks: list[Chunk], reason: str) -> None:
    with pytest.raises(DamagedFileError, match=reason):
        read_image(join_chunks(chunks))


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([header(), Chunk(b"acTL", bytes(8)), pixels(), END], "animated PNG"),
        ([header(), Chunk(b"NEWc", b""), pixels(), END], r"critical chunk \(NEWc\)"),
        ([header(20_000, 20_000), pixels(), END], "more than the limit of"),
    ],
)
def test_what_cannot_be_kept_is_refused(chunks: list[Chunk], reason: str) -> None:
    with pytest.raises(UnsupportedImageError, match=reason):
        read_image(join_chunks(chunks))


def test_every_cut_and_every_flipped_bit_of_a_png_is_seen() -> None:
    data = join_chunks([header(), TEXT, pixels(), END])
    for length in range(len(data)):
        with pytest.raises(NvaeCodecError):
            read_image(data[:length])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NvaeCodecError):
            read_image(bytes(damaged))


def test_a_stream_that_inflates_for_ever_is_cut_short() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(DamagedFileError, match="more pixels than"):
        parse_png(join_chunks([header(), Chunk(b"IDAT", bomb), END]))
    assert SIGNATURE[0] > 127
