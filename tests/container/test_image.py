import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.coding.coded import Coded
from nvae_codec.container import methods as choice
from nvae_codec.container.archive.segment import pack_segment, unpack_segment
from nvae_codec.container.checksums import bytes_checksum
from nvae_codec.container.header import Kind, Parts, join_parts, split_parts
from nvae_codec.container.image import Candidate, read_file
from nvae_codec.container.methods import FAST, METHODS, code_webp, write_file
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.metadata import keep_metadata
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import COLOURS, WHOLE_BYTES, Chunk, Colour, RasterImage, find_colour, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.samples import samples_of
from nvae_codec.images.webp import BEST, MEDIUM, choose_effort, encode_webp
from nvae_codec.images.write import write_png
from tests.fakes import FakeCodec, NeverCodec, OneCodec
from tests.reference_png import decode_png

Pixels = NDArray[np.uint8]
CODECS = OneCodec(FakeCodec("photo"))
CHUNKS = (Chunk(b"gAMA", bytes(4)), IDAT_PLACE, Chunk(b"tEXt", b"Title\0Harbour"))


def noise(height: int, width: int, *channels: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (height, width, *channels), np.uint8)


def ramp(height: int, width: int) -> Pixels:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], -1).astype(np.uint8)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.sampled_from([size, (*size, 2), (*size, 3), (*size, 4)])
)


@settings(deadline=None, max_examples=60)
@given(shapes.flatmap(lambda shape: arrays.arrays(np.uint8, shape)), st.booleans(), st.sampled_from(METHODS))
def test_every_small_image_comes_back(pixels: Pixels, with_chunks: bool, method: str) -> None:
    image = RasterImage.from_pixels(pixels, CHUNKS if with_chunks else ())
    assert same_image(image, read_file(write_file(image, method, CODECS), CODECS))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_chunks", [False, True])
def test_a_png_comes_back_with_its_metadata(method: str, with_chunks: bool) -> None:
    png = write_png(RasterImage.from_pixels(ramp(20, 30), CHUNKS if with_chunks else ()))
    restored = write_png(read_file(write_file(read_image(png), method, CODECS), CODECS))
    assert same_image(read_image(png), read_image(restored))
    assert method != "stored" or restored == png


FEW_VALUES = [colour for colour in COLOURS if not colour.is_8_bit and colour.bits <= 8]
PALETTE = Chunk(b"PLTE", bytes(range(6)))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FEW_VALUES), st.integers(1, 17), st.integers(1, 17), st.sampled_from(["auto", "webp", "stored"]))
def test_palettes_and_few_bits_come_back(colour: Colour, height: int, width: int, method: str) -> None:
    samples = np.random.default_rng(height * width).integers(0, 1 << colour.bits, (height, width), np.uint8)
    chunks = (PALETTE, Chunk(b"tRNS", b"\7"), IDAT_PLACE) if colour.mode == "palette" else ()
    image = RasterImage(width, height, colour, samples, chunks)
    assert same_image(image, read_file(write_file(image, method, CODECS), CODECS))
    png = write_png(image)
    assert np.array_equal(decode_png(png).samples.reshape(samples.shape), samples)
    assert same_image(image, read_image(png))
    with Image.open(io.BytesIO(png)) as pil_image:
        pil_image.load()


@pytest.mark.parametrize("name", ["basn0g04", "basn3p08", "basn3p04", "basn0g01", "basi3p02", "tbbn3p08"])
def test_images_of_few_values_are_kept_by_webp_or_as_their_file(pngsuite: Path, name: str) -> None:
    data = (pngsuite / f"{name}.png").read_bytes()
    image = read_image(data)
    for method in ("auto", "webp", "stored"):
        file = write_file(image, method, CODECS)
        assert split_parts(file).header.kind is (Kind.FILE if method == "stored" else Kind.WEBP)
        restored = write_png(read_file(file, CODECS))
        assert same_image(read_image(restored), image)
        assert method != "stored" or restored == data
        assert method != "auto" or len(file) < len(data)
    with pytest.raises(UnsupportedImageError):
        write_file(image, "model", CODECS)


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ((), "its palette is missing"),
        ((Chunk(b"gAMA", bytes(4)), IDAT_PLACE), "its palette is missing"),
        ((IDAT_PLACE, PALETTE), "its palette is in the wrong place"),
        ((PALETTE, PALETTE, IDAT_PLACE), "its palette is in the wrong place"),
        ((Chunk(b"PLTE", bytes(4)), IDAT_PLACE), "a palette that its colour cannot have"),
        ((Chunk(b"PLTE", bytes(15)), IDAT_PLACE), "a palette that its colour cannot have"),
    ],
)
def test_a_file_with_a_bad_palette_is_damaged(chunks: tuple[Chunk, ...], why: str) -> None:
    image = RasterImage(4, 4, find_colour("palette", 2), np.zeros((4, 4), np.uint8), chunks)
    for method in ("webp", "stored"):
        with pytest.raises(DamagedFileError, match=why):
            read_file(write_file(image, method, CODECS), CODECS)
    packed = pack_segment([("a.png", image)], "stored", CODECS)
    with pytest.raises(DamagedFileError, match=why):
        unpack_segment(packed.data, packed.entries, bytes(32), CODECS)


def test_samples_of_more_bits_than_their_colour_are_damage() -> None:
    image = RasterImage(4, 4, find_colour("gray", 2), np.full((4, 4), 4, np.uint8))
    for method in ("webp", "stored"):
        with pytest.raises(DamagedFileError, match="samples have too many bits"):
            read_file(write_file(image, method, CODECS), CODECS)


@pytest.mark.parametrize("name", ["basn0g16", "basn2c16", "basi4a16", "basi6a16"])
def test_16_bits_come_back(pngsuite: Path, name: str) -> None:
    """By the model, and as the PNG."""
    image = read_image((pngsuite / f"{name}.png").read_bytes())
    for method in ("auto", "model", "stored"):
        file = write_file(image, method, CODECS)
        assert (split_parts(file).header.kind is Kind.FILE) or method != "stored"
        restored = decode_png(write_png(read_file(file, CODECS)))
        assert np.array_equal(restored.samples, decode_png(write_png(image)).samples)
    with pytest.raises(UnsupportedImageError, match="has 16 bits a sample"):
        write_file(image, "webp", CODECS)


deep_shapes = shapes.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.uint8, shape)] * 2))


@settings(deadline=None, max_examples=40)
@given(deep_shapes, st.sampled_from(["noise", "repeated", "opaque"]))
def test_every_small_image_of_16_bits_comes_back(halves: tuple[Pixels, Pixels], what: str) -> None:
    high, low = halves
    low = high if what == "repeated" else low
    image = RasterImage.from_pixels(high, CHUNKS)
    if image.colour.has_alpha and what == "opaque":
        high[..., -1] = low[..., -1] = 255
    colour = next(c for c in WHOLE_BYTES if (c.mode, c.bits) == (image.colour.mode, 16))
    image = replace(image, colour=colour, low=low)
    again = read_image(write_png(image))
    assert same_image(again, image)
    samples = decode_png(write_png(image)).samples
    assert np.array_equal(samples >> 8, high.reshape(samples.shape))
    assert np.array_equal(samples & 255, low.reshape(samples.shape))
    file = write_file(again, "model", CODECS)
    assert same_image(read_file(file, CODECS), image)
    if what == "repeated" and not image.colour.has_alpha:
        shallow = write_file(RasterImage.from_pixels(high, CHUNKS), "model", CODECS)
        assert len(file) == len(shallow) + 1, "low bytes that repeat the high ones cost a byte"


def test_opaque_alpha_costs_a_byte() -> None:
    rgb = noise(20, 30, 3)
    opaque = np.dstack([rgb, np.full((20, 30), 255, np.uint8)])
    sizes = [len(write_file(RasterImage.from_pixels(pixels), "model", CODECS)) for pixels in (rgb, opaque)]
    assert sizes[1] == sizes[0] + 1


def hostile_blocks() -> list[bytes]:
    webp = bytes((Kind.WEBP,)) + encode_webp(noise(5, 7))
    return [b"\x01\x03", b"\x02\x03a", b"\x02\x09a", b"\x01\x02", bytes((len(webp),)) + webp, b"\xff\xff\x03", b""]


@pytest.mark.parametrize("block", range(7))
def test_planes_that_are_none_are_damaged(block: int) -> None:
    """Too short, of no kind, empty WebP, WebP of another size, longer than the file, none."""
    rgba = RasterImage.from_pixels(noise(6, 6, 4) | np.uint8(255))
    whole = split_parts(write_file(rgba, "model", CODECS))
    assert whole.payload.startswith(b"\0")
    stack = whole.payload[1:] if block != 6 else b""
    with pytest.raises(DamagedFileError):
        read_file(join_parts(Parts(whole.header, hostile_blocks()[block] + stack)), CODECS)


def test_auto_is_the_smallest_of_all() -> None:
    small = [noise(1, 1, 3), noise(40, 40, 3), ramp(64, 64), np.zeros((50, 50, 3), np.uint8)]
    for pixels in small:
        image = RasterImage.from_pixels(pixels)
        sizes = {method: len(write_file(image, method, CODECS)) for method in METHODS}
        assert sizes["auto"] == min(sizes.values())


def test_webp_gets_no_more_time_than_it_may_win() -> None:
    def efforts(pixels: Pixels, codec: FakeCodec | None = None) -> list[tuple[int, int]]:
        tried: list[tuple[int, int]] = []

        def watched(image: RasterImage, effort: tuple[int, int] | None = None) -> Candidate:
            tried.append(effort or choose_effort(image.width * image.height))
            return code_webp(image, FAST)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choice, "code_webp", watched)
            write_file(RasterImage.from_pixels(pixels), "auto", OneCodec(codec or FakeCodec("photo")))
        return tried

    class Winner(FakeCodec):
        def encode(self, images: object, ledger: object = None, *, effort: int = 1, shared: bytes = b"") -> Coded:
            return Coded(b"short", (7, 1, 0, 19))

    graphic = np.repeat(noise(400, 400, 1) // 128 * 255, 3, axis=2)
    assert efforts(noise(400, 400, 3)) == [FAST]  # as photographs: more effort is hardly better
    assert efforts(graphic) == [FAST, MEDIUM]
    assert efforts(graphic, Winner("photo")) == [FAST]
    assert efforts(noise(32, 32, 3)) == [BEST]


def test_a_jpeg_is_its_own_bytes_where_that_is_smaller() -> None:
    y, x = np.mgrid[:256, :256]
    smooth = 128 + 100 * np.sin(np.stack([x, y, x + y], -1) / 40) + np.random.default_rng(0).normal(0, 4, (256, 256, 3))
    for kind in ("JPEG", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(buffer, kind, quality=60)
        data = buffer.getvalue()
        image = read_image(data)
        for method in ("auto", "stored"):
            file = write_file(image, method, CODECS)
            assert split_parts(file).header.kind is Kind.FILE
            assert write_png(read_file(file, CODECS)) == data
        assert same_image(image, read_file(write_file(image, "model", CODECS), CODECS))
        assert np.array_equal(samples_of(read_file(file, CODECS), "it"), image.require_pixels("it"))


def test_the_model_is_not_run_for_a_jpeg_that_is_smaller() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(200, 200, 3)).save(buffer, "JPEG", quality=10)
    image = read_image(buffer.getvalue())
    assert split_parts(write_file(image, "auto", OneCodec(NeverCodec("photo")))).header.kind is Kind.FILE


@pytest.mark.parametrize("segment", [b"\xff\xfe\0\6text", b"\xff\xed\0\6IPTC", 2 * b"\xff\xe1\0\x0aExif\0\0II"])
def test_a_jpeg_with_more_than_pixels_and_chunks_is_its_own_bytes(segment: bytes) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256)).save(buffer, "JPEG")  # which the others keep in less
    data = buffer.getvalue()[:2] + segment + buffer.getvalue()[2:]
    image = read_image(data)
    assert write_png(read_file(write_file(image, "auto", CODECS), CODECS)) == data
    assert pack_segment([("a.jpg", image)], "auto", CODECS).entries[0].kind is Kind.FILE
    assert write_file(keep_metadata(image, "none"), "auto", CODECS).find(segment) < 0


@pytest.mark.parametrize("payload", [b"", b"BM", b"\xff\xd8\xff\xd9", b"RIFF\0\0\0\0WEBP", b"P6 1 1 255 abc"])
def test_an_own_file_that_is_none_is_damaged(payload: bytes) -> None:
    whole = split_parts(write_file(read_image(write_png(RasterImage.from_pixels(noise(8, 8, 3)))), "stored", CODECS))
    with pytest.raises(DamagedFileError):
        read_file(join_parts(Parts(whole.header, payload)), CODECS)


@pytest.mark.parametrize("shape", [(1, 200_000, 3), (200_000, 1)])
def test_the_model_is_not_run_for_thin_images(shape: tuple[int, ...]) -> None:
    image = RasterImage.from_pixels(noise(*shape))
    codecs = OneCodec(NeverCodec("photo"))
    assert same_image(image, read_file(write_file(image, "auto", codecs), codecs))
    packed = pack_segment([("a.png", image)], "auto", codecs)
    assert [entry.kind for entry in packed.entries] == [Kind.PIXELS]


def test_webp_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(UnsupportedImageError, match="at most 16383 pixels a side"):
        write_file(RasterImage.from_pixels(np.zeros((1, 20_000, 3), np.uint8)), "webp", CODECS)


def small_files() -> list[bytes]:
    image = RasterImage.from_pixels(noise(12, 10, 3), CHUNKS)
    files = [write_file(image, method, CODECS) for method in ("model", "webp", "stored")]
    return [*files, write_file(read_image(write_png(image)), "stored", CODECS)]


@pytest.mark.parametrize("kind", range(4))
def test_every_truncation_and_flipped_bit_is_detected(kind: int) -> None:
    file = small_files()[kind]
    for length in range(len(file)):
        with pytest.raises(DamagedFileError):
            read_file(file[:length], CODECS)
    header_bits = list(range(8 * 60))
    other_bits = random.Random(1).sample(range(8 * 60, 8 * len(file)), 1000)
    for bit in header_bits + other_bits:
        damaged = bytearray(file)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedFileError):
            read_file(bytes(damaged), CODECS)


@pytest.mark.parametrize("kind", range(4))
def test_damage_with_a_valid_file_checksum_is_detected(kind: int) -> None:
    """The second line of defence: lengths, the codecs' own checks and the checksum of the pixels."""
    file = small_files()[kind][:-4]
    unseen = 0
    for bit in random.Random(2).sample(range(8 * 4, 8 * len(file)), 600):
        damaged = bytearray(file)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            image = read_file(bytes(damaged) + bytes_checksum(bytes(damaged)), Forgiving(CODECS.codec))
        except (DamagedFileError, UnsupportedImageError):
            continue
        unseen += 1
        assert same_image(image, read_file(file + bytes_checksum(file), CODECS))
    assert unseen <= 32  # the model's identity, and bits that mean nothing


class Forgiving(OneCodec):
    def made_by(self, model_id: bytes) -> FakeCodec:
        return self.codec


def test_sizes_beyond_the_limit_are_refused_before_anything_is_decoded() -> None:
    parts = split_parts(small_files()[0])
    huge = Parts(replace(parts.header, width=1 << 20, height=1 << 20), parts.payload)
    with pytest.raises(UnsupportedImageError, match="more than the limit of"):
        read_file(join_parts(huge), CODECS)
