"""Operations that change the size of a map: upsampling by two, and pooling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nvae_codec.integer.operation import FLOAT32_BOUND, Bounds, Operation


@dataclass(frozen=True)
class _Upsample(Operation):
    """Twice the side."""

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """No value is larger than the input's."""
        self.require(inputs[0].stride >= 2 and inputs[0].stride % 2 == 0, "a map with more positions than pixels")
        return Bounds(inputs[0].largest, inputs[0].stride // 2)


@dataclass(frozen=True)
class Repeat(_Upsample):
    """Each position becomes a square of two by two (nearest neighbour)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Copy."""
        return inputs[0].repeat_interleave(2, 2).repeat_interleave(2, 3).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Interpolate(_Upsample):
    """Bilinear upsampling by two with aligned corners: integer weights over (2H - 1)(2W - 1), rounded once.

    floor((2 s + d) / 2 d), d = (2H - 1)(2W - 1), where s is the weighted sum of four integers, below 2^53.
    """

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Interpolate in integers, which float64 holds before the division."""
        total, divisor = inputs[0].double(), 1
        for axis in (2, 3):
            side = total.shape[axis]
            offset = torch.arange(2 * side, device=total.device) * (side - 1)
            first, share = offset // (2 * side - 1), offset % (2 * side - 1)
            upper = share.double().view([-1 if dim == axis else 1 for dim in range(4)])
            last = (first + 1).clamp_max(side - 1)
            total = total.index_select(axis, first) * ((2 * side - 1) - upper) + total.index_select(axis, last) * upper
            divisor *= 2 * side - 1
        exact = torch.div(2 * total.to(torch.int64) + divisor, 2 * divisor, rounding_mode="floor")
        return exact.float().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Pool(Operation):
    """Half the side: the mean of each square of two by two, rounded: floor((s + 2) / 4)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Sum four integers; a quarter of what float32 holds is exact."""
        even, odd = inputs[0][:, :, ::2], inputs[0][:, :, 1::2]
        total = even[..., ::2] + even[..., 1::2] + odd[..., ::2] + odd[..., 1::2]
        return total.add_(2).mul_(0.25).floor_().contiguous(memory_format=torch.channels_last)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """The sum is exact; no mean is larger than the input."""
        largest, stride = inputs[0]
        self.require(float(4 * largest.max() + 2) < FLOAT32_BOUND, "a sum may not be exact")
        self.require(stride >= 1, "the size of its map")
        return Bounds(largest, 2 * stride)
