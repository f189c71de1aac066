"""Images as tiles: the regions that one evaluation of the network sees.

The first is small, since a segment starts on an empty stack; the next may be as large as what lies on the stack can
feed; the rest are as large as memory allows, since every edge between tiles costs bits. The tiles follow from the
images' shapes, the growth and the corner that the encoder chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from nvae_codec.schedule.shape import Shape

LARGEST_SIDE = 768
LARGEST_BATCH = LARGEST_SIDE**2
"""Pixels of a batch: bounds the memory of the coding pass."""
FIRST_SIDE = 64
"""Sides of the first tile: smaller ones start for less, but the second tile then feeds on too little. Payloads of one
photograph: 1,310,127 bits with 32, 1,309,821 with 48, 1,308,219 with 64 (docs/evaluation.md)."""


@dataclass(frozen=True)
class Growth:
    """How tiles grow: one has at most ``times`` the pixels of all tiles before it.

    step: the sides of the first tile; those of others are multiples, except at the edges of an image, whatever the
    network's stride. dense: for latents that take about as many bits from the stack as the image brings; the record of
    a batch then says what lies on the stack after its latents, too.
    """

    times: int | Fraction
    step: int
    dense: bool


GROWTHS = (
    Growth(7, FIRST_SIDE, dense=False),
    Growth(5, FIRST_SIDE, dense=False),
    Growth(3, FIRST_SIDE, dense=False),
    Growth(1, FIRST_SIDE, dense=False),
    Growth(1, FIRST_SIDE // 2, dense=True),
    Growth(Fraction(1, 2), FIRST_SIDE // 2, dense=True),
    Growth(Fraction(1, 4), FIRST_SIDE // 2, dense=True),
    Growth(Fraction(1, 8), FIRST_SIDE // 2, dense=True),
)
"""By their number in files. Flat images, whose tiles leave little on the stack for the latents of the next, take one of
the smaller growths of their kind."""
SPARSE, DENSE = GROWTHS[:4], GROWTHS[4:]


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in pixels; ``image`` is its index in the segment, ``gray`` says whether it is gray."""

    top: int
    left: int
    height: int
    width: int
    image: int = 0
    gray: bool = False

    @property
    def pixels(self) -> int:
        """How many pixels the tile has."""
        return self.height * self.width

    @property
    def rows(self) -> slice:
        """The tile's rows in its image."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The tile's columns in its image."""
        return slice(self.left, self.left + self.width)

    def is_like(self, other: Tile) -> bool:
        """Whether both can be in one batch."""
        return (self.height, self.width, self.gray) == (other.height, other.width, other.gray)


def plan_segment(shapes: Sequence[Shape], growth: Growth, corner: int, side: int = 0) -> list[Tile]:
    """The tiles of images that share a stack, in the order of encoding: small images first.

    So the first batch, for which nothing comes back, is small, and images of one size are coded together. With
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
    """The tiles of an image in the order of encoding: a band of the first side, then bands as high as allowed.

    ``corner`` is where the first lies: 0 top left, 1 top right, 2 bottom left, 3 bottom right. ``done`` counts the
    pixels that lie on the stack already: after other images nothing has to start small. The bands of a wide image are
    columns, so that the edge between the first and the rest is the shorter one.
    """
    if width > height:
        mirrored = corner >> 1 | (corner & 1) << 1
        transposed = plan_tiles(width, height, growth, mirrored, done)
        return [Tile(tile.left, tile.top, tile.width, tile.height) for tile in transposed]
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
    return [_mirror(tile, height, width, corner) for tile in tiles]


def _side(rest: int, across: int, growth: Growth, done: int) -> int:
    """The side of the next band or tile along the rest of an image or band, which is so long across."""
    step = growth.step
    if not done:
        return rest if rest <= step * 3 // 2 else step
    fed = max(step, growth.times * done // across // step * step)
    side = min(_share(rest, across, step), fed)
    return rest if rest - side < step // 2 else min(side, rest)


def plan_squares(height: int, width: int, side: int, corner: int = 0) -> list[Tile]:
    """The tiles of an image for a network made for one size: squares, and smaller ones at the far edges."""
    return [
        _mirror(Tile(top, left, min(side, height - top), min(side, width - left)), height, width, corner)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _mirror(tile: Tile, height: int, width: int, corner: int) -> Tile:
    top = height - tile.top - tile.height if corner & 2 else tile.top
    left = width - tile.left - tile.width if corner & 1 else tile.left
    return Tile(top, left, tile.height, tile.width)


def _share(length: int, across: int, step: int) -> int:
    """An even part of a length, a multiple of the step; where tiles are narrow across, they may be longer."""
    largest = max(LARGEST_SIDE, LARGEST_BATCH // max(across, step) // step * step)
    parts = -(-length // largest)
    return -(-length // parts // step) * step
