"""Crops come from the images, and errors say which image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.data import Crops, held_out_crops
from nvae_codec.training.sources import list_images, open_source, read_image
from tests.models import make_image, save_images


def save_numbered(path: Path, height: int, width: int, number: int) -> None:
    """An image whose every pixel tells its place: (row, column, number)."""
    rows, columns = np.mgrid[0:height, 0:width]
    Image.fromarray(np.dstack([rows, columns, np.full_like(rows, number)]).astype(np.uint8)).save(path)


def test_crops_are_rectangles_of_the_images(tmp_path: Path) -> None:
    save_numbered(tmp_path / "a.png", 40, 60, 1)
    save_numbered(tmp_path / "b.png", 30, 20, 2)
    folder = Crops(open_source(tmp_path), TrainingRecipe(crop=16))
    crops = folder.draw(200, np.random.default_rng(0))
    assert crops.shape == (200, 3, 16, 16)
    assert crops.dtype == np.uint8
    seen = set()
    for rows, columns, number in crops.astype(int):
        transposed = rows[0, 0] == rows[1, 0]
        if transposed:
            rows, columns = rows.T, columns.T  # noqa: PLW2901
        mirrored = columns[0, 0] > columns[0, 1]
        along = np.arange(16)
        assert (rows == rows[0, 0] + along[:, None]).all()
        assert (columns == columns[0, 0] + (-along if mirrored else along)).all()
        assert (number == number[0, 0]).all()
        height, width = {1: (40, 60), 2: (30, 20)}[number[0, 0]]
        assert rows.max() < height
        assert columns.max() < width
        seen.add((transposed, mirrored, number[0, 0]))
    assert len(seen) == 8


def test_the_same_seed_draws_the_same_crops(tmp_path: Path) -> None:
    folder = Crops(open_source(save_images(tmp_path)), TrainingRecipe(crop=16))
    one, same, other = (folder.draw(8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_what_does_not_fit_in_memory_is_read_again(tmp_path: Path) -> None:
    files = open_source(save_images(tmp_path))
    kept = Crops(files, TrainingRecipe(crop=16))
    read_again = Crops(files, TrainingRecipe(crop=16), memory=10_000)
    assert [pixels is None for pixels in read_again.pixels] == [False, True, True]
    one, other = (folder.draw(20, np.random.default_rng(0)) for folder in (kept, read_again))
    assert np.array_equal(one, other)


def test_images_smaller_than_a_crop_are_left_out(tmp_path: Path) -> None:
    save_images(tmp_path, 2, 48)
    Image.fromarray(make_image(15, 100)).save(tmp_path / "low.png")
    folder = Crops(open_source(tmp_path), TrainingRecipe(crop=16))
    assert len(folder.loaders) == 2
    assert folder.total_pixels == 48 * 48 + 48 * 56
    with pytest.raises(NvaeCodecError, match="no image has a side of 64 pixels or more"):
        Crops(open_source(tmp_path), TrainingRecipe(crop=64))


def test_folders_are_searched_to_the_bottom(tmp_path: Path) -> None:
    save_images(tmp_path / "deep" / "er", 1)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in list_images(tmp_path)] == ["0.png"]
    assert list_images(tmp_path / "deep" / "er" / "0.png") == [tmp_path / "deep" / "er" / "0.png"]
    with pytest.raises(NvaeCodecError, match="no images here"):
        list_images(tmp_path / "folder.png")


def test_gray_images_and_palettes_become_colours(tmp_path: Path) -> None:
    gray = make_image(8, 8)[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, 2))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(NvaeCodecError, match=r"bad\.png: not an image that can be read"):
        Crops(open_source(tmp_path), TrainingRecipe(crop=16))


def test_held_out_crops_are_the_middle(tmp_path: Path) -> None:
    save_numbered(tmp_path / "a.png", 40, 60, 1)
    save_numbered(tmp_path / "b.png", 38, 50, 2)
    crops = held_out_crops(open_source(tmp_path), 32, 8)
    assert crops.shape == (2, 3, 32, 32)
    assert crops[:, 0, 0, 0].tolist() == [4, 3]
    assert crops[:, 1, 0, 0].tolist() == [14, 9]
    # the smallest image sets the side, in steps of the stride
    assert held_out_crops(open_source(tmp_path), 256, 8).shape == (2, 3, 32, 32)
    assert held_out_crops(open_source(tmp_path), 30, 8).shape == (2, 3, 24, 24)
    with pytest.raises(NvaeCodecError, match="64 pixels or more"):
        held_out_crops(open_source(tmp_path), 256, 64)


def test_images_too_small_to_measure_on_are_left_out(tmp_path: Path) -> None:
    save_numbered(tmp_path / "a.png", 1, 1, 1)
    save_numbered(tmp_path / "b.png", 24, 90, 2)
    save_numbered(tmp_path / "c.png", 40, 40, 3)
    files = open_source(tmp_path)
    assert held_out_crops(files, 32, 8)[:, 2, 0, 0].tolist() == [3]
    crops = held_out_crops(files, 64, 8)
    assert crops.shape == (2, 3, 24, 24)
    assert crops[:, 2, 0, 0].tolist() == [2, 3]
