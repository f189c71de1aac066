"""docs/format.md suffices: a second decoder, written from it alone (tests/decoder), reads what the codec writes.

Golden files are read by both decoders, and written again with the same bytes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nvae_codec
from nvae_codec.coding.ans import Int32, Stack
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.index import Shard
from nvae_codec.container.extensions import Extension
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import COLOURS, WHOLE_BYTES, Chunk, Colour, RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.integer.model_file import pack_model, read_model
from nvae_codec.schedule.policy import Policy
from nvae_codec.zoo.library import Models
from tests.coding.test_rate import golden_image
from tests.conftest import PNGSUITE
from tests.decoder.files import decode_archive, decode_file, decode_stack
from tests.decoder.model import Model
from tests.decoder.stack import Ans
from tests.fakes import write_archive_file
from tests.golden_files import GOLDEN, check_golden, golden_model
from tests.models import OF_LIKELIHOODS, exported_model

SHARD = Shard(2, 300, b"together")
CHUNKS = (Chunk(b"tEXt", b"Title\0Harbour"), IDAT_PLACE)


def crop(rows: slice, columns: slice, *, gray: bool = False, modulo: int = 256) -> RasterImage:
    levels = (golden_image()[rows, columns].astype(np.int64) % modulo).astype(np.uint8)
    return RasterImage.from_pixels(np.ascontiguousarray(levels[:, :, 1] if gray else levels))


def with_alpha_and_16_bits(colour: Colour) -> RasterImage:
    image = golden_image()[:24, :31]
    colours = image[:, :, 1] if colour.is_gray else image
    alpha = np.add.outer(np.arange(24), 8 * np.arange(31)).astype(np.uint8)
    high = np.ascontiguousarray(np.dstack([colours, alpha]) if colour.has_alpha else colours)
    low = np.random.default_rng(5).integers(0, 256, high.shape, np.uint8) if colour.bits == 16 else None
    return RasterImage(31, 24, colour, high, low=low)


def samples_of(image: RasterImage) -> NDArray[np.integer]:
    assert image.pixels is not None
    return image.pixels if image.low is None else 256 * image.pixels.astype(np.int64) + image.low


def check_both(data: bytes, path: Path, image: RasterImage) -> None:
    """Both decoders read the image."""
    decoded = decode_file(data, Model(path))
    assert np.array_equal(decoded.samples, samples_of(image))
    assert decoded.chunks == list(image.chunks)
    assert same_image(read_file(data, Models(path)), image)


SINGLE = {
    "tiny": crop(slice(131), slice(103)),  # several batches; no stride divides the sides
    "flows": crop(slice(9), slice(107)),
    "digits": crop(slice(28), slice(28), gray=True, modulo=2),
    "five": crop(slice(70), slice(103), modulo=32),  # dense latents, several batches
}


@pytest.mark.parametrize("name", SINGLE)
def test_golden_files_of_one_image(name: str) -> None:
    data = write_file(SINGLE[name], "model", Models(golden_model(name)))
    check_both(check_golden(f"{name}.nvae", data), golden_model(name), SINGLE[name])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (18, 70), (66, 135)], ids=str)
def test_small_images(size: tuple[int, int]) -> None:
    """Tiles that lack pixels of some polyphase components are padded as the page says."""
    image = crop(slice(size[0]), slice(size[1]))
    check_both(write_file(image, "model", Models(golden_model("tiny"))), golden_model("tiny"), image)


@pytest.mark.parametrize("colour", WHOLE_BYTES, ids=str)
def test_alpha_and_16_bits(colour: Colour) -> None:
    image = with_alpha_and_16_bits(colour)
    check_both(write_file(image, "model", Models(golden_model("tiny"))), golden_model("tiny"), image)


@pytest.mark.parametrize("method", ["webp", "stored"])
def test_metadata_and_classical_methods(method: str) -> None:
    image = RasterImage.from_pixels(golden_image()[:9, :12], CHUNKS)
    check_both(write_file(image, method, Models(golden_model("tiny"))), golden_model("tiny"), image)


@pytest.mark.parametrize("which", ["phases of one level, elu", "official: batch norm, gates, swish"])
def test_other_models(tmp_path: Path, which: str) -> None:
    """Bounded colours, and all pixels in one phase."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack_model(exported_model(which), "", {}))
    image = crop(slice(21), slice(150))
    check_both(write_file(image, "model", Models(path)), path, image)


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
def test_the_official_likelihoods(tmp_path: Path, which: str) -> None:
    """Several images on one stack, larger and smaller than what the network was made for."""
    path, model = tmp_path / "model.safetensors", exported_model(which)
    path.write_bytes(pack_model(model, "", {}))
    sizes = [(28, 28), (28, 28), (9, 35), (70, 12)]
    images = [golden_image()[:h, :w, : model.channels] & np.uint8(model.top_value) for h, w in sizes]
    coded = ModelCodec(model).encode([image if model.channels == 3 else image[:, :, 0] for image in images])
    decoded = decode_stack(sizes, list(coded.plan), coded.payload, Model(path))
    assert all(np.array_equal(one, other) for one, other in zip(decoded, images, strict=True))


def test_residual_states() -> None:
    for bits in (16, 17, 18, 19, 20):
        rng = np.random.default_rng(bits)
        sizes = np.concatenate([[1, 2**12 - 1, 2**12, 2**12 + 1, 2**bits], 2 ** rng.uniform(0, bits, 200)])
        frequency = sizes.astype(np.int32)
        start: Int32 = rng.integers(0, 2**bits - frequency + 1).astype(np.int32)
        payload = rng.bytes(400) + b"\1"
        ours, its = Stack(payload), Ans(payload)
        ours.push(start, frequency, bits)
        its.push(start.astype(np.int64), frequency.astype(np.int64), bits)
        state = its.state.to_bytes(8, "little")
        words = b"".join(word.to_bytes(4, "little") for word in its.words)
        assert ours.to_bytes() == (words + state).rstrip(b"\0")


class CheckedPolicy(Policy):
    """Batches have checksums from so few pixels on."""

    checked_pixels = 500


def write_golden_archive(path: Path) -> tuple[bytes, list[tuple[str, RasterImage]]]:
    """Batches with checksums, gray, alpha, 16 bits, a palette, metadata, an unknown block, a shard; appended."""
    codec = ModelCodec(read_model(golden_model("tiny")))
    codec.policy = CheckedPolicy(codec.model)
    small = [(f"small/{i:02d}.png", crop(slice(9 * i, 9 * i + 12), slice(2, 22))) for i in range(8, 12)]
    wide = RasterImage.from_pixels(golden_image()[:70, :140], CHUNKS)
    dot = RasterImage.from_pixels(golden_image()[:1, :1], CHUNKS)
    gray = crop(slice(40, 64), slice(80, 100), gray=True)
    palette = replace(read_image((PNGSUITE / "tp1n3p08.png").read_bytes()), file=None)
    groups = [
        ("model", [*small, ("wide.png", wide), ("gray.png", gray)]),
        ("model", [("dot.png", dot), ("deep.png", with_alpha_and_16_bits(COLOURS[14]))]),
        ("webp", [("palette.png", palette)]),
        ("stored", [("stored.png", dot)]),
    ]
    base, blocks = None, [SHARD.pack(), Extension(70, b"of a later release")]
    for method, named in groups:
        write_archive_file(path, [named], method=method, models=Models(codec), base=base, extensions=tuple(blocks))
        base, blocks = nvae_codec.open_archive(path, model=codec), []
    return path.read_bytes(), [each for _, named in groups for each in named]


def test_golden_archive(tmp_path: Path) -> None:
    data, named = write_golden_archive(tmp_path / "archive.nvae")
    found = decode_archive(check_golden("archive.nvae", data), Model(golden_model("tiny")), (2, 300, b"together"))
    archive = nvae_codec.open_archive(GOLDEN / "archive.nvae", model=golden_model("tiny"))
    assert list(found) == archive.names == [name for name, _ in named]
    assert (archive.shard, len(archive.segments)) == (SHARD, 4)
    for name, image in named:
        assert np.array_equal(found[name].samples, samples_of(image))
        assert found[name].chunks == list(image.chunks)
        assert same_image(archive.read_image(name), image)
        assert same_image(nvae_codec.open_archive(archive.path, model=golden_model("tiny")).read_image(name), image)
