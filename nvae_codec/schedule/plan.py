"""The plan of a payload: its first number says how tiles grow and from where, the others are the records of batches.

It also says whether every batch has a checksum of its own, so that a reader of one image may stop after its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvae_codec.errors import DamagedFileError
from nvae_codec.schedule.record import LARGEST_CHECKSUM, LARGEST_CODE, BatchRecord
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import GROWTHS, LARGEST_BATCH, Growth, Tile, plan_segment

CORNERS = 4
CHECKED = CORNERS * len(GROWTHS)
"""What is added to the first number where every batch has a checksum."""


@dataclass(frozen=True)
class PlanKind:
    """What a plan's first number says: how tiles grow, where the first one lies, and whether batches have checksums."""

    growth: Growth
    corner: int
    checked: bool = False

    @property
    def number(self) -> int:
        """The plan's first number."""
        return CHECKED * self.checked + CORNERS * GROWTHS.index(self.growth) + self.corner

    @classmethod
    def read(cls, number: int) -> PlanKind:
        """What a first number says. Raises DamagedFileError where it is not one."""
        if not 0 <= number < 2 * CHECKED:
            raise DamagedFileError("damaged: its plan is not one")
        return cls(GROWTHS[number % CHECKED // CORNERS], number % CORNERS, number >= CHECKED)


def read_plan(
    shapes: Sequence[Shape], plan: Sequence[int], side: int = 0, largest: int = LARGEST_BATCH
) -> list[tuple[list[Tile], BatchRecord]]:
    """The batches of a plan with their tiles, those of a model made for images of ``side`` unless it is 0.

    ``largest``: pixels that a batch of several tiles may have. Raises DamagedFileError where the plan does not fit the
    images' shapes.
    """
    if not plan or min(plan) < 0:
        raise DamagedFileError("damaged: its plan is not one")
    kind = PlanKind.read(plan[0])
    size = BatchRecord.size(dense=kind.growth.dense, checked=kind.checked)
    if len(plan) % size != 1:
        raise DamagedFileError("damaged: its plan is not one")
    tiles, done = plan_segment(shapes, kind.growth, kind.corner, side), 0
    parts = []
    for at in range(1, len(plan), size):
        record = BatchRecord.read(plan[at : at + size], dense=kind.growth.dense)
        chosen = tiles[done : done + record.tiles]
        if not chosen or len(chosen) != record.tiles or not all(tile.is_like(chosen[0]) for tile in chosen):
            raise DamagedFileError("damaged: its batches do not fit the image")
        codes = max(record.before_code, record.after_code, record.end_code)
        many = len(chosen) > 1 and tile_pixels(chosen) > largest
        if codes > LARGEST_CODE or many or (record.checksum or 0) > LARGEST_CHECKSUM:
            raise DamagedFileError("damaged: a batch of impossible size")
        parts.append((chosen, record))
        done += record.tiles
    if done != len(tiles):
        raise DamagedFileError("damaged: its batches do not cover the image")
    return parts


def largest_batch(channels: int) -> int:
    """Pixels that a batch of several tiles may have: three times as many where they have one colour."""
    return LARGEST_BATCH * 3 // channels


def count_alike(tiles: Sequence[Tile], most: int) -> int:
    """How many tiles from the first on can be in one batch: at most ``most``, at least one."""
    first, count = tiles[0], 1
    while count < min(most, len(tiles)) and tiles[count].is_like(first):
        count += 1
    return count


def tile_pixels(tiles: Sequence[Tile]) -> int:
    """Pixels of tiles together."""
    return sum(tile.pixels for tile in tiles)
