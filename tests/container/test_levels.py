"""Files and archives of models of other images than 8-bit RGB: they come back in the mode that they came in."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nvae_codec
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.segment import pack_segment, unpack_segment
from nvae_codec.container.header import Header, Kind, Parts, join_parts, split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.levels import Shown, show_levels
from nvae_codec.images.raster import GRAY1, GRAY8, RGB8, RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from nvae_codec.integer.model_file import pack_model
from nvae_codec.zoo.library import Models, read_model_info
from tests.models import exported_model

Pixels = NDArray[np.uint8]


def make_levels(which: str, height: int = 28, width: int = 28) -> Pixels:
    model = exported_model(which)
    y, x = np.mgrid[:height, :width]
    wave = (x * y // 9 + x // 3) % (model.top_value + 1)
    return (np.stack([wave] * 3, 2) if model.channels == 3 else wave).astype(np.uint8)


def make_png(pixels: Pixels, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(bool) if mode == "1" else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def models(which: str) -> Models:
    return Models(ModelCodec(exported_model(which)))


@pytest.mark.parametrize(("mode", "kind"), [("1", Kind.MODEL), ("L", Kind.MODEL_SPREAD)])
def test_binary_pngs_come_back_in_their_mode(mode: str, kind: Kind) -> None:
    digit = make_levels("bernoulli")
    image = read_image(make_png(digit if mode == "1" else 255 * digit, mode))
    file = write_file(image, "model", models("bernoulli"))
    header = split_parts(file).header
    assert (header.kind, header.colour) == (kind, GRAY1 if mode == "1" else GRAY8)
    restored = read_file(file, models("bernoulli"))
    assert same_image(restored, image)
    with Image.open(io.BytesIO(write_png(restored))) as pil_image:
        assert pil_image.mode == mode
        assert np.array_equal(np.asarray(pil_image) != 0, digit != 0)


def test_auto_takes_what_a_model_does_not() -> None:
    gray = read_image(make_png(make_levels("bernoulli") * 100, "L"))
    assert split_parts(write_file(gray, "auto", models("bernoulli"))).header.kind in (Kind.WEBP, Kind.FILE, Kind.PIXELS)
    with pytest.raises(UnsupportedImageError, match="the model takes gray of the values 0 and 1, or 0 and 255"):
        write_file(gray, "model", models("bernoulli"))
    binary = read_image(make_png(make_levels("bernoulli"), "1"))
    assert split_parts(write_file(binary, "auto", models("joint"))).header.kind in (Kind.WEBP, Kind.FILE)
    with pytest.raises(UnsupportedImageError):
        write_file(binary, "model", models("joint"))


@pytest.mark.parametrize("shown", Shown)
def test_arrays_of_five_bits_come_back(tmp_path: Path, shown: Shown) -> None:
    path = tmp_path / "five.safetensors"
    path.write_bytes(pack_model(exported_model("joint, 5 bits"), "", {}))
    assert (read_model_info(path).input.channels, read_model_info(path).input.bits) == (3, 5)
    pixels = show_levels(make_levels("joint, 5 bits"), 5, shown)
    data = nvae_codec.compress(pixels, model=path, method="model")
    assert np.array_equal(nvae_codec.decompress(data, model=path), pixels)
    with pytest.raises(UnsupportedImageError, match="takes RGB and gray of the values 0 to 31"):
        nvae_codec.compress(pixels + 1, model=path, method="model")


def test_gray_arrays_are_for_models_of_gray(tmp_path: Path) -> None:
    path = tmp_path / "digits.safetensors"
    path.write_bytes(pack_model(exported_model("bernoulli"), "", {}))
    for pixels in (make_levels("bernoulli"), 255 * make_levels("bernoulli")):
        data = nvae_codec.compress(pixels, model=path, method="model")
        assert split_parts(data).header.model_id == read_model_info(path).identity[:4]
        assert np.array_equal(nvae_codec.decompress(data, model=path), pixels)


def test_an_archive_holds_digits_of_every_mode() -> None:
    digit, codecs = make_levels("bernoulli"), models("bernoulli")
    images = [
        read_image(make_png(digit, "1")),
        RasterImage.from_pixels(digit),
        RasterImage.from_pixels(255 * digit),
        read_image(make_png(1 - digit, "1")),
    ]
    packed = pack_segment([(f"{i}.png", p) for i, p in enumerate(images)], "model", codecs)
    kinds = [(entry.kind, entry.colour) for entry in packed.entries]
    assert kinds == [
        (Kind.MODEL, GRAY1), (Kind.MODEL, GRAY8), (Kind.MODEL_SPREAD, GRAY8), (Kind.MODEL, GRAY1),
    ]  # fmt: skip
    restored = unpack_segment(packed.data, packed.entries, codecs.identity(), codecs)
    assert all(same_image(one, other) for one, other in zip(restored, images, strict=True))


@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.MODEL_SPREAD])
def test_images_that_their_model_cannot_have_made_are_damaged(kind: Kind) -> None:
    whole = split_parts(write_file(RasterImage.from_pixels(make_levels("bernoulli")), "model", models("bernoulli")))
    header = whole.header
    other = Header(kind, RGB8, header.width, header.height, header.content_checksum, header.model_id, header.plan)
    with pytest.raises(DamagedFileError, match="its model does not make such images"):
        read_file(join_parts(Parts(other, whole.payload)), models("bernoulli"))
