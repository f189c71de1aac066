"""Images as tiles: the regions that one evaluation of the network sees.

The first is small, since a segment starts on an empty stack; the next may be as large as what lies on the stack can
feed; the rest are as large as memory allows, since every edge between tiles costs bits. The plan follows from the
image's size, and the growth and the corner that the encoder chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nvae_codec.polyphase import Plane
from nvae_codec.schedule.shape import Shape

LARGEST_SIDE = 768
LARGEST_BATCH = LARGEST_SIDE**2
"""Pixels of a batch: bounds the memory of a walk."""
CORNER_SIDE = 64


@dataclass(frozen=True)
class Growth:
    """How tiles grow: one has at most ``times`` the pixels of all tiles before it.

    ``step``: the first tile's sides, of which those inside of an image are multiples, whatever the network's stride.
    ``older``: of files from before bands lay along the shorter side and slices grew from one symbol. ``dense``: for
    latents that take about as much from the stack as the image brings; the record of a batch then says what lies on
    the stack behind its latents too.
    """

    times: int | Fraction
    step: int = 64
    older: bool = False
    dense: bool = False


OLDER = tuple(Growth(times, older=True) for times in (7, 5, 3, 1))
SPARSE = tuple(Growth(times) for times in (7, 5, 3, 1))
DENSE = tuple(Growth(Fraction(1, part), step=32, dense=True) for part in (1, 2, 4, 8))
GROWTHS = OLDER + SPARSE + DENSE
"""In the order of files. Flat images, whose tiles leave little on the stack for the latents of the next, take one of
the smaller growths."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in pixels; ``image`` counts the images of a segment, ``gray`` says what it is."""

    top: int
    left: int
    height: int
    width: int
    image: int = 0
    gray: bool = False

    def is_like(self, other: Tile) -> bool:
        """Whether both can be in one batch."""
        return (self.height, self.width, self.gray) == (other.height, other.width, other.gray)


def plan_segment(shapes: Sequence[Shape], growth: Growth, corner: int, side: int = 0) -> list[Tile]:
    """The tiles of images that share a stack, in the order of encoding: small images first.

    So the first batch, for which nothing comes back, is small, and images of one size are walked together. With
    ``side``, that of a network made for images of one size, tiles are that size as far as they can be.
    """
    tiles: list[Tile] = []
    done = 0
    for image in segment_order(shapes):
        shape = shapes[image]
        squares = plan_squares(shape.height, shape.width, side, corner) if side else []
        planned = squares or plan_tiles(shape.height, shape.width, growth, corner, done)
        tiles += [replace(tile, image=image, gray=shape.gray) for tile in planned]
        done += shape.pixels
    return tiles


def segment_order(shapes: Sequence[Shape]) -> list[int]:
    """The order in which images are coded: by area, height, gray last, then as they come."""

    def rank(index: int) -> tuple[int, int, bool]:
        shape = shapes[index]
        return shape.pixels, shape.height, shape.gray

    return sorted(range(len(shapes)), key=rank)


def plan_tiles(height: int, width: int, growth: Growth, corner: int = 0, done: int = 0) -> list[Tile]:
    """The tiles of an image in the order of encoding: a band of the first side, then bands as high as may be.

    ``corner`` is where the first lies: 0 top left, 1 top right, 2 bottom left, 3 bottom right. ``done`` counts the
    pixels that lie on the stack already: behind other images nothing has to start small. The bands of a wide image
    are columns, so that the edge between the first and the rest is the shorter one: not in older files.
    """
    if width > height and not growth.older:
        mirrored = corner >> 1 | (corner & 1) << 1
        upright = plan_tiles(width, height, growth, mirrored, done)
        return [Tile(tile.left, tile.top, tile.width, tile.height) for tile in upright]
    tiles: list[Tile] = []
    top = 0
    while top < height:
        rows = _side(height - top, width, growth, done)
        left = 0
        while left < width:
            columns = _side(width - left, rows, growth, done)
            tiles.append(Tile(top, left, rows, columns))
            done += rows * columns
            left += columns
        top += rows
    return [_turn(tile, height, width, corner) for tile in tiles]


def _side(left_over: int, across: int, growth: Growth, done: int) -> int:
    """The side of the next band or tile along what is left over, where it is so long across."""
    step = growth.step
    if not done:
        return left_over if left_over <= step * 3 // 2 else step
    fed = max(step, growth.times * done // across // step * step)
    side = min(_share(left_over, across, step), fed)
    return left_over if left_over - side < step // 2 else min(side, left_over)


def plan_squares(height: int, width: int, side: int, corner: int = 0) -> list[Tile]:
    """The tiles of an image for a network made for one size: squares, and what is left over last in its row."""
    return [
        _turn(Tile(top, left, min(side, height - top), min(side, width - left)), height, width, corner)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _turn(tile: Tile, height: int, width: int, corner: int) -> Tile:
    top = height - tile.top - tile.height if corner & 2 else tile.top
    left = width - tile.left - tile.width if corner & 1 else tile.left
    return Tile(top, left, tile.height, tile.width)


def busiest_corner(pixels: NDArray[np.uint8]) -> int:
    """Where an image, uint8 (H, W, 3) or (H, W), has most detail: a plain sky would leave too few bits."""
    seen = pixels if pixels.ndim == 2 else pixels[:, :, 1]
    steps = np.abs(np.diff(seen.astype(np.int32), axis=1))
    rows = (steps[:CORNER_SIDE], steps[-CORNER_SIDE:])
    detail = [part.sum() for band in rows for part in (band[:, :CORNER_SIDE], band[:, -CORNER_SIDE:])]
    return int(np.argmax(detail))


def _share(length: int, across: int, step: int) -> int:
    """An even part of a length, a multiple of the step; where tiles are narrow across, they may be longer."""
    largest = max(LARGEST_SIDE, LARGEST_BATCH // max(across, step) // step * step)
    parts = -(-length // largest)
    return -(-length // parts // step) * step


def padded(length: int, stride: int) -> int:
    """The next multiple of the stride."""
    return -(-length // stride) * stride


def plane_size(tile: tuple[int, int], plane: Plane) -> tuple[int, int]:
    """Rows and columns of a plane's pixels that lie in a tile of (height, width); 0 where there are none."""
    height, width = tile
    rows, columns = -(-(height - plane.row) // plane.stride), -(-(width - plane.column) // plane.stride)
    return max(rows, 0), max(columns, 0)


class Canvas:
    """The pixels of a batch of tiles as far as they are known, padded to the network's stride.

    Padding follows the planes: each repeats its own last row and column, so that decoder and encoder, which learn
    planes one after another, see the same. A plane with no pixel of its own copies the plane that it continues.

    With ``edge`` rows and columns of zeros on each side, which some networks are made for, all padding is zeros.
    """

    def __init__(self, count: int, size: tuple[int, int], stride: int, channels: int = 3, edge: int = 0) -> None:
        """Room for ``count`` tiles of (height, width)."""
        self.size, self.edge = size, edge
        height, width = (padded(side + 2 * edge, stride) for side in size)
        self.pixels = np.zeros((count, channels, height, width), np.int32)

    @property
    def tiles(self) -> NDArray[np.int32]:
        """The tiles without their padding, a view (B, C, height, width)."""
        height, width = self.size
        return self.pixels[:, :, self.edge : self.edge + height, self.edge : self.edge + width]

    def write(self, plane: Plane, values: NDArray[np.integer]) -> None:
        """Set a plane's pixels (B, C, rows, columns) and its padding; planes come in the order of decoding."""
        rows, columns = plane_size(self.size, plane)
        view = self.read(plane)
        if not rows or not columns:
            view[:] = self.pixels[:, :, 0 :: plane.stride, 0 :: plane.stride]
            return
        self.known(plane)[:] = values
        if not self.edge:
            view[:, :, rows:, :columns] = view[:, :, rows - 1 : rows, :columns]
            view[:, :, :, columns:] = view[:, :, :, columns - 1 : columns]

    def read(self, plane: Plane) -> NDArray[np.int32]:
        """A plane with its padding, a view (B, C, h, w)."""
        return self.pixels[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

    def known(self, plane: Plane) -> NDArray[np.int32]:
        """A plane's own pixels, a view (B, C, rows, columns)."""
        return self.tiles[:, :, plane.row :: plane.stride, plane.column :: plane.stride]


def cut_plane(planes: Sequence[NDArray[np.uint8]], tiles: Sequence[Tile], plane: Plane) -> NDArray[np.uint8]:
    """A plane of several tiles, (B, C, rows, columns); ``planes`` are the images, (C, H, W) each."""
    inside = [planes[t.image][:, t.top : t.top + t.height, t.left : t.left + t.width] for t in tiles]
    return np.stack([tile[:, plane.row :: plane.stride, plane.column :: plane.stride] for tile in inside])
