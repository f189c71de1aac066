"""Small files that claim much: they are refused, or read with memory in proportion to their bytes."""

import io
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nvae_codec.pillow as pillow_plugin
from nvae_codec.coding.coded import Coded
from nvae_codec.container.archive.index import (
    HEADER_BYTES,
    Entry,
    Index,
    Segment,
    archive_header,
    pack_index,
    read_index,
    segment_checksum,
)
from nvae_codec.container.archive.segment import pack_segment, unpack_segment
from nvae_codec.container.checksums import bytes_checksum
from nvae_codec.container.extensions import METADATA, extension
from nvae_codec.container.fields import pack_sized, pack_varint
from nvae_codec.container.header import Kind, Parts, join_parts, split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnsupportedImageError
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import RGB8, Chunk, RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from tests.fakes import FakeCodec, OneCodec

CODECS = OneCodec(FakeCodec("photo"))
DOT = RasterImage.from_pixels(np.zeros((1, 1, 3), np.uint8))
MEGABYTES = 1 << 20


def peak_of(work: Callable[[], Any]) -> float:
    """The most memory, in megabytes, that Python objects take while something is done, which may be refused."""
    tracemalloc.start()
    try:
        work()
    except (NvaeCodecError, OSError, ValueError, SyntaxError):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / MEGABYTES


def with_metadata(plain: bytes) -> bytes:
    """A file of one pixel with this metadata."""
    parts = split_parts(write_file(DOT, "stored", CODECS))
    stream = zlib.compress(plain, 9)
    blocks = (extension(METADATA, stream + bytes_checksum(stream)),)
    return join_parts(Parts(replace(parts.header, extensions=blocks), parts.payload))


EMPTY_CHUNK = b"tEXt\0"


@pytest.mark.parametrize(
    ("chunks", "reason"), [((1 << 27) // 5, "is too long or cut off"), ((1 << 24) // 5, "has too many chunks")]
)
def test_metadata_of_many_empty_chunks(chunks: int, reason: str) -> None:
    file = with_metadata(b"IDAT\0" + EMPTY_CHUNK * chunks)
    with pytest.raises(DamagedFileError, match=f"damaged: its metadata {reason}"):
        read_file(file, CODECS)
    assert peak_of(lambda: read_file(file, CODECS)) < 100
    assert peak_of(lambda: Image.open(io.BytesIO(file), formats=[pillow_plugin.FORMAT])) < 200


def test_as_many_chunks_as_there_may_be() -> None:
    plain = b"IDAT\0" + EMPTY_CHUNK * ((1 << 16) - 1)
    assert len(read_file(with_metadata(plain), CODECS).chunks) == 1 << 16
    assert peak_of(lambda: read_file(with_metadata(plain), CODECS)) < 100


@pytest.mark.parametrize("chunks", [(Chunk(b"tEXt", b""),) * (1 << 16), (Chunk(b"tEXt", bytes(1 << 25)),)])
def test_metadata_that_no_reader_takes_is_not_written(chunks: tuple[Chunk, ...]) -> None:
    image = replace(DOT, chunks=(IDAT_PLACE, *chunks))
    with pytest.raises(UnsupportedImageError, match="its metadata is too much"):
        write_file(image, "webp", CODECS)
    png = write_png(image)
    assert read_file(write_file(read_image(png), "auto", CODECS), CODECS).file == png
    packed = pack_segment([("a.png", image), ("b.png", DOT)], "auto", CODECS)
    assert [name for name, _ in packed.problems] == ["a.png"]


def with_index(plain: bytes, segments: int = 1000) -> io.BytesIO:
    """An archive of so many bytes of segments with this index."""
    header, stream = archive_header(bytes(32)), zlib.compress(plain, 9)
    length = len(stream).to_bytes(8, "little")
    return io.BytesIO(header + bytes(segments) + stream + length + segment_checksum(header + stream + length))


def index_of(images: int, names: bytes, segments: int = 1000) -> bytes:
    segment = pack_varint(1) + pack_varint(segments) + pack_varint(images) + bytes(8)
    return segment + names + bytes([Kind.PIXELS | 5 << 3]) * images + b"\1" * 2 * images


BOMBS = {
    "26 million segments": pack_varint(26_000_000) + (pack_varint(1) * 2 + bytes(8)) * 26_000_000,
    "100,000 segments": pack_varint(100_000) + (pack_varint(1) * 2 + bytes(8)) * 100_000,
    "4 million images": index_of(4_000_000, pack_sized(b"0") + bytes(3_999_999)),
    "a segment of 2^34 images": pack_varint(1) + pack_varint(1000) + pack_varint(1 << 34) + bytes(8),
    "long names that follow": index_of(60_000, pack_sized(b"x" * 1000 + b"0") + bytes(59_999)),
    "500 nested folders": index_of(
        10_000, b"".join(pack_sized(b"%05d" % i + b"/a" * 500) for i in range(10_000))
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_index_bombs_are_refused(bomb: str) -> None:
    file = with_index(BOMBS[bomb])
    with pytest.raises(DamagedFileError):
        read_index(file)
    assert peak_of(lambda: read_index(file)) < 100


def test_as_many_images_as_a_small_archive_may_have() -> None:
    deep = index_of(60_000, b"".join(pack_sized(b"%05d" % i + b"/a" * 63 + b"/b") for i in range(60_000)))
    numbered = index_of(65_000, pack_sized(b"00000") + bytes(64_999))
    for plain, count in ((deep, 60_000), (numbered, 65_000)):
        assert len(read_index(with_index(plain)).segments[0].entries) == count
        assert peak_of(lambda plain=plain: read_index(with_index(plain))) < 150  # type: ignore[misc]


def test_names_are_written_out_where_too_many_would_follow() -> None:
    names = [f"{'x' * 1000}{number:05d}" for number in range(40_000)]
    entries = tuple(Entry(name, Kind.PIXELS, RGB8, 1, 1, metadata=False) for name in names)
    index = Index(bytes(32), (Segment(HEADER_BYTES, 1_000_000, bytes(8), entries),))
    file = io.BytesIO(archive_header(bytes(32)) + bytes(1_000_000) + pack_index(index))
    assert [entry.name for entry in read_index(file).segments[0].entries] == names


def test_an_archive_that_no_reader_takes_is_not_written() -> None:
    entries = tuple(Entry(str(i), Kind.PIXELS, RGB8, 1, 1, metadata=False) for i in range(70_000))
    with pytest.raises(NvaeCodecError, match="too many for an archive of"):
        pack_index(Index(bytes(32), (Segment(HEADER_BYTES, 99, bytes(8), entries),)))


class Lazy(FakeCodec):
    """A codec that must not be asked to decode."""

    def decode(self, *rest: Any, **more: Any) -> Any:
        raise AssertionError("decoded")

    decode_wanted = decode


def test_many_pixels_in_a_short_payload_are_refused_before_they_are_decoded() -> None:
    parts = split_parts(write_file(DOT, "model", CODECS))
    file = join_parts(Parts(replace(parts.header, width=9459, height=9459), bytes(519)))
    lazy = OneCodec(Lazy("photo"))
    with pytest.raises(DamagedFileError, match="are too few for"):
        read_file(file, lazy)
    entry = Entry("a.png", Kind.MODEL, RGB8, 9459, 9459, metadata=False)
    with pytest.raises(DamagedFileError, match="are too few for"):
        unpack_segment(bytes(8) + b"\0" + pack_sized(bytes(519)), [entry], lazy.codec.identity, lazy)


def test_what_a_reader_would_refuse_is_not_written() -> None:
    class Short(FakeCodec):
        def encode(self, *rest: Any, **options: Any) -> Coded:
            return replace(super().encode(*rest), payload=b"x")

    flat = RasterImage.from_pixels(np.zeros((600, 600, 3), np.uint8))
    codecs = OneCodec(Short("photo"))
    with pytest.raises(UnsupportedImageError):
        write_file(flat, "model", codecs)
    assert same_image(read_file(write_file(flat, "auto", codecs), codecs), flat)
