"""*Tiles and batches*, and the planes of *Pixels*."""

from __future__ import annotations

from collections.abc import Iterator

Plane = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


def read_tiles(height: int, width: int, start: int, done: int) -> list[Rectangle]:
    """(top, left, rows, columns) of a plan's first number; ``done``: the pixels of the images before."""
    number, corner = start % 32 // 4, start % 4
    if width > height:
        upright = read_tiles(width, height, start - corner + (0, 2, 1, 3)[corner], done)
        return [(left, top, columns, rows) for top, left, rows, columns in upright]
    eighths, s = (56, 40, 24, 8, 8, 4, 2, 1)[number], 32 if number > 3 else 64

    def share(n: int, across: int) -> int:
        parts = -(-n // max(768, 768**2 // max(across, s) // s * s))
        part = -(-n // parts)
        return -(-part // s) * s

    def side(left_over: int, across: int) -> int:
        n = min(share(left_over, across), max(s, eighths * done // 8 // across // s * s))
        return left_over if left_over - n < s // 2 else min(n, left_over)

    tiles, top = [], 0
    while top < height:
        rows = side(height - top, width) if done else height if height <= 3 * s // 2 else s
        left = 0
        while left < width:
            columns = side(width - left, rows) if done else width if width <= 3 * s // 2 else s
            turned = height - top - rows if corner & 2 else top, width - left - columns if corner & 1 else left
            tiles.append((*turned, rows, columns))
            done += rows * columns
            left += columns
        top += rows
    return tiles


def list_planes(levels: int) -> Iterator[tuple[Plane, list[Plane], list[tuple[int, int, int]]]]:
    """Each phase's plane (stride, row, column), the known planes of its level, and its neighbours among them."""
    yield (2**levels, 0, 0), [], []
    for s in (2**n for n in range(levels, 0, -1)):
        even, diagonal, beside, below = (s, 0, 0), (s, s // 2, s // 2), (s, 0, s // 2), (s, s // 2, 0)
        yield diagonal, [even], [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
        yield beside, [even, diagonal], [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)]
        yield below, [even, diagonal, beside], [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, -1)]


def read_squares(height: int, width: int, side: int, start: int) -> list[Rectangle]:
    """(top, left, rows, columns) of a model made for images of one size."""
    tiles = []
    for y in range(0, height, side):
        for x in range(0, width, side):
            rows, columns = min(side, height - y), min(side, width - x)
            tiles.append(
                (height - y - rows if start & 2 else y, width - x - columns if start & 1 else x, rows, columns)
            )
    return tiles
