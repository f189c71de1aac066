"""The pixels of a batch of tiles as the network sees them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nvae_codec.polyphase import Plane
from nvae_codec.schedule.tiles import Tile


def padded(length: int, stride: int) -> int:
    """The next multiple of the stride."""
    return -(-length // stride) * stride


def plane_size(tile: tuple[int, int], plane: Plane) -> tuple[int, int]:
    """Rows and columns of a plane's pixels in a tile of (height, width); 0 where there are none."""
    height, width = tile
    rows, columns = -(-(height - plane.row) // plane.stride), -(-(width - plane.column) // plane.stride)
    return max(rows, 0), max(columns, 0)


class Canvas:
    """The known pixels of a batch of tiles, padded to the network's stride.

    Each plane repeats its own last row and column. So the encoder, which has the whole image, sees the same padding as
    the decoder, which decodes one plane after another. A plane without pixels copies the coarser plane.

    With ``edge`` rows and columns of zeros on each side, which some networks need, all padding is zeros.
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


def gather_plane(planes: Sequence[NDArray[np.uint8]], tiles: Sequence[Tile], plane: Plane) -> NDArray[np.uint8]:
    """A plane of several tiles, (B, C, rows, columns); ``planes`` are the images, (C, H, W) each."""
    inside = [planes[tile.image][:, tile.rows, tile.columns] for tile in tiles]
    return np.stack([tile[:, plane.row :: plane.stride, plane.column :: plane.stride] for tile in inside])
