"""*Tiles and batches*, and the phases of *Pixels*."""

from collections.abc import Iterator

Component = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


def read_tiles(height: int, width: int, start: int, done: int) -> list[Rectangle]:
    """(top, left, rows, columns) of a plan's first integer; ``done``: the pixels of the images before."""
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
            tiles.append((top, left, rows, columns))
            done += rows * columns
            left += columns
        top += rows
    return mirror(tiles, height, width, corner)


def read_squares(height: int, width: int, side: int, start: int) -> list[Rectangle]:
    """The same for a model made for images of one size."""
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    return mirror([(y, x, min(side, height - y), min(side, width - x)) for y, x in corners], height, width, start % 4)


def mirror(tiles: list[Rectangle], height: int, width: int, corner: int) -> list[Rectangle]:
    return [
        (height - top - rows if corner & 2 else top, width - left - columns if corner & 1 else left, rows, columns)
        for top, left, rows, columns in tiles
    ]


def list_phases(scales: int) -> Iterator[tuple[Component, list[Component], list[tuple[int, int, int]]]]:
    """Each phase's component (stride, row, column), the known ones of its scale, and its neighbours among them."""
    yield (2**scales, 0, 0), [], []
    for s in (2**n for n in range(scales, 0, -1)):
        even, diagonal, right, below = (s, 0, 0), (s, s // 2, s // 2), (s, 0, s // 2), (s, s // 2, 0)
        yield diagonal, [even], [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
        yield right, [even, diagonal], [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)]
        yield below, [even, diagonal, right], [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, -1)]
