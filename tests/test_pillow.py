"""The Pillow plug-in: an image from an .nvae file is what it is from its PNG."""

import copy
import io
import mimetypes
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, UnidentifiedImageError

import nvae_codec.pillow
from nvae_codec.container.methods import write_file
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.read import read_image
from nvae_codec.pillow import NvaeImageFile
from nvae_codec.zoo.library import Models
from tests.conftest import PNGSUITE
from tests.fakes import FakeCodec, FakeLoader, OneCodec

PIXELS = np.random.default_rng(3).integers(0, 256, (19, 31, 3), np.uint8)
BY_MODEL = write_file(RasterImage.from_pixels(PIXELS), "model", OneCodec(FakeCodec("photo")))
SOUND = sorted(path.name for path in PNGSUITE.glob("[!x]*.png") if path.name != "PngSuite.png")


@pytest.fixture(autouse=True)
def models(fake_models: FakeLoader, monkeypatch: pytest.MonkeyPatch) -> FakeLoader:
    monkeypatch.setattr(NvaeImageFile, "models", Models())
    return fake_models


def save(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "NVAE", **options)
    return buffer.getvalue()


def reopen(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def assert_same(image: Image.Image, other: Image.Image) -> None:
    assert (image.mode, image.size) == (other.mode, other.size)
    assert image.tobytes() == other.tobytes()
    assert image.getpalette() == other.getpalette()


@pytest.mark.parametrize("name", SOUND)
def test_a_image_is_what_its_png_is(name: str) -> None:
    data = (PNGSUITE / name).read_bytes()
    expected, image = reopen(data), reopen(write_file(read_image(data), "auto", Models()))
    assert isinstance(image, NvaeImageFile)
    assert (image.mode, image.size) == (expected.mode, expected.size)
    assert expected.info.items() - image.info.items() <= {("interlace", 1)}
    assert_same(image, expected)


def test_opening_reads_only_the_header(models: FakeLoader) -> None:
    image = reopen(BY_MODEL[:60])
    assert isinstance(image, NvaeImageFile)
    assert (image.format, image.mode, image.size) == ("NVAE", "RGB", (31, 19))
    assert image.get_format_mimetype() == "image/x-nvae"
    assert models.calls == []
    with pytest.raises(OSError, match="damaged or truncated: its checksum is wrong"):
        image.load()


def test_models_are_loaded_once_for_many_images(models: FakeLoader) -> None:
    nvae_codec.pillow.configure(device="cpu", threads=1)
    for _ in range(3):
        assert np.array_equal(np.asarray(reopen(BY_MODEL)), PIXELS)
    assert len(models.calls) == 1
    assert models.calls[0]["threads"] == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_files_on_disk(mode: str, tmp_path: Path) -> None:
    rgb = Image.fromarray(PIXELS)
    depth = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
    image = depth if mode == "I;16" else rgb.convert(mode)
    path = tmp_path / "image.nvae"
    image.save(path)
    with Image.open(path) as restored:
        assert_same(restored, image)
        assert restored.copy().mode == mode
    other = tmp_path / "again.nvae"
    with Image.open(path) as restored:
        restored.save(path)
        restored.save(other)
    assert path.read_bytes() == other.read_bytes()


@given(st.sampled_from(["L", "LA", "RGB", "RGBA"]), st.integers(1, 20), st.integers(1, 20), st.randoms())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pixels_come_back(mode: str, width: int, height: int, random: Any) -> None:
    count = width * height * len(Image.getmodebands(mode) * "x")
    image = Image.frombytes(mode, (width, height), random.randbytes(count))
    assert_same(reopen(save(image, method="stored")), image)


@pytest.mark.parametrize(("method", "kind"), [("model", 1), ("webp", 2), ("stored", 3)])
def test_the_method_is_chosen(method: str, kind: int) -> None:
    assert save(Image.fromarray(PIXELS), method=method)[3] & 7 == kind


def test_the_model_is_chosen() -> None:
    data = save(Image.fromarray(PIXELS), method="model", model=FakeCodec("mnist"))
    assert data[4:8] == FakeCodec("mnist").identity[:4]
    assert save(Image.fromarray(PIXELS), method="model", model="mnist") == data
    assert np.array_equal(np.asarray(reopen(data)), PIXELS)


def test_metadata_is_kept_as_a_png_keeps_it() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Harbour"
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "A harbour")
    data = save(Image.fromarray(PIXELS), exif=exif, icc_profile=b"profile", dpi=(72, 72), pnginfo=text, xmp=b"<x/>")
    image = reopen(data)
    assert image.getexif()[0x010E] == "Harbour"
    assert image.info["icc_profile"] == b"profile"
    assert image.info["dpi"] == pytest.approx((72, 72), rel=1e-3)
    assert (image.info["Title"], image.info["xmp"]) == ("A harbour", b"<x/>")
    assert reopen(save(image)).info["icc_profile"] == b"profile"


def test_xmp_may_be_text() -> None:
    packet = "<x>Ærø</x>"
    data = save(Image.fromarray(PIXELS), xmp=packet)
    assert reopen(data).info["xmp"] == packet.encode()
    for same in (packet.encode(), bytearray(packet.encode())):
        assert save(Image.fromarray(PIXELS), xmp=same) == data
    with pytest.raises(TypeError):
        save(Image.fromarray(PIXELS), xmp=3)


def test_metadata_longer_than_the_beginning_is_read() -> None:
    profile = np.random.default_rng(4).bytes(100_000)
    for image in (Image.fromarray(PIXELS), Image.fromarray(PIXELS).convert("P")):
        assert reopen(save(image, icc_profile=profile)).info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "YCbCr", "HSV", "LAB"])
def test_modes_that_a_png_cannot_keep_are_refused(mode: str, tmp_path: Path) -> None:
    image = Image.new(mode, (2, 2))
    with pytest.raises(OSError, match=f"cannot write mode {mode} as NVAE"):
        image.save(tmp_path / "x.nvae")
    assert not (tmp_path / "x.nvae").exists()


def test_images_that_cannot_be_saved_are_named() -> None:
    with pytest.raises(OSError, match="with or without alpha, not 1-bit palette"):
        save(Image.new("P", (2, 2)), method="model")
    with pytest.raises(OSError, match="there is no model else"):
        save(Image.fromarray(PIXELS), model="else")
    with pytest.raises(ValueError, match="there is no method 'best'"):
        save(Image.fromarray(PIXELS), method="best")


@pytest.mark.parametrize("length", [2, 3, 4, 9, 15])
def test_a_truncated_header_is_no_image(length: int) -> None:
    with pytest.raises(UnidentifiedImageError):
        reopen(BY_MODEL[:length])


def test_newer_and_other_files_are_no_images() -> None:
    with pytest.warns(UserWarning, match="an .nvae file of format version 99"), pytest.raises(UnidentifiedImageError):
        reopen(BY_MODEL[:2] + b"\x63" + BY_MODEL[3:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnidentifiedImageError):
            reopen(b"\xd6 some other file")


def test_an_archive_is_refused_by_name() -> None:
    with pytest.raises(OSError, match=r"not one: nvae_codec\.open_archive reads it"):
        reopen(b"\xd6N\x01\x07" + bytes(60))


def test_a_missing_model_is_named() -> None:
    data = save(Image.fromarray(PIXELS), method="model", model=FakeCodec("gone"))
    image = reopen(data)
    assert image.size == (31, 19)
    with pytest.raises(OSError, match=r"made by model \w{8}, which is not installed; installed models: mnist"):
        image.load()


def test_verify_finds_damage_without_decoding(models: FakeLoader) -> None:
    reopen(BY_MODEL).verify()
    with pytest.raises(OSError, match="its checksum is wrong"):
        reopen(BY_MODEL[:-9] + b"?" + BY_MODEL[-8:]).verify()
    assert models.calls == []


def test_pillow_limits_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        reopen(BY_MODEL)


def test_the_suffix_has_a_media_type() -> None:
    assert mimetypes.guess_type("photo.nvae") == ("image/x-nvae", None)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "P", "1", "I;16"])
def test_images_are_copied_and_pickled(mode: str, loaded: bool) -> None:
    buffer = io.BytesIO()
    image = Image.new(mode, (5, 4))
    image.putpixel((1, 1), 1)
    image.save(buffer, "NVAE", method="stored")
    works: tuple[Callable[[Any], Any], ...] = (copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given)))
    for work in works:
        opened = Image.open(io.BytesIO(buffer.getvalue()))
        if loaded:
            opened.load()
        other = work(opened)
        other.load()
        assert (other.mode, other.tobytes()) == (image.mode, image.tobytes())
