"""docs/format.md says enough: a second decoder, written from it alone (tests/decoder), reads what the codec writes."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import nvae_codec
from nvae_codec.coding.ans import Int32, Stack
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.index import Shard
from nvae_codec.container.archive.writer import group_images, write_archive
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.export.export import export
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import COLOURS, WHOLE_BYTES, Chunk, Colour, RasterImage, same_image
from nvae_codec.integer.model_file import pack_model
from nvae_codec.schedule import policy
from nvae_codec.zoo.library import Models
from tests.coding.test_rate import golden_image
from tests.decoder.files import decode_archive, decode_file, decode_stack
from tests.decoder.model import Model
from tests.decoder.stack import Ans
from tests.integer.test_same_everywhere import REFRESH
from tests.models import OF_LIKELIHOODS, frozen_model, make_network, make_recipe, random_crops

GOLDEN = Path(__file__).parent / "golden"
MODEL, FILE, ARCHIVE = GOLDEN / "tiny.safetensors", GOLDEN / "tiny.nvae", GOLDEN / "archive.nvae"


def test_the_page_is_enough_to_decode_a_file() -> None:
    """An image of several batches, of sides that no stride divides; the decoder itself compares its checksum."""
    image = golden_image()[:131, :103]
    if os.environ.get(REFRESH):
        FILE.write_bytes(nvae_codec.compress(image, model=MODEL, method="model"))
    assert np.array_equal(decode_file(FILE.read_bytes(), Model(MODEL)), image)


@dataclass(frozen=True)
class Known:
    """A distribution in which every slot holds the symbol of its position."""

    start: Int32
    frequency: Int32
    bits: int

    @property
    def count(self) -> int:
        return len(self.start)

    def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        return self.start[at], self.frequency[at]

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        return np.arange(self.count, dtype=np.int32)[at], self.start[at], self.frequency[at]


@pytest.mark.parametrize("bits", [16, 17, 18, 19, 20])
def test_residual_states_of_wide_and_narrow_intervals_are_as_the_page_says(bits: int) -> None:
    rng = np.random.default_rng(bits)
    width = np.concatenate([[1, 2**14 - 1, 2**14, 2**14 + 1, 2**bits], 2 ** rng.uniform(0, bits, 200)]).astype(np.int32)
    left: Int32 = rng.integers(0, 2**bits - width + 1).astype(np.int32)
    payload = rng.bytes(400) + b"\1"
    ours, its = Stack(payload), Ans(payload)
    symbols = np.arange(len(left))
    wide = symbols, left.astype(np.int64), width.astype(np.int64)
    ours.push(left, width, bits)
    its.push(*wide[1:], bits)
    assert ours.to_bytes() == ans_bytes(its)
    assert np.array_equal(ours.pop(Known(left, width, bits)), symbols)
    assert np.array_equal(its.pop(len(left), lambda quantile: wide, bits), symbols)
    assert ours.to_bytes() == payload == ans_bytes(its)


def ans_bytes(ans: Ans) -> bytes:
    state = ans.state.to_bytes(8, "little")
    return (b"".join(word.to_bytes(4, "little") for word in ans.words) + state).rstrip(b"\0")


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (18, 70), (66, 135)], ids=str)
def test_the_page_is_enough_for_small_images(size: tuple[int, int]) -> None:
    """Tiles that lack pixels of some planes are padded as the page says."""
    image = golden_image()[: size[0], : size[1]]
    data = nvae_codec.compress(image, model=MODEL, method="model")
    assert np.array_equal(decode_file(data, Model(MODEL)), image)


def test_the_page_is_enough_for_flows() -> None:
    """Of a model whose latents pass flows, two batches; the encoder still writes the same bytes."""
    image, model, file = golden_image()[:9, :107], GOLDEN / "flows.safetensors", GOLDEN / "flows.nvae"
    if os.environ.get(REFRESH):
        network = make_network(make_recipe("phases of two levels", "network.flows = 1"))
        model.write_bytes(pack_model(export(network, [random_crops(4, 64)]).model, "", {}))
        file.write_bytes(nvae_codec.compress(image, model=model, method="model"))
    assert np.array_equal(decode_file(file.read_bytes(), Model(model)), image)
    assert nvae_codec.compress(image, model=model, method="model") == file.read_bytes()


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
def test_the_page_is_enough_for_the_official_likelihoods(tmp_path: Path, which: str) -> None:
    """Several images on one stack, larger and smaller than what the network was made for."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack_model(frozen_model(which), "", {}))
    model = frozen_model(which)
    sizes = [(28, 28), (28, 28), (9, 35), (70, 12)]
    images = [golden_image()[:h, :w] & np.uint8(model.top_value) for h, w in sizes]
    images = [p if model.channels == 3 else p[:, :, :1] for p in images]
    coded = ModelCodec(model).encode([p if model.channels == 3 else p[:, :, 0] for p in images])
    decoded = decode_stack([p.shape[:2] for p in images], list(coded.plan), coded.payload, Model(path))
    assert all(np.array_equal(one, other) for one, other in zip(decoded, images, strict=True))


def test_the_page_is_enough_for_gray(tmp_path: Path) -> None:
    """Of a model of RGB: a golden file of several batches, and gray among images of colour on one stack."""
    gray, file = np.ascontiguousarray(golden_image()[:67, :103, 1]), GOLDEN / "gray.nvae"
    if os.environ.get(REFRESH):
        file.write_bytes(nvae_codec.compress(gray, model=MODEL, method="model"))
    assert np.array_equal(decode_file(file.read_bytes(), Model(MODEL)), gray)
    assert np.array_equal(nvae_codec.decompress(file.read_bytes(), model=MODEL), gray)
    assert nvae_codec.compress(gray, model=MODEL, method="model") == file.read_bytes()
    named = [(f"{i}.png", RasterImage.from_pixels(golden_image()[i : i + 9, :12])) for i in range(3)]
    named += [(f"gray{i}.png", RasterImage.from_pixels(gray[i : i + 9, :12].copy())) for i in range(3)]
    path = tmp_path / "archive.nvae"
    with path.open("wb") as out:
        list(write_archive(out, [named], method="model", models=Models(MODEL)))
    found = decode_archive(path.read_bytes(), Model(MODEL))
    for name, image in named:
        assert np.array_equal(found[name][0], image.require_pixels("a test"))


@pytest.mark.parametrize("colour", WHOLE_BYTES, ids=str)
def test_the_page_is_enough_for_alpha_and_16_bits(colour: Colour) -> None:
    """Every kind of pixel that goes through the model; golden is the one that has all of it."""
    rng, image = np.random.default_rng(5), golden_image()[:24, :31]
    colours = image[:, :, 1] if colour.is_gray else image
    alpha = np.add.outer(np.arange(24), 8 * np.arange(31)).astype(np.uint8)
    high = np.dstack([colours, alpha]) if colour.has_alpha else colours
    low = rng.integers(0, 256, high.shape, np.uint8) if colour.bits == 16 else None
    whole = RasterImage(31, 24, colour, np.ascontiguousarray(high), low=low)
    data, file = write_file(whole, "model", Models(MODEL)), GOLDEN / "deep.nvae"
    decoded = decode_file(data, Model(MODEL))
    assert np.array_equal(decoded, high if low is None else 256 * high.astype(np.int64) + low)
    assert same_image(read_file(data, Models(MODEL)), whole)
    if colour == COLOURS[-1]:
        if os.environ.get(REFRESH):
            file.write_bytes(data)
        assert same_image(read_file(file.read_bytes(), Models(MODEL)), whole)
        assert np.array_equal(decode_file(file.read_bytes(), Model(MODEL)), decoded)


@pytest.mark.parametrize("which", ["digits", "five"])
def test_golden_files_of_the_official_likelihoods(which: str) -> None:
    """A binary image and one of 5 bits: the encoder still writes the same bytes, and this decoder reads them."""
    path, file = GOLDEN / f"{which}.safetensors", GOLDEN / f"{which}.nvae"
    image = golden_image()[:28, :28] % (2 if which == "digits" else 32)
    image = np.ascontiguousarray(image[:, :, 0]) if which == "digits" else image
    if os.environ.get(REFRESH):
        path.write_bytes(pack_model(frozen_model("bernoulli" if which == "digits" else "joint, 5 bits"), "", {}))
        file.write_bytes(nvae_codec.compress(image, model=path, method="model"))
    data = file.read_bytes()
    assert np.array_equal(nvae_codec.decompress(data, model=path), image)
    assert nvae_codec.compress(image, model=path, method="model") == data


def test_golden_file_of_dense_latents() -> None:
    """A plan of kind 2, of many batches: the encoder still writes the same bytes, and this decoder reads them."""
    path, file, image = GOLDEN / "five.safetensors", GOLDEN / "dense.nvae", golden_image()[:70, :103] % 32
    if os.environ.get(REFRESH):
        file.write_bytes(nvae_codec.compress(image, model=path, method="model"))
    data = file.read_bytes()
    assert np.array_equal(decode_file(data, Model(path)), image)
    assert np.array_equal(nvae_codec.decompress(data, model=path), image)
    assert nvae_codec.compress(image, model=path, method="model") == data


@pytest.mark.parametrize("which", ["phases of one level, elu", "official: batch norm, gates, swish"])
def test_the_page_is_enough_for_other_models(tmp_path: Path, which: str) -> None:
    """Bounded colours, and all pixels in one phase."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack_model(frozen_model(which), "", {}))
    image = golden_image()[:21, :150]
    data = nvae_codec.compress(image, model=path, method="model")
    assert np.array_equal(decode_file(data, Model(path)), image)


def golden_archive(path: Path) -> list[tuple[str, RasterImage]]:
    """Write an archive of two segments by the model, and one of what it does not take, which is appended."""
    image = golden_image()
    chunks = (Chunk(b"tEXt", b"Title\0Harbour"), IDAT_PLACE)
    coded = [(f"small/{i:02d}.png", RasterImage.from_pixels(image[9 * i : 9 * i + 12, 2:22])) for i in range(8, 12)]
    coded += [("wide.png", RasterImage.from_pixels(image[:70, :140], chunks))]
    coded += [("dot.png", RasterImage.from_pixels(image[:1, :1], chunks))]
    stored = [("gray.png", RasterImage.from_pixels(np.ascontiguousarray(image[:5, :7, 0])))]
    base = None
    for named, method in ((coded, "model"), (stored, "stored")):
        with path.with_suffix(".part").open("wb") as out:
            groups = group_images(named, 5, 1 << 22)
            list(write_archive(out, groups, method=method, models=Models(MODEL), base=base))
        path.with_suffix(".part").replace(path)
        base = nvae_codec.open_archive(path, model=MODEL)
    return coded + stored


def test_the_page_is_enough_to_decode_an_archive(tmp_path: Path) -> None:
    named = golden_archive(tmp_path / "archive.nvae")
    written = (tmp_path / "archive.nvae").read_bytes()
    if os.environ.get(REFRESH):
        ARCHIVE.write_bytes(written)
    assert written == ARCHIVE.read_bytes(), "archives have the same bytes everywhere"
    found = decode_archive(written, Model(MODEL))
    archive = nvae_codec.open_archive(ARCHIVE, model=MODEL)
    assert list(found) == archive.names == [name for name, _ in named]
    assert len(archive.segments) == 3
    for name, image in named:
        pixels, chunks = found[name]
        assert np.array_equal(pixels, image.require_pixels("a test"))
        assert chunks == list(image.chunks)
        assert same_image(archive.read_image(name), image)


def test_the_page_is_enough_to_decode_batches_with_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches on one stack, gray among them, and one that is stored; the decoder compares their checksums."""
    monkeypatch.setattr(policy, "CHECKED_PIXELS", 500)
    whole, file = golden_image(), GOLDEN / "checked.nvae"
    pixels = [whole[9 * i : 9 * i + 24, 4 * i : 4 * i + 20] for i in range(8)]
    pixels += [whole[:30, :40], whole[40:64, 80:100, 1], whole[41:65, 81:101, 1]]
    named = [(f"{i}.png", RasterImage.from_pixels(np.ascontiguousarray(part))) for i, part in enumerate(pixels)]
    out = io.BytesIO()
    list(write_archive(out, [named], method="model", models=Models(MODEL)))
    if os.environ.get(REFRESH):
        file.write_bytes(out.getvalue())
    assert out.getvalue() == file.read_bytes(), "archives have the same bytes everywhere"
    found = decode_archive(file.read_bytes(), Model(MODEL))
    archive = nvae_codec.open_archive(file, model=MODEL)
    for name, image in named:
        assert np.array_equal(found[name][0], image.require_pixels("a test"))
        assert np.array_equal(nvae_codec.open_archive(file, model=MODEL).read(name), found[name][0])
        assert same_image(archive.read_image(name), image)


def test_the_page_is_enough_to_decode_a_shard(tmp_path: Path) -> None:
    """Two stored images: the encoder still writes the same bytes, and both decoders read them."""
    named, file = golden_archive(tmp_path / "archive.nvae")[-2:], GOLDEN / "shard.nvae"
    shard, out = Shard(2, 300, b"together"), io.BytesIO()
    list(write_archive(out, [named], method="stored", models=Models(MODEL), extensions=(shard.pack(),)))
    if os.environ.get(REFRESH):
        file.write_bytes(out.getvalue())
    assert out.getvalue() == file.read_bytes()
    found = decode_archive(file.read_bytes(), Model(MODEL), (2, 300, b"together"))
    archive = nvae_codec.open_archive(file, model=MODEL)
    assert archive.shard == shard
    assert list(found) == archive.names == [name for name, _ in named]
    for name, image in named:
        assert np.array_equal(found[name][0], image.require_pixels("a test"))
        assert same_image(archive.read_image(name), image)
