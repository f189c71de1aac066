"""Archives: what goes in comes out, what is damaged is named, and the rest still decodes."""

import io
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nvae_codec
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
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.segment import Named, pack_segment, unpack_segment, unpack_wanted
from nvae_codec.container.archive.writer import group_images
from nvae_codec.container.header import Kind
from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnsupportedImageError
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import COLOURS, RGB8, Chunk, RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.zoo.library import Models
from tests.fakes import FakeCodec, OneCodec, write_archive_file
from tests.models import make_image

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"
FAKE = FakeCodec("photo")
CHUNKS = (Chunk(b"gAMA", bytes(4)), IDAT_PLACE, Chunk(b"tEXt", b"Title\0Harbour"))


def named_images(count: int, side: int = 20, chunks: tuple[Chunk, ...] = ()) -> list[Named]:
    return [(f"{i:05d}.png", RasterImage.from_pixels(make_image(side, side, i), chunks)) for i in range(count)]


def write(
    path: Path, named: list[Named], *, method: str = "auto", most: int = 3, model: Any = FAKE, **more: Any
) -> Path:
    return write_archive_file(path, group_images(named, most, 1 << 22), method=method, models=Models(model), **more)


def open_fake(path: Path) -> Archive:
    return nvae_codec.open_archive(path, model=FAKE)


@pytest.mark.parametrize("method", ["auto", "model", "webp", "stored"])
def test_images_come_back_with_names_and_metadata(tmp_path: Path, method: str) -> None:
    named = named_images(5) + [(f"with/{name}", image) for name, image in named_images(3, 12, CHUNKS)]
    archive = open_fake(write(tmp_path / "a.nvae", named, method=method))
    assert archive.names == [name for name, _ in named]
    assert archive.sizes == [(20, 20)] * 5 + [(12, 12)] * 3
    assert [len(segment.entries) for segment in archive.segments] == [3, 3, 2]
    for index, (name, image) in enumerate(named):
        assert same_image(archive.read_image(name), image)
        assert np.array_equal(archive.read(index), image.require_pixels("a test"))
        assert np.array_equal(archive[name], archive.read(index))
    assert np.array_equal(archive[-1], archive[7])
    for wrong in ("none.png", 8, -9):
        with pytest.raises((KeyError, IndexError)):
            archive.read(wrong)


def test_the_model_codes_images_of_many_sizes(tmp_path: Path) -> None:
    named = [(f"{i}.png", RasterImage.from_pixels(make_image(9 + i % 2, 24, i))) for i in range(9)]
    path = write(tmp_path / "a.nvae", named, method="model", most=9, model=MODEL)
    archive = nvae_codec.open_archive(path, model=MODEL)
    assert [entry.kind for entry in archive.entries] == [Kind.MODEL] * 9
    assert archive.identity == nvae_codec.load_model(MODEL).identity
    for name, image in named:
        assert np.array_equal(archive.read(name), image.require_pixels("a test"))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 2, 3, 4]), st.booleans()), min_size=1),
    st.sampled_from(["auto", "model", "webp", "stored"]),
)
def test_every_segment_comes_back(shapes: list[tuple[int, int, int, bool]], method: str) -> None:
    rng = np.random.default_rng(len(shapes))
    named = []
    for index, (height, width, channels, flat) in enumerate(shapes):
        shape = (height, width, channels) if channels else (height, width)
        pixels: NDArray[np.uint8] = rng.integers(0, 2 if flat else 256, shape, np.uint8)
        named.append((str(index), RasterImage.from_pixels(pixels, CHUNKS if flat else ())))
    packed = pack_segment(named, method, OneCodec(FAKE))
    assert packed.problems == ()
    restored = unpack_segment(packed.data, packed.entries, FAKE.identity, OneCodec(FAKE))
    for (_, image), other in zip(named, restored, strict=True):
        assert same_image(image, other)


def test_every_kind_of_png_is_kept(pngsuite: Path, tmp_path: Path) -> None:
    files = sorted(pngsuite.glob("b*.png"))
    named = [(file.name, read_image(file.read_bytes())) for file in files]
    archive = open_fake(write(tmp_path / "a.nvae", named, most=100))
    for name, image in named:
        restored = archive.read_image(name)
        assert same_image(restored, image) or restored.file == image.file
    assert archive.read("basn2c16.png").dtype == np.uint16
    with pytest.raises(UnsupportedImageError, match="has 4 bits"):
        archive.read("basn0g04.png")


def test_16_bits_and_alpha_share_a_stack(pngsuite: Path) -> None:
    names = ["basn0g16", "basn2c08", "basi2c16", "basn4a16", "basn6a08", "basi6a16"]
    named = [(name, read_image((pngsuite / f"{name}.png").read_bytes())) for name in names]
    packed = pack_segment(named, "model", OneCodec(FAKE))
    assert {entry.kind for entry in packed.entries} == {Kind.MODEL}
    restored = unpack_segment(packed.data, packed.entries, FAKE.identity, OneCodec(FAKE))
    assert all(same_image(one, other) for (_, one), other in zip(named, restored, strict=True))


@pytest.mark.parametrize("more", ["basn6a08", "basn2c16", "basn4a16"])
@pytest.mark.parametrize(("wanted", "decoded"), [(4, {4}), (3, None), (2, {2, 4}), (1, None), (0, None)])
def test_images_coded_by_the_model_need_only_part_of_their_segment(
    pngsuite: Path, wanted: int, decoded: set[int] | None, more: str
) -> None:
    """Alpha, low bytes and what the model does not code have no checksum of a batch: with them all is decoded."""
    gray = RasterImage.from_pixels(np.zeros((9, 9), np.uint8), CHUNKS)
    palette, beside = (read_image((pngsuite / f"{name}.png").read_bytes()) for name in ("basn3p08", more))
    colour = RasterImage.from_pixels(make_image(9, 9))
    named = [("palette", palette), ("1", gray), ("2", colour), ("beside", beside), ("4", gray)]

    codec = FakeCodec("photo", [8.0] * 4)
    codecs = OneCodec(codec)
    packed = pack_segment(named, "auto", codecs)
    assert [entry.kind is Kind.MODEL for entry in packed.entries] == [False, True, True, True, True]
    found = unpack_wanted(packed.data, packed.entries, codec.identity, codecs, [wanted])
    assert set(found) == (decoded or set(range(5)))
    for index, image in found.items():
        assert same_image(image, named[index][1])


def test_reading_keeps_what_was_decoded_of_a_segment(tmp_path: Path) -> None:
    named = named_images(8, side=9)
    write(tmp_path / "a.nvae", named, method="model", most=4)
    calls: list[list[int]] = []

    class Counted(FakeCodec):
        def decode(self, *given: Any) -> dict[int, NDArray[np.uint8]]:
            calls.append(list(given[2]))
            return super().decode(*given)

    archive = Archive(tmp_path / "a.nvae", OneCodec(Counted("photo")))
    all_four = [0, 1, 2, 3]
    reads: list[tuple[int, list[list[int]]]] = [(2, [[2]]), (3, []), (2, []), (1, [all_four]), (0, [])]
    reads += [(5, [[1]]), (7, []), (2, [[2]]), (0, [all_four]), (1, []), (2, []), (3, []), (4, [all_four]), (5, [])]
    for index, expected in reads:
        calls.clear()
        assert same_image(archive.read_image(index), named[index][1])
        assert calls == expected


def test_auto_takes_the_smallest_for_each_image() -> None:
    flat, noise = np.zeros((40, 40, 3), np.uint8), np.random.default_rng(1).integers(0, 256, (20, 20, 3), np.uint8)
    images = [flat, noise, make_image(60, 60, noise=0)]

    codec = FakeCodec("photo", [1e5, 1e5, 8.0])
    named = [(str(index), RasterImage.from_pixels(pixels)) for index, pixels in enumerate(images)]
    packed = pack_segment(named, "auto", OneCodec(codec))
    assert [entry.kind for entry in packed.entries] == [Kind.WEBP, Kind.PIXELS, Kind.MODEL]
    assert codec.encoded == 3 + 1, "the one that is left is coded again, alone"


def test_what_a_method_does_not_take_is_left_out_and_named() -> None:
    palette = replace(RasterImage.from_pixels(np.zeros((4, 4), np.uint8)), colour=COLOURS[10], pixels=None)
    named = [("palette.png", palette), *named_images(1)]
    packed = pack_segment(named, "model", OneCodec(FAKE))
    assert [entry.name for entry in packed.entries] == ["00000.png"]
    assert [name for name, _ in packed.problems] == ["palette.png"]
    assert "the model takes" in packed.problems[0][1]


def test_numbered_names_cost_nothing() -> None:
    entries = tuple(Entry(f"{i:05d}.png", Kind.MODEL, RGB8, 32, 32, False) for i in range(10_000))
    assert len(pack_index(Index(bytes(32), (Segment(HEADER_BYTES, 99, bytes(8), entries),)))) < 200


def test_segments_end_at_images_or_pixels() -> None:
    named = named_images(10)
    assert [len(group) for group in group_images(named, 4, 1 << 22)] == [4, 4, 2]
    assert [len(group) for group in group_images(named, None, 3 * 400)] == [3, 3, 3, 1]
    assert [len(group) for group in group_images(named[:2], None, 1)] == [1, 1]


def test_appending_adds_segments_and_keeps_the_old_ones(tmp_path: Path) -> None:
    path, named = tmp_path / "a.nvae", named_images(10)
    write(path, named[:5])
    before = path.read_bytes()
    old = open_fake(path)
    write(path, named[5:], base=old)
    archive = open_fake(path)
    assert archive.names == [name for name, _ in named]
    assert archive.segments[: len(old.segments)] == old.segments
    end = old.segments[-1].start + old.segments[-1].length
    assert path.read_bytes()[:end] == before[:end]
    for name, image in named:
        assert same_image(archive.read_image(name), image)


def test_an_archive_is_a_mapping_from_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nvae", named_images(4))
    with open_fake(path) as archive:
        assert repr(archive) == f"<Archive {str(path)!r}: 4 images in 2 segments>"
        assert "00001.png" in archive
        assert "1" not in archive
        assert list(archive) == archive.names
        assert dict(zip(archive, map(archive.read, archive), strict=True)).keys() == set(archive.names)
    assert archive[0].shape == (20, 20, 3), "closing only forgets what was decoded"


def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    archive = open_fake(write(tmp_path / "a.nvae", []))
    assert len(archive) == 0


def test_a_damaged_segment_is_named_and_the_others_decode(tmp_path: Path) -> None:
    path, named = tmp_path / "a.nvae", named_images(9)
    segments = open_fake(write(path, named)).segments
    data = bytearray(path.read_bytes())
    data[segments[1].start + 11] ^= 4
    path.write_bytes(data)
    archive = open_fake(path)
    for name, image in named[:3] + named[6:]:
        assert same_image(archive.read_image(name), image)
    with pytest.raises(DamagedFileError, match=r"segment 2 of 3 \(00003.png to 00005.png\): damaged"):
        archive.read("00004.png")


def read_what_is_sound(path: Path, named: list[Named]) -> int:
    """The number of images that decode; those that do must be the right ones."""
    found = 0
    archive = open_fake(path)
    for name, image in named:
        try:
            restored = archive.read_image(name)
        except NvaeCodecError:
            continue
        assert same_image(restored, image)
        found += 1
    return found


def test_truncation_and_flipped_bits_never_give_wrong_pixels(tmp_path: Path) -> None:
    path, named, rng = tmp_path / "a.nvae", named_images(6, 8), random.Random(4)
    whole = write(path, named).read_bytes()
    for length in [*range(60), *rng.sample(range(60, len(whole)), 60)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError):
            open_fake(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(DamagedFileError):
        open_fake(path)
    counts = set()
    for bit in rng.sample(range(8 * len(whole)), 300):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            counts.add(read_what_is_sound(path, named))
        except DamagedFileError:
            counts.add(0)
    assert counts == {0, 3}


def test_damage_with_valid_checksums_is_detected() -> None:
    """The second line of defence: lengths, the codecs' own checks and the checksum of the pixels."""
    images = [*named_images(2, 8, CHUNKS), ("gray", RasterImage.from_pixels(np.zeros((4, 4), np.uint8)))]
    packed = pack_segment(images, "auto", OneCodec(FAKE))
    rng = random.Random(3)
    for _ in range(300):
        damaged = bytearray(packed.data)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            restored = unpack_segment(bytes(damaged), packed.entries, FAKE.identity, OneCodec(FAKE))
        except (DamagedFileError, UnsupportedImageError):
            continue
        for (_, image), other in zip(images, restored, strict=True):
            assert same_image(image, other)


def make_file(names: list[str]) -> io.BytesIO:
    entries = tuple(Entry(name, Kind.PIXELS, RGB8, 1, 1, False) for name in names)
    packed = pack_index(Index(bytes(32), (Segment(HEADER_BYTES, 3, segment_checksum(b"abc"), entries),)))
    return io.BytesIO(archive_header(bytes(32)) + b"abc" + packed)


@pytest.mark.parametrize(
    "names", [["../a"], ["/a"], ["a", "b", "a"], ["a/../../b"], ["a", "a/b"], ["a\\b"], ["x", "x"]]
)
def test_unsafe_names_in_an_archive_are_refused(names: list[str]) -> None:
    with pytest.raises(DamagedFileError, match="refused: the name"):
        read_index(make_file(names))


def test_a_segment_beyond_the_pixel_limit_is_refused() -> None:
    huge = Entry("huge", Kind.PIXELS, RGB8, 1 << 20, 1 << 20, metadata=False)
    with pytest.raises(UnsupportedImageError, match="more than the limit"):
        unpack_segment(bytes(20), [huge], bytes(32), OneCodec(FAKE))


def test_files_of_other_kinds_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "one.nvae"
    path.write_bytes(nvae_codec.compress(make_image(8, 8), method="webp"))
    with pytest.raises(DamagedFileError, match="one image, not an archive: nvae-codec decompress restores it"):
        open_fake(path)
    archive = write(tmp_path / "a.nvae", named_images(2)).read_bytes()
    with pytest.raises(DamagedFileError, match="an archive of images, not one: nvae-codec unpack restores them"):
        nvae_codec.decompress(archive)
    for data, reason in [
        (b"", "not an archive"),
        (b"text" * 30, "not an archive"),
        (b"\xd6N\x02" + bytes(99), "version 2"),
    ]:
        path.write_bytes(data)
        with pytest.raises(DamagedFileError, match=reason):
            open_fake(path)


def test_an_archive_can_be_pickled(tmp_path: Path) -> None:
    named = named_images(4)
    archive = nvae_codec.open_archive(write(tmp_path / "a.nvae", named, model=MODEL), model=MODEL)
    archive.read(0)
    data = pickle.dumps(archive)
    assert len(data) < 4000, "neither the model nor images go along"
    assert np.array_equal(pickle.loads(data).read(2), archive.read(2))
