"""Squares of 32x32 from photographs, and more from arrays: what natural32 was trained on.

    python -m tools.squares PHOTOS -o train.npz --array cifar10/train.npz 5 --array tiny32/train.npz 2

Each photograph is shrunk by each factor, and as many squares are cut at random as cover it. An array's images are
taken so many times; those of --leave-out (to measure on) are not.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.images.find import find_files

SIDE = 32
Squares = NDArray[np.uint8]


def cut_squares(photograph: Path, factors: list[int], rng: np.random.Generator) -> Iterator[Squares]:
    """Squares (32, 32, 3) of a photograph; none where a factor makes it smaller than one."""
    with Image.open(photograph) as file:
        image = file.convert("RGB")
    for factor in factors:
        width, height = image.width // factor, image.height // factor
        if min(width, height) < SIDE:
            continue
        # by means for even factors and a sharper filter for odd ones, so that there are both kinds
        means = factor % 2 == 0
        small = np.asarray(image.reduce(factor) if means else image.resize((width, height), Image.Resampling.LANCZOS))
        rows, columns = small.shape[0] - SIDE + 1, small.shape[1] - SIDE + 1
        for _ in range(max(1, small.shape[0] * small.shape[1] // SIDE**2)):
            row, column = rng.integers(rows), rng.integers(columns)
            yield small[row : row + SIDE, column : column + SIDE]


def gather(
    folder: Path, factors: list[int], arrays: list[tuple[Path, int]], left_out: Squares, rng: np.random.Generator
) -> Squares:
    """All squares (N, 32, 32, 3), shuffled."""
    squares = [square for path in find_files(folder).files for square in cut_squares(path, factors, rng)]
    held = {image.tobytes() for image in left_out}
    for path, times in arrays:
        images = [image for image in np.load(path)["images"] if image.tobytes() not in held]
        squares += times * images
    return rng.permutation(np.stack(squares))


def main() -> None:
    """Write the array."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--shrink", type=int, nargs="+", default=[3, 4, 6, 8])
    parser.add_argument("--array", nargs=2, action="append", default=[], metavar=("NPZ", "TIMES"))
    parser.add_argument("--leave-out", type=Path, metavar="NPZ")
    given = parser.parse_args()
    left_out = np.load(given.leave_out)["images"] if given.leave_out else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    arrays = [(Path(path), int(times)) for path, times in given.array]
    np.savez(given.output, images=gather(given.folder, given.shrink, arrays, left_out, np.random.default_rng(0)))


if __name__ == "__main__":
    main()
