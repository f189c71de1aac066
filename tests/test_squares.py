"""The example that cuts squares of 32x32 from photographs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models import make_image
from tools import squares


def test_squares_come_from_every_size_and_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photographs").mkdir()
    Image.fromarray(make_image(200, 300)).save(tmp_path / "photographs" / "a.png")
    Image.fromarray(np.full((60, 60, 3), 9, np.uint8)).save(tmp_path / "photographs" / "too small.png")
    images = np.stack([make_image(32, 32, seed) for seed in range(5)])
    np.savez(tmp_path / "array.npz", images=images)
    np.savez(tmp_path / "held.npz", images=images[:2])
    out = tmp_path / "out.npz"
    arguments = ["squares", tmp_path / "photographs", "-o", out, "--shrink", "3", "4", "8"]
    arguments += ["--array", tmp_path / "array.npz", "2", "--leave-out", tmp_path / "held.npz"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    squares.main()
    squares_made = np.load(out)["images"]
    assert squares_made.dtype == np.uint8
    # 66x100 holds 6 squares, 50x75 three, 25x37 none; of the array three images, twice
    assert squares_made.shape == (6 + 3 + 2 * 3, 32, 32, 3)
    counts = [sum(np.array_equal(image, square) for square in squares_made) for image in images]
    assert counts == [0, 0, 2, 2, 2]
