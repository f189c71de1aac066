"""TIFF, BMP, PNM and PAM: all that PNG can hold is taken from them, and everything else is refused by name."""

import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images import tiff
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.read import read_image, read_size
from nvae_codec.images.tiff_tags import read_directory
from nvae_codec.images.write import write_png
from tests.reference_png import decode_png

Samples = NDArray[Any]


def draw(*shape: int, bits: int = 8) -> Samples:
    samples = np.random.default_rng(3).integers(0, 1 << bits, shape)
    return samples.astype(np.uint16 if bits > 8 else np.uint8)


def whole(image: RasterImage) -> Samples:
    """The samples, 16 bits as one number."""
    assert image.pixels is not None
    return image.pixels if image.low is None else image.pixels.astype(np.uint16) << 8 | image.low


def make_tiff(
    samples: Samples,
    bits: int = 8,
    *,
    order: str = "<",
    photometric: int | None = None,
    planar: int = 1,
    rows: int = 3,
    tile: int = 0,
    deflate: bool = False,
    predictor: int = 1,
    **more: Any,
) -> bytes:
    """A TIFF written by the specification alone; ``more``: tags by number, t338=(2,)."""
    height, width = samples.shape[:2]
    cube = samples.reshape(height, width, -1).astype(np.int64)
    count = cube.shape[2]
    parts = []
    for plane in [cube[:, :, [at]] for at in range(count)] if planar == 2 else [cube]:
        blocks = (
            [
                np.pad(block, ((0, tile - block.shape[0]), (0, tile - block.shape[1]), (0, 0)))
                for top in range(0, height, tile)
                for left in range(0, width, tile)
                for block in [plane[top : top + tile, left : left + tile]]
            ]
            if tile
            else [plane[top : top + rows] for top in range(0, height, rows)]
        )
        for block in blocks:
            coded = np.diff(block, axis=1, prepend=0) % (1 << bits) if predictor == 2 else block
            part = pack_rows(coded, bits, order)
            parts.append(zlib.compress(part) if deflate else part)
    kind = photometric if photometric is not None else (2 if count > 2 else 1)
    tags = {
        256: (width,), 257: (height,), 258: (bits,) * count, 259: (8 if deflate else 1,), 262: (kind,), 277: (count,),
        284: (planar,), 317: (predictor,),
    }  # fmt: skip
    tags |= {322: (tile,), 323: (tile,)} if tile else {278: (rows,)}
    tags |= {int(name[1:]): values for name, values in more.items()}
    lengths = tuple(map(len, parts))
    tags |= {325 if tile else 279: lengths, 324 if tile else 273: lengths}  # places follow, once all sizes are known
    start = 8 + 2 + 12 * len(tags) + 4
    outside = {tag: 4 * len(values) for tag, values in tags.items() if len(values) > 1}
    at = start + sum(outside.values())
    tags[324 if tile else 273] = tuple(at + sum(lengths[:number]) for number in range(len(parts)))
    out = struct.pack(f"{order}2sHIH", {"<": b"II", ">": b"MM"}[order], 42, 8, len(tags))
    at, tail = start, b""
    for tag in sorted(tags):
        values = tags[tag]
        out += struct.pack(f"{order}HHI", tag, 4, len(values))
        out += struct.pack(f"{order}I", at if tag in outside else values[0])
        if tag in outside:
            tail += struct.pack(f"{order}{len(values)}I", *values)
            at += outside[tag]
    return out + bytes(4) + tail + b"".join(parts)


def pack_rows(block: Samples, bits: int, order: str) -> bytes:
    if bits >= 8:
        return block.astype(f"{order}u2" if bits == 16 else "u1").tobytes()
    digits = np.unpackbits(block.reshape(len(block), -1, 1).astype(np.uint8), axis=2)[:, :, 8 - bits :]
    return np.packbits(digits.reshape(len(block), -1), axis=1).tobytes()


LAYOUTS: list[dict[str, Any]] = [
    {}, {"order": ">"}, {"planar": 2}, {"tile": 16}, {"deflate": True}, {"deflate": True, "predictor": 2},
    {"deflate": True, "predictor": 2, "order": ">", "tile": 16}, {"deflate": True, "planar": 2, "tile": 16},
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiffs_of_any_layout_come_whole(layout: dict[str, Any], bits: int, channels: int) -> None:
    samples = draw(21, 37, channels, bits=bits) if channels > 1 else draw(21, 37, bits=bits)
    if channels == 1:
        layout = layout | {"planar": 1}
    extra: dict[str, Any] = {"t338": (2,)} if channels in (2, 4) else {}
    image = read_image(make_tiff(samples, bits, **layout, **extra))
    assert np.array_equal(whole(image), samples)
    assert np.array_equal(decode_png(write_png(image)).samples.reshape(samples.shape), samples)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1, 3])
@pytest.mark.parametrize("tile", [0, 16])
def test_tiffs_of_few_bits_and_palettes(bits: int, photometric: int, tile: int) -> None:
    samples = draw(21, 37, bits=bits)
    palette = draw(3 << bits).astype(int)
    more: dict[str, Any] = {"t320": tuple(257 * palette)} if photometric == 3 else {}
    image = read_image(make_tiff(samples, bits, photometric=photometric, tile=tile, **more))
    assert image.colour.bits == bits
    assert np.array_equal(whole(image), (1 << bits) - 1 - samples if photometric == 0 else samples)
    if photometric == 3:
        assert image.chunks[0].data == palette.reshape(3, -1).T.astype(np.uint8).tobytes()


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")


@pytest.mark.parametrize(
    ("compression", "mode"), [*itertools.product(COMPRESSIONS, MODES), ("group3", "1"), ("group4", "1")]
)
def test_tiffs_of_pillow_come_as_pillow_reads_them(compression: str, mode: str) -> None:
    source = Image.fromarray(draw(21, 37, bits=16))
    if mode != "I;16":
        source = Image.fromarray(draw(21, 37, 4), "RGBA").convert(mode)
    buffer = io.BytesIO()
    source.save(buffer, "TIFF", compression=compression)
    image = read_image(buffer.getvalue())
    with Image.open(io.BytesIO(write_png(image))) as found:
        shown = "RGB" if mode == "P" else mode
        assert np.array_equal(np.asarray(found.convert(shown)), np.asarray(source.convert(shown)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_come_upright(orientation: int) -> None:
    data = make_tiff(draw(21, 37, 3), t274=(orientation,))
    with Image.open(io.BytesIO(data)) as expected:
        assert np.array_equal(whole(read_image(data)), np.asarray(expected))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_tiff(draw(5, 6, 4)), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 4), t338=(0,)), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 5), t338=(2, 0)), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 6), t338=(0, 0, 0), planar=2), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 2), photometric=1), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 2), photometric=3, t338=(2,), t320=(0,) * 768), "more samples than its colours need"),
        (make_tiff(draw(5, 6, 4), t338=(1,)), "premultiplied"),
        (make_tiff(draw(5, 6, 4), photometric=5), "TIFF of mode CMYK"),
        (make_tiff(draw(5, 6, 3), photometric=8), "TIFF of mode Lab"),
        (make_tiff(draw(5, 6), t339=(2,)), "signed or floating"),
        (make_tiff(draw(5, 6, 3), t258=(8, 8, 16)), "different numbers of bits"),
        (make_tiff(draw(5, 6), t258=(32,)), "32-bit TIFF"),
        (make_tiff(draw(5, 6), t330=(8,)), "images within its image"),
        (make_tiff(draw(5, 6), t259=(34712,)), "compression 34712"),
        (make_tiff(draw(5, 6)) + b"more", "data after its end"),
        (
            make_tiff(draw(7, 6)).replace(struct.pack("<3I", 18, 18, 6), struct.pack("<3I", 18, 17, 6)),
            "data that no tag leads to",
        ),
        (make_tiff(draw(5, 6), predictor=2), "this predictor"),
        (make_tiff(draw(3, 6), t256=(9000,), t257=(9000,), t278=(9000,), t259=(50000,)), "that claims"),
        (b"II+\0" + bytes(20), "BigTIFF"),
    ],
)
def test_tiffs_that_would_lose_something_are_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedImageError, match=reason):
        read_image(data)


def test_tiffs_are_decompressed_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses to decompress more than 179 MB at once, as a photograph of 16 bits and 30 megapixels has."""
    samples = draw(50, 37, 3, bits=16)
    data = make_tiff(samples, 16, deflate=True, rows=4), make_tiff(samples, 16, deflate=True, tile=16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50 * 37 + 1)
    monkeypatch.setattr(tiff, "_BAND", 16 * 37 * 6)
    assert all(np.array_equal(whole(read_image(each)), samples) for each in data)


def test_texts_of_a_tag_that_is_there_twice_are_both_kept() -> None:
    entries = b"".join(struct.pack("<HHI4s", 270, 2, 2, text) for text in (b"a", b"b"))
    assert read_directory(struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + bytes(4)).raw(270) == b"a\0b\0"
    with pytest.raises(UnsupportedImageError, match="tag 262 twice"):
        read_image(make_tiff(draw(5, 6)).replace(struct.pack("<HHI", 277, 4, 1), struct.pack("<HHI", 262, 4, 1)))


@pytest.mark.parametrize("length", range(0, 240, 7))
def test_tiffs_that_are_cut_off_are_damaged(length: int) -> None:
    data = make_tiff(draw(5, 6, 3), deflate=True)
    with pytest.raises(DamagedFileError):
        read_image(b"II*\0"[:length] + data[4 : min(length, len(data) - 1)])


def test_every_tag_of_a_tiff_is_kept() -> None:
    given, source, buffer = Image.Exif(), Image.Exif(), io.BytesIO()
    given[0x010E], given[0x0131], given[0x8298] = "A harbour", "By hand", "Nobody"
    given[0x8769] = {0x9003: "2001:02:03 04:05:06", 0xA434: "A lens"}
    given[0x8825] = {1: "N", 2: (47.0, 22.0, 0.5)}
    source.load(given.tobytes())
    Image.fromarray(draw(5, 6, 3)).save(buffer, "TIFF", exif=source)
    with Image.open(io.BytesIO(write_png(read_image(buffer.getvalue())))) as image:
        exif = image.getexif()
        assert (exif[0x010E], exif[0x0131], exif[0x8298]) == ("A harbour", "By hand", "Nobody")
        assert exif.get_ifd(0x8769) == source.get_ifd(0x8769)
        assert exif.get_ifd(0x8825) == source.get_ifd(0x8825)


def make_bmp(
    pixels: bytes,
    width: int,
    height: int,
    bits: int,
    *,
    size: int = 40,
    compression: int = 0,
    palette: bytes = b"",
    masks: bytes = b"",
    used: int = 0,
) -> bytes:
    offset = 14 + size + len(palette) + (len(masks) if size == 40 else 0)
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 0, 0, used, 0)
        header += (b"" if size == 40 else masks).ljust(size - 40, b"\0") + (masks if size == 40 else b"")
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


TEN_BITS = struct.pack("<III", 0x3FF, 0xFFC00, 0x3FF00000)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [12, 40, 108, 124])
def test_palette_bmps(bits: int, size: int) -> None:
    samples = draw(9, 11, bits=bits)
    rows = [pack_rows(row[None], bits, "<") for row in samples[::-1]]
    colours = draw(1 << bits, 3)
    entries = b"".join(bytes(colour[::-1]) + (b"" if size == 12 else b"\0") for colour in colours)
    data = make_bmp(
        b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows), 11, 9, bits, size=size, palette=entries
    )
    image = read_image(data)
    assert np.array_equal(whole(image), samples)
    assert image.chunks[0].data == colours.tobytes()
    with Image.open(io.BytesIO(write_png(image))) as found:
        assert np.array_equal(np.asarray(found.convert("RGB")), colours[samples])


def test_bmps_with_a_fourth_sample_keep_it() -> None:
    pixels = draw(9, 11, 4)
    for size, compression, masks, order in (
        (40, 0, b"", [2, 1, 0, 3]),
        (124, 3, struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000), [0, 1, 2, 3]),
        (40, 3, struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00), [3, 2, 1, 0]),
    ):
        data = make_bmp(pixels[::-1].tobytes(), 11, 9, 32, size=size, compression=compression, masks=masks)
        assert np.array_equal(whole(read_image(data)), pixels[:, :, order])
    opaque = pixels * np.array([1, 1, 1, 0], np.uint8)
    assert np.array_equal(whole(read_image(make_bmp(opaque.tobytes(), 11, -9, 32))), opaque[:, :, [2, 1, 0]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_bmp(bytes(40), 3, 3, 8, compression=1, palette=bytes(1024)), "run-length coded BMP"),
        (make_bmp(bytes(40), 3, 3, 16), "16 bits a pixel"),
        (
            make_bmp(bytes(40), 3, 3, 32, compression=3, masks=struct.pack("<III", 0x3FF, 0xFFC00, 0x3FF00000)),
            "other than 8 bits",
        ),
        (make_bmp(bytes(36) + b"more", 3, 3, 24), "data after its end"),
        (make_bmp(bytes(36), 3, 3, 24, palette=b"more"), "data before its pixels"),
        (make_bmp(bytes(40), 3, 3, 32, compression=4), "JPEG in BMP"),
    ],
)
def test_other_bmps_are_unsupported_and_not_damaged(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedImageError, match=reason):
        read_image(data)


def test_a_bmp_whose_pixels_begin_within_its_header_is_damaged() -> None:
    data = bytearray(make_bmp(bytes(48), 4, 4, 24))
    data[10] = 20
    with pytest.raises(DamagedFileError, match="within its header"):
        read_image(bytes(data))


def test_a_bmp_whose_palette_is_too_short_is_damaged() -> None:
    with pytest.raises(DamagedFileError, match="entry 9 of a palette of 2"):
        read_image(make_bmp(b"\x09\0\0\0", 1, 1, 8, palette=bytes(range(8)), used=2))


def pam(kind: str, width: int, height: int, depth: int, maximum: int) -> bytes:
    sides = f"WIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {maximum}"
    return f"P7\n{sides}\nTUPLTYPE {kind}\nENDHDR\n".encode()


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (b"P1 # a comment\n3 2\n010\n1 1 0", [[1, 0, 1], [0, 0, 1]]),
        (b"P4 3 2\n\x40\xc0", [[1, 0, 1], [0, 0, 1]]),
        (b"P2\n3 1 3\n0 1 # a comment\n3", [[0, 1, 3]]),
        (b"P2 2 1 65535 0 65535\n", [[0, 65535]]),
        (b"P3 1 2 255 1 2 3 4 5 6", [[[1, 2, 3]], [[4, 5, 6]]]),
        (b"P5 2 1 15\n\x03\x0f", [[3, 15]]),
        (b"P5 2 1 65535\n\x01\x02\xff\xfe\n", [[258, 65534]]),
        (b"P6 1 1 65535\n\0\1\0\2\0\3", [[[1, 2, 3]]]),
        (pam("RGB_ALPHA", 1, 2, 4, 255) + b"abcdefgh", [[list(b"abcd")], [list(b"efgh")]]),
        (pam("BLACKANDWHITE\n# a comment", 2, 1, 1, 1) + b"\1\0", [[1, 0]]),
    ],
)  # fmt: skip
def test_pnm_and_pam(data: bytes, samples: Any, tmp_path: Path) -> None:
    image = read_image(data)
    assert np.array_equal(whole(image), samples)
    assert any(b"a comment" in chunk.data for chunk in image.chunks) == (b"# a comment" in data.partition(b"\n0")[0])
    (tmp_path / "x").write_bytes(data)
    assert read_size(tmp_path / "x") == (image.width, image.height)


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"P5 1 1 100\n\0", UnsupportedImageError, "a maximum of 100"),
        (b"P5 1 1 255\n\0\1", UnsupportedImageError, "data after its end"),
        (2 * b"P5 1 1 255\n\0", UnsupportedImageError, "several images"),
        (b"P3 1 1 255 1 2 3 4", UnsupportedImageError, "data after its end"),
        (
            b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE DEPTH\nENDHDR\n\0\0",
            UnsupportedImageError,
            "type DEPTH",
        ),
        (b"P5 1 1 15\n\x10", DamagedFileError, "above 15"),
        (b"P2 1 1 255 x", DamagedFileError, "no number"),
        (b"P2 1 1 255 -1", DamagedFileError, "below 0"),
        (b"P1 1 1 2", DamagedFileError, "above 1"),
        (b"P5 0 1 255\n", DamagedFileError, "0x1"),
        (b"P5 " + b"9" * 100_000 + b" 1 255\n", DamagedFileError, "header"),
        (b"P7\nWIDTH " + b"9" * 100_000 + b"\nENDHDR\n", DamagedFileError, "header"),
        (b"P6 2 2 255\n", DamagedFileError, "missing"),
    ],
)
def test_other_pnms_are_refused(data: bytes, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        read_image(data)
