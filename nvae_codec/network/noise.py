"""Noise for a part of a batch, which is the same as in the whole batch however that is divided."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Random numbers for one of ``count`` equal parts of a batch: drawn for all of it, so that parts change nothing."""

    index: int = 0
    count: int = 1

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1), in the shape (B, ...), dtype and layout of ``like``."""
        return self._part(torch.randn_like(self._whole(like)))

    def uniform(self, like: Tensor) -> Tensor:
        """Float32, uniform in [0, 1), in the shape (B, ...) of ``like``."""
        whole = self._whole(like)
        return self._part(torch.rand(whole.shape, device=whole.device))

    def _whole(self, part: Tensor) -> Tensor:
        return part if self.count == 1 else torch.cat([part] * self.count)

    def _part(self, whole: Tensor) -> Tensor:
        return whole if self.count == 1 else whole.chunk(self.count)[self.index]
