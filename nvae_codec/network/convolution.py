"""Convolutions with weight normalization (Salimans and Kingma 2016) in the official form: plain, masked, factorized."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_FLOOR = 1e-5
"""Added to the norm of a kernel, outside the root."""
LEAST_FACTOR = 1e-3
"""Stands for zero where the logarithm of a norm is trained."""


class WeightNormConv2d(nn.Conv2d):
    """exp(log_weight_norm) * w / (||w|| + 1e-5), the norm of each output channel's kernel w."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(channels, out, kernel, stride, padding, dilation, groups, bias)
        self.log_weight_norm = nn.Parameter(torch.log(norm_of(self.weight.detach()) + 1e-2))

    def applied_weight(self) -> Tensor:
        """The kernel that the convolution applies, (out, channels / groups, k, k)."""
        return torch.exp(self.log_weight_norm) * self.weight / (norm_of(self.weight) + NORM_FLOOR)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H', W')."""
        out: Tensor = self._conv_forward(x, self.applied_weight(), self.bias)
        return out


class MaskedConv2d(WeightNormConv2d):
    """A convolution that keeps the size and reads no position after its own in the order of rows, columns, channels.

    The kernel (out, channels / groups, k, k) reads the rows above and, in the middle row, what is to the left. At its
    center an output block reads the input blocks before it, and its own unless ``zero_diagonal``. ``mirror`` flips the
    kernel in space, but not the order of channels (NVAE's code, neural_ar_operations.py).
    """

    mask: Tensor

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        *,
        zero_diagonal: bool,
        mirror: bool,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(channels, out, kernel, padding=kernel // 2, groups=groups, bias=bias)
        mask = causal_mask(channels, out, kernel, groups, zero_diagonal=zero_diagonal, mirror=mirror)
        self.register_buffer("mask", mask, persistent=False)

    def applied_weight(self) -> Tensor:
        """The kernel, masked and then normalized."""
        weight = self.weight * self.mask
        return torch.exp(self.log_weight_norm) * weight / (norm_of(weight) + NORM_FLOOR)


class FactorizedConv2d(nn.Module):
    """Four 1x1 convolutions of stride 2 that read the four pixels of each square, (B, C, H, W) to (B, out, H/2, W/2).

    In the order of the official code: upper left, lower right, upper right, lower left. Three have a quarter of the
    ``out`` channels, the fourth the others.
    """

    OFFSETS = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, channels: int, out: int, *, weight_norm: bool) -> None:
        super().__init__()
        widths = [out // 4, out // 4, out // 4, out - 3 * (out // 4)]
        self.parts = nn.ModuleList(make_convolution(channels, width, 1, weight_norm=weight_norm) for width in widths)

    def fused(self) -> tuple[Tensor, Tensor]:
        """All four as one kernel (out, C, 2, 2) and its bias (out,)."""
        kernels, biases = [], []
        for part, (row, column) in zip(self.parts, self.OFFSETS, strict=True):
            part = cast(nn.Conv2d, part)
            kernels.append(F.pad(applied_weight(part), (column, 1 - column, row, 1 - row)))
            biases.append(cast(Tensor, part.bias))
        return torch.cat(kernels), torch.cat(biases)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(x, *self.fused(), stride=2)


def make_convolution(
    channels: int,
    out: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weight_norm: bool = False,
) -> nn.Conv2d:
    """A convolution that keeps the size, or divides it by the stride, with or without weight normalization."""
    kind = WeightNormConv2d if weight_norm else nn.Conv2d
    return kind(channels, out, kernel, stride, dilation * (kernel // 2), dilation, groups, bias)


def applied_weight(convolution: nn.Conv2d) -> Tensor:
    """The kernel that a convolution applies, after normalization and mask."""
    return convolution.applied_weight() if isinstance(convolution, WeightNormConv2d) else convolution.weight


@torch.no_grad()
def shrink(convolution: nn.Conv2d, factor: float) -> None:
    """Make a convolution's kernel smaller by a factor, 0 to 1, before training; 0 takes its bias along."""
    if isinstance(convolution, WeightNormConv2d):
        convolution.log_weight_norm.add_(math.log(max(factor, LEAST_FACTOR)))
    else:
        convolution.weight.mul_(factor)
    if not factor and convolution.bias is not None:
        convolution.bias.zero_()


def norm_of(weight: Tensor) -> Tensor:
    """The Euclidean norm of each output channel's kernel, (out, 1, 1, 1)."""
    return torch.sqrt(weight.square().sum((1, 2, 3), keepdim=True))


def causal_mask(channels: int, out: int, kernel: int, groups: int, *, zero_diagonal: bool, mirror: bool) -> Tensor:
    """1 where a kernel (out, channels / groups, k, k) may read, else 0; the order runs over rows, columns, channels."""
    middle = kernel // 2
    mask = torch.zeros(out, channels // groups, kernel, kernel)
    mask[:, :, :middle] = 1
    mask[:, :, middle, :middle] = 1
    if groups == 1:
        blocks = min(channels, out)
        reader = torch.arange(out) // (out // blocks)
        source = torch.arange(channels) // (channels // blocks)
        allowed = source[None] < reader[:, None] if zero_diagonal else source[None] <= reader[:, None]
        mask[:, :, middle, middle] = allowed.float()
    elif not zero_diagonal:
        mask[:, :, middle, middle] = 1
    return mask.flip((2, 3)) if mirror else mask
