"""The plan of a payload: its first number says how tiles grow and from where, the others are the records of batches."""

from __future__ import annotations

from collections.abc import Sequence

from nvae_codec.coding.record import LARGEST_CODE, BatchRecord
from nvae_codec.coding.tiles import GROWTHS, LARGEST_BATCH, Growth, Tile, plan_segment
from nvae_codec.errors import DamagedFileError


def write_first(growth: Growth, corner: int) -> int:
    """A plan's first number."""
    return 4 * GROWTHS.index(growth) + corner


def read_first(number: int) -> tuple[Growth, int]:
    """The growth and the corner of a plan's first number."""
    return GROWTHS[number // 4], number % 4


def read_plan(
    sizes: Sequence[tuple[int, int]],
    plan: Sequence[int],
    side: int = 0,
    gray: Sequence[bool] = (),
    largest: int = LARGEST_BATCH,
) -> list[tuple[list[Tile], BatchRecord]]:
    """The batches of a plan with their tiles, those of a model made for pictures of ``side`` where it is not 0.

    ``gray``: which pictures are, as in plan_segment. ``largest``: pixels that a batch of several tiles may have.
    Raises DamagedFileError where it does not fit the pictures' sizes.
    """
    if not plan or min(plan) < 0 or plan[0] >= 4 * len(GROWTHS):
        raise DamagedFileError("damaged: its plan is not one")
    growth, corner = read_first(plan[0])
    size = BatchRecord.size(dense=growth.dense)
    if len(plan) % size != 1:
        raise DamagedFileError("damaged: its plan is not one")
    tiles, done = plan_segment(sizes, growth, corner, side, gray=gray), 0
    parts = []
    for at in range(1, len(plan), size):
        record = BatchRecord.read(plan[at : at + size])
        chosen = tiles[done : done + record.tiles]
        if not chosen or len(chosen) != record.tiles or not all(tile.is_like(chosen[0]) for tile in chosen):
            raise DamagedFileError("damaged: its batches do not fit the picture")
        if max(record.before_code, record.after_code, record.end_code) > LARGEST_CODE or (
            len(chosen) > 1 and batch_pixels(chosen) > largest
        ):
            raise DamagedFileError("damaged: a batch of impossible size")
        parts.append((chosen, record))
        done += record.tiles
    if done != len(tiles):
        raise DamagedFileError("damaged: its batches do not cover the picture")
    return parts


def count_alike(tiles: Sequence[Tile], most: int) -> int:
    """How many tiles are like the first one before another comes, at most ``most``, at least one."""
    first, count = tiles[0], 1
    while count < min(most, len(tiles)) and tiles[count].is_like(first):
        count += 1
    return count


def batch_pixels(tiles: Sequence[Tile]) -> int:
    """Pixels of tiles."""
    return sum(tile.height * tile.width for tile in tiles)
