"""How integers represent real numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Width:
    """Real value = integer * scale, |integer| <= bound.

    scale: float64 (C,), one per channel. bounds: of each channel, float64 (C,), where they are not all ``bound``.
    """

    scale: Tensor
    bound: int
    bounds: Tensor | None = None

    @property
    def largest(self) -> Tensor:
        """The bound of each channel, float64 (C,)."""
        return torch.full_like(self.scale, float(self.bound)) if self.bounds is None else self.bounds
