"""Crops are changed as the recipe says, and not at all where it says nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.augmentation import choose_crop, draw_warp, shrink, take_crop, warp
from tests.models import make_image


def draw_crop(image: NDArray[np.uint8], training: TrainingRecipe, rng: np.random.Generator) -> NDArray[np.uint8]:
    return take_crop(image, choose_crop(image.shape[:2], training, rng), training.crop)


def test_no_change_moves_nothing() -> None:
    image = make_image(28, 28)
    unchanged = draw_warp(TrainingRecipe(), np.random.default_rng(0))
    assert np.allclose(unchanged, [[1, 0, 0], [0, 1, 0]])
    assert np.array_equal(warp(image, unchanged), image)


def test_a_shift_moves_by_whole_pixels_and_brings_zeros() -> None:
    image = make_image(20, 24)
    moved = warp(image, np.array([[1.0, 0, 2], [0, 1, -3]]))
    assert np.array_equal(moved[3:, :-2], image[:-3, 2:])
    assert not moved[:3].any()
    assert not moved[:, -2:].any()


def test_a_quarter_turn_is_about_the_middle() -> None:
    image = make_image(16, 16)
    turned = warp(image, np.array([[0.0, -1, 0], [1, 0, 0]]))
    assert np.array_equal(turned, np.rot90(image, -1)) or np.array_equal(turned, np.rot90(image))


def test_shrinking_takes_means() -> None:
    image = make_image(16, 24)
    smaller = shrink(image, 4)
    assert smaller.shape == (4, 6, 3)
    assert smaller[1, 2, 0] == pytest.approx(image[4:8, 8:12, 0].mean(), abs=0.5)


@pytest.mark.parametrize("side", [16, 40, 64])
def test_crops_of_smaller_images_have_their_size(side: int) -> None:
    training = TrainingRecipe(crop=16, downsample=[1, 2, 4], hflip_prob=0)
    image, rng = make_image(side, side + 8), np.random.default_rng(0)
    crops = [draw_crop(image, training, rng) for _ in range(30)]
    assert {crop.shape for crop in crops} == {(16, 16, 3)}
    if side == 64:  # of one factor each: shrunk crops are smoother than the image's own
        rough = sorted(float(np.abs(np.diff(crop.astype(float), axis=0)).mean()) for crop in crops)
        assert rough[-1] > 1.2 * rough[0]


def test_crops_are_not_flipped_with_probability_0() -> None:
    image = np.repeat(np.arange(16, dtype=np.uint8)[None, :, None], 16, 0)
    training = TrainingRecipe(crop=16, hflip_prob=0, transpose_prob=0)
    rng = np.random.default_rng(0)
    assert all(np.array_equal(draw_crop(image, training, rng), image) for _ in range(20))
    warped = TrainingRecipe(crop=16, hflip_prob=0, transpose_prob=0, rotate=10.0, scale=0.1, shear=0.1, shift=1.0)
    one, same, other = (draw_crop(image, warped, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
