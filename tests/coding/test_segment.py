"""Several pictures on one stack: they come back, cost what they should, and a lone one is a segment of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.errors import DamagedFileError
from nvae_codec.evaluation import exact_elbo
from nvae_codec.schedule.plan import PlanKind, read_plan
from nvae_codec.schedule.record import BatchRecord
from nvae_codec.schedule.tiles import LARGEST_BATCH, SPARSE, plan_segment, plan_tiles, segment_order
from tests.models import RECIPES, frozen_model, make_picture

Pixels = NDArray[np.uint8]
MIXED = [(70, 120), (16, 16), (33, 20), (16, 16), (1, 1), (16, 16)]


def pictures_of(sizes: list[tuple[int, int]]) -> list[Pixels]:
    return [make_picture(height, width, seed) for seed, (height, width) in enumerate(sizes)]


def assert_round_trip(which: str, pictures: list[Pixels]) -> list[int]:
    codec = ModelCodec(frozen_model(which))
    plan, payload = codec.encode_segment(pictures)
    restored = codec.decode_segment([(len(picture), len(picture[0])) for picture in pictures], plan, payload)
    assert all(np.array_equal(one, other) for one, other in zip(pictures, restored, strict=True))
    return plan


@pytest.mark.parametrize("which", RECIPES)
def test_pictures_of_many_sizes_come_back(which: str) -> None:
    assert_round_trip(which, pictures_of(MIXED))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6), st.booleans())
def test_any_pictures_come_back(sizes: list[tuple[int, int]], flat: bool) -> None:
    pictures = [np.full((*size, 3), 7, np.uint8) for size in sizes] if flat else pictures_of(sizes)
    assert_round_trip("phases of two levels", pictures)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 24), st.integers(1, 24), st.booleans()), min_size=1, max_size=6))
def test_gray_pictures_come_back_among_others(shapes: list[tuple[int, int, bool]]) -> None:
    pictures = [make_picture(h, w)[:, :, 1] if gray else make_picture(h, w) for h, w, gray in shapes]
    codec = ModelCodec(frozen_model())
    plan, payload = codec.encode_segment(pictures)
    sizes, gray = [(h, w) for h, w, _ in shapes], [gray for _, _, gray in shapes]
    restored = codec.decode_segment(sizes, plan, payload, gray)
    assert all(np.array_equal(one, other) for one, other in zip(pictures, restored, strict=True))


@pytest.mark.parametrize("which", ["phases of two levels", "joint", "joint, 5 bits"])
def test_gray_is_as_long_as_its_bound(which: str) -> None:
    """Of the three equal colours that the network sees, one is paid for."""
    model = frozen_model(which)
    gray = make_picture(48, 48)[:, :, 1] & np.uint8(model.top_value)
    codec = ModelCodec(model)
    plan, payload = codec.encode(gray)
    bound = exact_elbo(gray, model, samples=2).bits
    assert 0.97 < 8 * len(payload) / bound < 1.04
    assert 8 * len(codec.encode(np.stack([gray] * 3, 2))[1]) > 1.2 * bound
    assert np.array_equal(codec.decode(48, 48, plan, payload, gray=True), gray)
    with pytest.raises(DamagedFileError):
        codec.decode(48, 48, plan, payload)


def test_a_lone_picture_is_a_segment_of_one() -> None:
    codec, picture = ModelCodec(frozen_model()), make_picture(100, 130)
    assert codec.encode(picture) == codec.encode_segment([picture])


def test_pictures_of_one_size_are_walked_together() -> None:
    plan = assert_round_trip("phases of two levels", pictures_of([(24, 24)] * 40))
    assert plan[1] == 1
    assert len(plan) < 1 + 3 * 8


def test_a_segment_is_as_long_as_its_bound() -> None:
    pictures = pictures_of([(32, 32)] * 48)
    plan, payload = ModelCodec(frozen_model()).encode_segment(pictures)
    bound = sum(exact_elbo(picture, frozen_model(), samples=2).bits for picture in pictures)
    assert 0.99 < 8 * (len(payload) + len(plan)) / bound < 1.006


def test_small_pictures_come_first_and_equal_ones_stay_together() -> None:
    assert segment_order(MIXED) == [4, 1, 3, 5, 2, 0]
    tiles = plan_segment(MIXED, SPARSE[0], 0)
    assert [tile.picture for tile in tiles[:5]] == [4, 1, 3, 5, 2]
    for picture, (height, width) in enumerate(MIXED):
        covered = np.zeros((height, width), int)
        for tile in tiles:
            if tile.picture == picture:
                covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
        assert (covered == 1).all()


def test_nothing_starts_small_behind_other_pictures() -> None:
    assert len(plan_tiles(400, 500, SPARSE[0])) > 1
    assert len(plan_tiles(400, 500, SPARSE[0], done=400 * 500)) == 1
    assert plan_segment([(400, 500)], SPARSE[1], 3) == plan_tiles(400, 500, SPARSE[1], 3)


def test_plans_of_other_segments_are_refused() -> None:
    sizes = [(16, 16)] * 3
    assert [record.tiles for _, record in read_plan(sizes, [0, 1, 0, 9, 2, 9, 9])] == [1, 2]
    for plan in ([0, 1, 0, 9], [0, 4, 0, 9], [0, 1, 0, 9, 3, 9, 9]):
        with pytest.raises(DamagedFileError, match="batches do not"):
            read_plan(sizes, plan)
    with pytest.raises(DamagedFileError, match="impossible size"):
        read_plan([(16, 16)] * (LARGEST_BATCH // 256 + 1), [0, LARGEST_BATCH // 256 + 1, 0, 9])


def checked_segment(pictures: list[Pixels], which: str = "phases of two levels") -> tuple[ModelCodec, list[int], bytes]:
    codec = ModelCodec(frozen_model(which))
    plan, payload = codec.encode_segment(pictures)
    assert PlanKind.read(plan[0]).checked
    return codec, plan, payload


@pytest.mark.parametrize("which", ["phases of two levels", "official, two pairs of flows", "joint, 5 bits"])
def test_who_wants_one_picture_stops_behind_it(which: str) -> None:
    top = frozen_model(which).top_value
    pictures = [picture & np.uint8(top) for picture in pictures_of([(64, 48), (32, 32)] * 20)]
    codec, plan, payload = checked_segment(pictures, which)
    sizes = [picture.shape[:2] for picture in pictures]
    for wanted, most in (([38], 20), ([0], 39), ([1], 40), ([38, 36], 20), (range(40), 40)):
        found = codec.decode_wanted(sizes, plan, payload, wanted)
        assert set(wanted) <= set(found)
        assert len(found) <= most
        assert all(np.array_equal(pictures[index], pixels) for index, pixels in found.items())


def test_a_wrong_checksum_of_a_batch_is_damage() -> None:
    codec, plan, payload = checked_segment(pictures_of([(64, 64)] * 17))
    size = BatchRecord.size(dense=PlanKind.read(plan[0]).growth.dense, checked=True)
    for at in (size, len(plan) - 1):
        damaged = [*plan[:at], plan[at] ^ 1, *plan[at + 1 :]]
        with pytest.raises(DamagedFileError, match="checksum of a batch"):
            codec.decode_segment([(64, 64)] * 17, damaged, payload)
    with pytest.raises(DamagedFileError, match="impossible size"):
        codec.decode_segment([(64, 64)] * 17, [*plan[:-1], 1 << 32], payload)


def test_the_checksum_takes_no_room_of_pictures_of_one_bit() -> None:
    codec, rng = ModelCodec(frozen_model("bernoulli")), np.random.default_rng(3)
    pictures = [rng.integers(0, 2, (64, 64), np.uint8) for _ in range(17)]
    plan, payload = codec.encode_segment(pictures)
    assert not PlanKind.read(plan[0]).checked
    assert np.array_equal(codec.decode_segment([(64, 64)] * 17, plan, payload)[5], pictures[5])


def test_what_has_no_checksums_is_decoded_whole() -> None:
    codec, pictures = ModelCodec(frozen_model()), pictures_of([(16, 16)] * 20)
    plan, payload = codec.encode_segment(pictures)
    assert not PlanKind.read(plan[0]).checked
    assert len(codec.decode_wanted([(16, 16)] * 20, plan, payload, [19])) == 20


@given(st.integers(-1, 300))
def test_the_first_number_of_a_plan(number: int) -> None:
    try:
        assert PlanKind.read(number).number == number
    except DamagedFileError:
        assert not 0 <= number < 128 or number % 64 >= 48
