"""Tiles cover an image; what a canvas shows beyond its edge is the same while decoding and encoding."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nvae_codec.coding.canvas import Canvas, padded, plane_size
from nvae_codec.polyphase import list_phases
from nvae_codec.schedule.policy import busiest_corner
from nvae_codec.schedule.tiles import DENSE, GROWTHS, LARGEST_BATCH, SPARSE, Growth, Tile, plan_tiles
from tests.models import make_image

sides = st.one_of(st.integers(1, 200), st.integers(1, 5000))


@settings(deadline=None, max_examples=150)
@given(sides, sides, st.sampled_from(GROWTHS), st.integers(0, 3))
@example(1, 5000, SPARSE[0], 0)
@example(5000, 1, SPARSE[3], 3)
@example(769, 800, SPARSE[0], 1)
@example(96, 97, SPARSE[3], 2)
@example(48, 49, DENSE[1], 2)
def test_tiles_cover_every_pixel_once(height: int, width: int, growth: Growth, corner: int) -> None:
    tiles = plan_tiles(height, width, growth, corner)
    visits = np.zeros((height, width), np.uint8)
    for tile in tiles:
        assert tile.top >= 0
        assert tile.left >= 0
        assert tile.top + tile.height <= height
        assert tile.left + tile.width <= width
        visits[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert (visits == 1).all()


@settings(deadline=None, max_examples=150)
@given(sides, sides, st.sampled_from(GROWTHS), st.integers(0, 3))
def test_tiles_obey_their_bounds(height: int, width: int, growth: Growth, corner: int) -> None:
    tiles = plan_tiles(height, width, growth, corner)
    first, step = tiles[0], growth.step
    assert max(first.height, first.width) <= step * 3 // 2
    done = 0
    for tile in tiles:
        assert min(tile.height, tile.width) >= 1
        assert max(tile.height, tile.width) <= LARGEST_BATCH // step
        assert tile.height * tile.width <= LARGEST_BATCH
        if done:  # a tile of the smallest side is always allowed, and a last strip may be added to it
            slack = (tile.height + step) * (tile.width + step) - tile.height * tile.width
            assert tile.height * tile.width <= growth.times * done + slack + step * step
        done += tile.height * tile.width


@settings(deadline=None, max_examples=40)
@given(sides, sides, st.sampled_from(GROWTHS))
def test_the_corner_only_mirrors_the_plan(height: int, width: int, growth: Growth) -> None:
    plain = plan_tiles(height, width, growth)
    for corner in range(4):
        turned = plan_tiles(height, width, growth, corner)
        assert [(t.height, t.width) for t in turned] == [(t.height, t.width) for t in plain]
        first = turned[0]
        assert (first.top == 0) if not corner & 2 else (first.top + first.height == height)
        assert (first.left == 0) if not corner & 1 else (first.left + first.width == width)


@pytest.mark.parametrize("growth", [SPARSE[0], DENSE[-1]])
def test_thin_images_have_few_tiles(growth: Growth) -> None:
    assert len(plan_tiles(1, 1_000_000, growth)) < 120
    assert len(plan_tiles(1_000_000, 1, growth)) < 120


@given(sides, sides, st.sampled_from(SPARSE + DENSE), st.integers(0, 3))
def test_bands_lie_along_the_shorter_side(height: int, width: int, growth: Growth, corner: int) -> None:
    tiles = plan_tiles(height, width, growth, corner)
    mirrored = (0, 2, 1, 3)[corner]
    assert plan_tiles(width, height, growth, mirrored) == [Tile(t.left, t.top, t.width, t.height) for t in tiles] or (
        height == width
    )


def test_the_busiest_corner_is_where_the_noise_is() -> None:
    for corner in range(4):
        image = np.full((200, 300, 3), 100, np.uint8)
        rows = slice(150, 200) if corner & 2 else slice(0, 50)
        columns = slice(250, 300) if corner & 1 else slice(0, 50)
        image[rows, columns] = np.random.default_rng(corner).integers(0, 256, (50, 50, 3))
        assert busiest_corner(image) == corner
    for shape in ((1, 1, 3), (1, 9, 3), (9, 1, 3)):
        assert busiest_corner(np.zeros(shape, np.uint8)) in range(4)


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (2, 9), (16, 16), (33, 18), (3, 64)])
def test_decoder_and_encoder_see_the_same_canvas(levels: int, size: tuple[int, int]) -> None:
    """The encoder writes all planes before it looks; the decoder writes each when it is known."""
    stride, phases = 16, list_phases(levels)
    pixels = make_image(*size).transpose(2, 0, 1)[None].astype(np.int32)
    encoder = Canvas(1, size, stride)
    for phase in phases:
        plane = phase.plane
        encoder.write(plane, pixels[:, :, plane.row :: plane.stride, plane.column :: plane.stride])
    assert encoder.pixels.shape == (1, 3, padded(size[0], stride), padded(size[1], stride))
    assert np.array_equal(encoder.pixels[:, :, : size[0], : size[1]], pixels)
    decoder = Canvas(1, size, stride)
    for phase in phases:
        for known in phase.known:
            assert np.array_equal(decoder.read(known), encoder.read(known))
        decoder.write(phase.plane, encoder.known(phase.plane))
        assert np.array_equal(decoder.read(phase.plane), encoder.read(phase.plane))
    assert np.array_equal(decoder.pixels, encoder.pixels)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_planes_of_a_tile_hold_all_its_pixels(height: int, width: int, levels: int) -> None:
    pixels = np.zeros((height, width))
    for phase in list_phases(levels):
        plane = phase.plane
        assert (
            plane_size((height, width), plane) == pixels[plane.row :: plane.stride, plane.column :: plane.stride].shape
        )
    assert sum(np.prod(plane_size((height, width), phase.plane)) for phase in list_phases(levels)) == height * width


def test_padding_repeats_the_edge_of_its_plane() -> None:
    canvas = Canvas(1, (5, 5), 8)
    for phase in list_phases(1):
        rows, columns = plane_size((5, 5), phase.plane)
        canvas.write(phase.plane, np.arange(3 * rows * columns).reshape(1, 3, rows, columns))
        view = canvas.read(phase.plane)
        assert (view[:, :, rows:] == view[:, :, rows - 1 : rows]).all()
        assert (view[:, :, :, columns:] == view[:, :, :, columns - 1 : columns]).all()
