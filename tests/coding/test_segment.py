"""Several images on one stack: they come back, and cost what they should."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.coded import Coded
from nvae_codec.errors import DamagedFileError
from nvae_codec.evaluation import integer_elbo
from nvae_codec.schedule.plan import PlanKind, read_plan
from nvae_codec.schedule.record import BatchRecord
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import LARGEST_BATCH, SPARSE, plan_segment, plan_tiles, segment_order
from tests.models import RECIPES, exported_model, make_image, round_trip

Pixels = NDArray[np.uint8]
MIXED = [(70, 120), (16, 16), (33, 20), (16, 16), (1, 1), (16, 16)]


def images_of(sizes: list[tuple[int, int]]) -> list[Pixels]:
    return [make_image(height, width, seed) for seed, (height, width) in enumerate(sizes)]


def shapes_of(sizes: Sequence[tuple[int, int]]) -> list[Shape]:
    return [Shape(height, width) for height, width in sizes]


@pytest.mark.parametrize("which", RECIPES)
def test_images_of_many_sizes_come_back(which: str) -> None:
    round_trip(ModelCodec(exported_model(which)), *images_of(MIXED))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6), st.booleans())
def test_any_images_come_back(sizes: list[tuple[int, int]], flat: bool) -> None:
    images = [np.full((*size, 3), 7, np.uint8) for size in sizes] if flat else images_of(sizes)
    round_trip(ModelCodec(exported_model()), *images)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 24), st.integers(1, 24), st.booleans()), min_size=1, max_size=6))
def test_gray_images_come_back_among_others(shapes: list[tuple[int, int, bool]]) -> None:
    images = [make_image(h, w)[:, :, 1] if gray else make_image(h, w) for h, w, gray in shapes]
    round_trip(ModelCodec(exported_model()), *images)


@pytest.mark.parametrize("which", ["phases of two levels", "joint", "joint, 5 bits"])
def test_the_size_of_gray_matches_its_bound(which: str) -> None:
    """Of the three equal colours that the network sees, one is paid for."""
    model = exported_model(which)
    gray = make_image(48, 48)[:, :, 1] & np.uint8(model.top_value)
    codec = ModelCodec(model)
    coded = round_trip(codec, gray)
    bound = integer_elbo(gray, model, samples=2).bits
    assert 0.97 < 8 * len(coded.payload) / bound < 1.04
    assert 8 * len(codec.encode([np.stack([gray] * 3, 2)]).payload) > 1.2 * bound
    with pytest.raises(DamagedFileError):
        codec.decode([Shape(48, 48)], coded)


def test_images_of_one_size_are_coded_together() -> None:
    plan = round_trip(ModelCodec(exported_model()), *images_of([(24, 24)] * 40)).plan
    assert plan[1] == 1
    assert len(plan) < 1 + 3 * 8


def test_the_size_of_a_segment_matches_its_bound() -> None:
    images = images_of([(32, 32)] * 48)
    coded = ModelCodec(exported_model()).encode(images)
    bound = sum(integer_elbo(image, exported_model(), samples=2).bits for image in images)
    assert 0.99 < 8 * (len(coded.payload) + len(coded.plan)) / bound < 1.006


def test_small_images_come_first_and_equal_ones_stay_together() -> None:
    assert segment_order(shapes_of(MIXED)) == [4, 1, 3, 5, 2, 0]
    tiles = plan_segment(shapes_of(MIXED), SPARSE[0], 0)
    assert [tile.image for tile in tiles[:5]] == [4, 1, 3, 5, 2]
    for image, (height, width) in enumerate(MIXED):
        covered = np.zeros((height, width), int)
        for tile in tiles:
            if tile.image == image:
                covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
        assert (covered == 1).all()


def test_images_after_others_start_with_large_tiles() -> None:
    assert len(plan_tiles(400, 500, SPARSE[0])) > 1
    assert len(plan_tiles(400, 500, SPARSE[0], done=400 * 500)) == 1
    assert plan_segment([Shape(400, 500)], SPARSE[1], 3) == plan_tiles(400, 500, SPARSE[1], 3)


def test_plans_of_other_segments_are_refused() -> None:
    shapes = [Shape(16, 16)] * 3
    assert [record.tiles for _, record in read_plan(shapes, [0, 1, 0, 9, 2, 9, 9])] == [1, 2]
    for plan in ([0, 1, 0, 9], [0, 4, 0, 9], [0, 1, 0, 9, 3, 9, 9]):
        with pytest.raises(DamagedFileError, match="batches do not"):
            read_plan(shapes, plan)
    with pytest.raises(DamagedFileError, match="impossible size"):
        read_plan([Shape(16, 16)] * (LARGEST_BATCH // 256 + 1), [0, LARGEST_BATCH // 256 + 1, 0, 9])


def checked_segment(images: list[Pixels], which: str = "phases of two levels") -> tuple[ModelCodec, Coded]:
    codec = ModelCodec(exported_model(which))
    coded = codec.encode(images)
    assert PlanKind.read(coded.plan[0]).checked
    return codec, coded


@pytest.mark.parametrize("which", ["phases of two levels", "official, two pairs of flows", "joint, 5 bits"])
def test_reading_one_image_stops_after_its_batch(which: str) -> None:
    top = exported_model(which).top_value
    images = [image & np.uint8(top) for image in images_of([(64, 48), (32, 32)] * 20)]
    codec, coded = checked_segment(images, which)
    shapes = [Shape.of(image) for image in images]
    for wanted, most in (([38], 20), ([0], 39), ([1], 40), ([38, 36], 20), (range(40), 40)):
        found = codec.decode(shapes, coded, wanted)
        assert set(wanted) <= set(found)
        assert len(found) <= most
        assert all(np.array_equal(images[index], pixels) for index, pixels in found.items())


def test_a_wrong_checksum_of_a_batch_is_damage() -> None:
    codec, coded = checked_segment(images_of([(64, 64)] * 17))
    plan, shapes = coded.plan, [Shape(64, 64)] * 17
    size = BatchRecord.size(dense=PlanKind.read(plan[0]).growth.dense, checked=True)
    for at in (size, len(plan) - 1):
        damaged = replace(coded, plan=(*plan[:at], plan[at] ^ 1, *plan[at + 1 :]))
        with pytest.raises(DamagedFileError, match="checksum of a batch"):
            codec.decode(shapes, damaged)
    with pytest.raises(DamagedFileError, match="impossible size"):
        codec.decode(shapes, replace(coded, plan=(*plan[:-1], 1 << 32)))


def test_images_of_one_bit_have_no_checksums() -> None:
    codec, rng = ModelCodec(exported_model("bernoulli")), np.random.default_rng(3)
    images = [rng.integers(0, 2, (64, 64), np.uint8) for _ in range(17)]
    assert not PlanKind.read(round_trip(codec, *images).plan[0]).checked


def test_segments_without_checksums_are_decoded_whole() -> None:
    codec, images = ModelCodec(exported_model()), images_of([(16, 16)] * 20)
    coded = codec.encode(images)
    assert not PlanKind.read(coded.plan[0]).checked
    assert len(codec.decode([Shape(16, 16)] * 20, coded, [19])) == 20


@given(st.integers(-1, 300))
def test_the_first_number_of_a_plan(number: int) -> None:
    try:
        assert PlanKind.read(number).number == number
    except DamagedFileError:
        assert not 0 <= number < 64
