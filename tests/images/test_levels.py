"""Images of few levels: as they are, spread over 0 to 255, or in the highest bits; others are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.levels import ModelInput, Shown, find_levels, show_levels
from nvae_codec.images.raster import COLOURS, RasterImage


@given(st.integers(1, 8), st.sampled_from(Shown), st.data())
def test_images_come_back_however_they_show_levels(bits: int, shown: Shown, data: st.DataObject) -> None:
    levels = data.draw(arrays.arrays(np.uint8, (3, 4), elements=st.integers(0, 2**bits - 1)))
    image = show_levels(levels, bits, shown)
    found = find_levels(image, bits)
    assert found is not None
    assert np.array_equal(show_levels(found[1], bits, found[0]), image)
    assert found[1].max() < 2**bits


def test_levels_are_spread_as_the_official_code_spreads_them() -> None:
    every = np.arange(32, dtype=np.uint8)
    assert np.array_equal(show_levels(every, 5, Shown.SPREAD), np.rint(every / 31 * 255))
    assert np.array_equal(show_levels(every, 5, Shown.SHIFTED), every * 8)
    assert show_levels(np.array([0, 1], np.uint8), 1, Shown.SPREAD).tolist() == [0, 255]


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 254], [0, 1, 255], [128, 129]])
def test_other_values_are_refused_in_one_line(values: list[int]) -> None:
    image = RasterImage.from_pixels(np.array([values], np.uint8))
    with pytest.raises(UnsupportedImageError, match=r"^the model takes gray of the values 0 and 1, or 0 and 255, and "):
        ModelInput(1, 1).take(image)
    assert not ModelInput(1, 1).takes(image)


def test_images_of_other_colours_are_refused() -> None:
    rgb, gray = (RasterImage.from_pixels(np.zeros(shape, np.uint8)) for shape in ((2, 2, 3), (2, 2)))
    with pytest.raises(UnsupportedImageError, match="takes gray of the values 0 and 1, or 0 and 255, not 8-bit RGB"):
        ModelInput(1, 1).take(rgb)
    palette = replace(gray, colour=COLOURS[10], pixels=None)
    with pytest.raises(UnsupportedImageError, match="with or without alpha, not 8-bit palette; --method"):
        ModelInput().take(palette)
    with pytest.raises(UnsupportedImageError, match="takes RGB and gray of the values 0 to 31, or those spread to 255"):
        ModelInput(3, 5).take(palette)
    assert ModelInput().take(gray) == (Shown.PLAIN, gray.pixels)
