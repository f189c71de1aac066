"""The shape of one image's levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """Rows and columns of an image; ``gray`` images have one value a pixel, the others three."""

    height: int
    width: int
    gray: bool = False

    @classmethod
    def of(cls, levels: NDArray[np.uint8]) -> Shape:
        """The shape of levels, (H, W) or (H, W, 3)."""
        return cls(levels.shape[0], levels.shape[1], levels.ndim == 2)

    @property
    def pixels(self) -> int:
        """How many pixels the image has."""
        return self.height * self.width
