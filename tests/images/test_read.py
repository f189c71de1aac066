import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, WebPImagePlugin

from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnsupportedImageError
from nvae_codec.images.metadata import keep_metadata
from nvae_codec.images.png import IDAT_PLACE, join_chunks, split_chunks
from nvae_codec.images.raster import PIXEL_COLOURS, RGB8, Chunk
from nvae_codec.images.read import read_image, read_size
from nvae_codec.images.webp import decode_webp, encode_webp
from nvae_codec.images.write import write_png


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def save(pixels: NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_lossless_formats_are_read_as_their_pixels(kind: str, shape: tuple[int, ...]) -> None:
    image = read_image(save(noise(*shape), kind))
    assert image.pixels is not None
    assert np.array_equal(image.pixels, noise(*shape))
    assert read_image(write_png(image)).colour == image.colour


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP", "TIFF", "WEBP", "JPEG"])
def test_sizes_are_read_without_the_pixels(tmp_path: Path, kind: str) -> None:
    path, data = tmp_path / "image", save(noise(5, 7, 3), kind)
    path.write_bytes(data if kind in ("TIFF", "WEBP") else data[:-9])  # Pillow looks at the ends of these
    assert read_size(path) == (7, 5)


def test_lossless_webp_and_jpeg_are_read_as_their_pixels() -> None:
    webp = read_image(save(noise(5, 7, 4), "WEBP", lossless=True, exact=True))
    assert np.array_equal(webp.require_pixels("it"), noise(5, 7, 4))
    jpeg = save(noise(16, 16, 3), "JPEG")
    assert np.array_equal(read_image(jpeg).require_pixels("it"), np.asarray(Image.open(io.BytesIO(jpeg))))


def test_profile_and_exif_become_png_chunks() -> None:
    exif = Image.Exif()
    exif[0x010E] = "A harbour"
    data = save(noise(8, 8, 3), "JPEG", icc_profile=b"a profile" * 20, exif=exif)
    image = read_image(data)
    assert [chunk.type for chunk in image.chunks] == [b"iCCP", b"eXIf", b"IDAT"]
    assert image.chunks[-1] == IDAT_PLACE
    with Image.open(io.BytesIO(write_png(image))) as restored:
        assert restored.info["icc_profile"] == b"a profile" * 20
        assert restored.getexif()[0x010E] == "A harbour"


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(noise(8, 8, 3)), Image.fromarray(255 - noise(8, 8, 3))]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


GRAY_JPEG = save(noise(8, 8), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (save(noise(8, 8, 3), "JPEG", "CMYK"), "JPEG of 4 components"),
        (
            save(noise(8, 8), "JPEG").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c"),
            "12-bit JPEG is not supported",
        ),
        (save(noise(8, 8), "JPEG").replace(b"\xff\xc0", b"\xff\xc3"), "lossless or hierarchical JPEG"),
        (join_chunks([Chunk(b"CgBI", b"0 \0\6")]), r"Apple's PNG \(CgBI\)"),
        (save(noise(8, 8, 3), "WEBP") + b"more", "WebP with data after its end"),
        (save(noise(4, 4, 3), "GIF"), "GIF files are not supported"),
        (save(noise(4, 4, 3), "TGA"), "TGA files are not supported"),
        (b"Just a text.\n", "not an image"),
        (animation("WEBP"), "several frames"),
        (animation("GIF"), "GIF files are not supported"),
        (animation("TIFF"), "several frames"),
    ],
)
def test_what_would_lose_something_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedImageError, match=reason):
        read_image(data)


@pytest.mark.parametrize("more", [b"\0", b"a trailer", save(noise(8, 8, 3), "JPEG"), animation("MPO")])
def test_a_jpeg_with_more_than_its_image_is_kept_as_its_file(more: bytes) -> None:
    data = save(noise(8, 8, 3), "JPEG") + more
    image = read_image(data)
    assert image.pixels is None
    assert "data after its end" in image.why_file_only
    assert write_png(image) == data
    with pytest.raises(UnsupportedImageError, match="which only --metadata all keeps"):
        keep_metadata(image, "none")


def test_data_after_the_pixels_in_idat_chunks_are_kept_or_dropped_as_asked() -> None:
    sound = save(noise(8, 8, 3), "PNG")
    header, pixels, end = split_chunks(sound)
    data = join_chunks([header, Chunk(b"IDAT", pixels.data + b"hid"), Chunk(b"IDAT", b"den"), end])
    image = read_image(data)
    assert image.pixels is None
    assert write_png(image) == data
    assert keep_metadata(image, "none").file == sound


@pytest.mark.parametrize("decode", [read_image, lambda data: decode_webp(data[20:], 8192, 8192, RGB8)])
def test_a_small_webp_that_claims_a_large_image_is_refused(decode: Callable[[bytes], object]) -> None:
    data = bytearray(save(noise(2, 2, 3), "WEBP", lossless=True))
    data[21:25] = (8191 | 8191 << 14).to_bytes(4, "little")
    with pytest.raises(UnsupportedImageError, match="that claims 268,435,456"):
        decode(bytes(data))


def test_a_decoder_that_drops_samples_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(noise(8, 8, 4), "WEBP", lossless=True)
    opaque = save(noise(8, 8, 3), "WEBP", lossless=True)
    plugin = WebPImagePlugin.WebPImageFile
    monkeypatch.setattr(WebPImagePlugin, "WebPImageFile", lambda _: plugin(io.BytesIO(opaque)))
    with pytest.raises(UnsupportedImageError, match="3 samples of 8 bits, and the file has 8x8 pixels of 4 samples"):
        read_image(data)


@pytest.mark.parametrize(
    "data", [b"", bytes(1000), b"\xff\xd8\xff", b"BM", b"P6\n1 1\n255\n", b"II*\0", b"RIFF\0\0\0\0WEBP", b"P7\n"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(NvaeCodecError):
        read_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "BMP", "PPM", "WEBP"])
def test_truncated_images_are_refused(kind: str) -> None:
    data = save(noise(40, 40, 3), kind)
    with pytest.raises(DamagedFileError):
        read_image(data[: len(data) // 2])


def test_pillow_s_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    for kind in ("PNG", "BMP", "PPM"):
        with pytest.raises(UnsupportedImageError, match="the limit of 30 pixels"):
            read_image(save(noise(5, 7, 3), kind))
        with pytest.raises(UnsupportedImageError, match="the limit of 30 pixels"):
            read_image(save(noise(50, 70, 3), kind))
        assert read_image(save(noise(5, 6, 3), kind)).width == 6


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_webp_gives_the_same_pixels_back(channels: int) -> None:
    for pixels in (
        noise(9, 11, channels),
        np.zeros((9, 11, channels), np.uint8),
        np.full((9, 11, channels), 255, np.uint8),
    ):
        shaped = pixels[:, :, 0] if channels == 1 else pixels
        assert np.array_equal(decode_webp(encode_webp(shaped), 11, 9, PIXEL_COLOURS[channels]), shaped)


def test_damaged_webp_is_refused() -> None:
    stream = encode_webp(noise(9, 11, 3))
    for damaged in (b"", stream[:20], b"\0" * len(stream)):
        with pytest.raises(DamagedFileError):
            decode_webp(damaged, 11, 9, PIXEL_COLOURS[3])
    with pytest.raises(DamagedFileError, match="another size"):
        decode_webp(stream, 9, 11, PIXEL_COLOURS[3])


def test_a_webp_of_an_immense_size_is_refused_before_libwebp_takes_memory_for_it() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    stream = encode_webp(pixels)
    immense = stream[:1] + (0x0FFFFFFF | int.from_bytes(stream[1:5], "little") >> 28 << 28).to_bytes(4, "little")
    with pytest.raises(DamagedFileError, match="another size"):
        decode_webp(immense + stream[5:], 8, 8, PIXEL_COLOURS[3])
