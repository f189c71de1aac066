"""What the encoder chooses for itself: which growths to try, and how many tiles go into each batch.

A decoder needs none of this, since the plan in the file says what was chosen. So everything here may change from
release to release without changing the format. docs/evaluation.md, "What was tried", has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nvae_codec.schedule.plan import PlanKind, count_alike, largest_batch, tile_pixels
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import DENSE, FIRST_SIDE, SPARSE, Growth, Tile, plan_segment, segment_order

if TYPE_CHECKING:
    from nvae_codec.integer.model import IntegerModel

FILL = 0.9
"""The share of the bits on the stack that the latents of a batch may take. The estimates below are of typical latents,
and a batch that takes more than there is pays for it."""

STARVED = 8
"""A batch whose latents leave less than this part of the stack has likely found too few bits: a smaller growth follows.
Compared with a constant number of bits, an image of a plain sky took 3 % less."""

HOPELESS = 1.5
"""A batch is not even tried when its latents are estimated to take so many times the bits on the stack: coding it in
slices of few symbols is slow, and the estimate has less room than that."""

PLAIN_IN_FLIGHT, FLOW_IN_FLIGHT = 3.0, 6.0
"""Bits that drawing a latent takes from the stack, about: -log2 of a bin as wide as sigma, with room, without flows and
with them."""

DENSE_BITS = 2.0
"""Latents are dense when they take more bits a pixel from the stack: then tiles grow slowly."""

CHECKED_PIXELS = 1 << 16
"""Images with more pixels together have batches with checksums, of at most so many pixels or a quarter of all: to read
one image, a decoder stops after its batch. Images of one bit are too small for checksums."""


class Policy:
    """The choices for one model."""

    checked_pixels = CHECKED_PIXELS

    def __init__(self, model: IntegerModel) -> None:
        self.model = model

    def plans(self, images: Sequence[NDArray[np.uint8]]) -> dict[PlanKind, list[Tile]]:
        """The plans to try, the one with the largest tiles first, and the tiles of each."""
        shapes = [Shape.of(levels) for levels in images]
        corner = busiest_corner(images[segment_order(shapes)[0]])
        pixels = sum(shape.pixels for shape in shapes)
        checked = len(images) > 1 and self.model.value_bits > 1 and pixels > self.checked_pixels
        found: dict[PlanKind, list[Tile]] = {}
        for growth in self._growths():
            tiles = plan_segment(shapes, growth, corner, self.model.side)
            if tiles not in found.values():
                # after a single tile, no other batch asks what its latents left
                found[PlanKind(growth if len(tiles) > 1 else SPARSE[0], corner, checked)] = tiles
        return found

    def largest(self, kind: PlanKind, tiles: Sequence[Tile]) -> int:
        """Pixels that a batch of several tiles may have."""
        largest = largest_batch(self.model.channels)
        return min(largest, max(self.checked_pixels, tile_pixels(tiles) // 4)) if kind.checked else largest

    def first_count(self, tiles: Sequence[Tile], largest: int, attempt: Callable[[int], int]) -> int:
        """Tiles of the first batch: one, or of one size as many as leave what the latents of the next tile take.

        Small images that cost few bits would starve one another: better that a few have coarse latents.
        ``attempt(count)`` codes so many tiles from an empty stack, and returns the bits on it.
        """
        count, needed = 1, self.bits_in_flight(tiles[0])
        most = count_alike(tiles, largest // tiles[0].pixels)
        while count < most:
            fed = FILL * attempt(count) / needed if needed else 1
            if fed >= 1:
                break
            count = min(most, max(count + 1, int(count / max(fed, 0.25))))
        return count

    def next_count(self, tiles: Sequence[Tile], bits: int, largest: int) -> int:
        """Tiles of the next batch: of one size as many as the bits on the stack feed; at least one."""
        fed = int(FILL * bits / max(self.bits_in_flight(tiles[0]), 1))
        return count_alike(tiles, min(fed, largest // tiles[0].pixels))

    def is_hopeless(self, tiles: Sequence[Tile], bits: int) -> bool:
        """Whether the latents of a batch will not find enough of the bits on the stack."""
        return len(tiles) * self.bits_in_flight(tiles[0]) > HOPELESS * bits

    @staticmethod
    def is_starved(before: int, left: int) -> bool:
        """Whether the latents of a batch, which left so many of the bits before it, likely found too few."""
        return left < before // STARVED

    def bits_in_flight(self, tile: Tile) -> float:
        """Bits that drawing the latents of a tile takes from the stack, about."""
        edges = 2 * self.model.padding
        seen = (tile.height + edges) * (tile.width + edges)
        total = 0.0
        for group in self.model.groups:
            finer = max(0.0, math.log2(group.coarse / 4))
            bits = FLOW_IN_FLIGHT if group.flow_bounds else PLAIN_IN_FLIGHT + finer
            total += bits * len(group.active) * seen / group.stride**2
        return total

    def _growths(self) -> tuple[Growth, ...]:
        square = Tile(0, 0, FIRST_SIDE, FIRST_SIDE)
        return DENSE if self.bits_in_flight(square) > DENSE_BITS * square.pixels else SPARSE


def busiest_corner(pixels: NDArray[np.uint8]) -> int:
    """Where an image, uint8 (H, W, 3) or (H, W), has most detail: a plain sky would leave too few bits."""
    seen = pixels if pixels.ndim == 2 else pixels[:, :, 1]
    steps = np.abs(np.diff(seen.astype(np.int32), axis=1))
    rows = (steps[:FIRST_SIDE], steps[-FIRST_SIDE:])
    detail = [part.sum() for band in rows for part in (band[:, :FIRST_SIDE], band[:, -FIRST_SIDE:])]
    return int(np.argmax(detail))
