"""How integers stand for real numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Width:
    """Real value = integer * scale, |integer| <= bound. ``scale`` is float64 (C,), one per channel."""

    scale: Tensor
    bound: int
