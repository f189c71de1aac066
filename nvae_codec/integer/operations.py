"""What the exact network is made of: a few operations on integers that lie in floating point tensors.

Every result is an integer that its dtype holds without rounding, so neither the order of summation nor threads,
batches, layouts or instruction sets can change it (docs/exactness.md). The one rounding, from an accumulator back to
few bits, is a single multiplication followed by a single rounding to even, both fixed by IEEE 754.

Tensors are (B, C, H, W), float32, channels_last on the CPU; each operation states its integer bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.integer.convolution import convolve


@dataclass(frozen=True)
class Operation:
    """One step of the graph: ``name`` is its result, ``inputs`` are names of earlier results."""

    name: str
    inputs: tuple[str, ...]

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the result; inputs are never written to."""
        raise TypeError(f"{type(self).__name__} {self.name} cannot be run")

    def constants(self) -> dict[str, Tensor]:
        """The tensors that the operation depends on, by field."""
        return {key: value for key, value in vars(self).items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Input(Operation):
    """A value from outside: integers in [-bound, bound], ``channels`` of them, a place every ``pixels``."""

    channels: int
    bound: int
    pixels: int


@dataclass(frozen=True)
class Convolve(Operation):
    """clamp(round((w * x + b) · m)): a convolution and the way back to few bits, in [low, high].

    weight (O, I / groups, k, k), bias (O,), multiplier (O,) are float32; weight and bias hold integers. For every
    output Σ|w|·bound(x) + |b| < 2^24, or < 2^53 with ``double``, where the convolution runs in float64. With
    ``shuffle`` > 1 the channels then become squares of pixels.
    """

    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    multiplier: Tensor = field(repr=False)
    stride: int
    padding: int
    groups: int
    low: int
    high: int
    shuffle: int = 1
    double: bool = False

    def accumulate(self, inputs: Sequence[Tensor]) -> Tensor:
        """w * x + b: integers, float64 with ``double``."""
        x, weight, bias = inputs[0], self.weight, self.bias
        if self.double:
            x, weight, bias = x.double(), weight.double(), bias.double()
        return convolve(x, weight, bias, self.stride, self.padding, self.groups)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Convolve, multiply, round, clamp."""
        return self.requantize(self.accumulate(inputs))

    def requantize(self, out: Tensor) -> Tensor:
        """The result of an accumulator, which is written to."""
        multiplier = self.multiplier.to(out.dtype).view(1, -1, 1, 1)
        out = out.mul_(multiplier).round_().clamp_(self.low, self.high).float()
        return F.pixel_shuffle(out, self.shuffle) if self.shuffle > 1 else out


@dataclass(frozen=True)
class Spread(Operation):
    """A constant a channel over the space of its input: value (C,), integers."""

    value: Tensor = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """The input gives only the shape."""
        b, _, h, w = inputs[0].shape
        return self.value.view(1, -1, 1, 1).expand(b, -1, h, w).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class SpreadMap(Operation):
    """A constant map, cut or repeated to the space of its input: value (C, h, w), integers."""

    value: Tensor = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """The input gives only the shape."""
        b, _, rows, columns = inputs[0].shape
        _, h, w = self.value.shape
        whole = self.value.repeat(1, -(-rows // h), -(-columns // w))[None, :, :rows, :columns]
        return whole.expand(b, -1, -1, -1).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Repeat(Operation):
    """Each place as a square of two by two."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Copy; nothing is computed."""
        return inputs[0].repeat_interleave(2, 2).repeat_interleave(2, 3).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Pool(Operation):
    """Half the side: the mean of each square of two by two, rounded: floor((s + 2) / 4)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Sum four integers; a quarter of what float32 holds is exact."""
        even, odd = inputs[0][:, :, ::2], inputs[0][:, :, 1::2]
        total = even[..., ::2] + even[..., 1::2] + odd[..., ::2] + odd[..., 1::2]
        return total.add_(2).mul_(0.25).floor_().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Interpolate(Operation):
    """Twice the side, bilinear with corners on corners: weights are whole multiples of 1 / (2 side - 1), rounded once.

    floor((2 s + d) / 2 d), d = (2 H - 1)(2 W - 1), s the weighted sum of four integers, below 2^53.
    """

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Interpolate in integers, which float64 holds before the division."""
        total, whole = inputs[0].double(), 1
        for axis in (2, 3):
            side = total.shape[axis]
            steps = torch.arange(2 * side, device=total.device) * (side - 1)
            first, share = steps // (2 * side - 1), steps % (2 * side - 1)
            upper = share.double().view([-1 if dim == axis else 1 for dim in range(4)])
            last = (first + 1).clamp_max(side - 1)
            below, above = total.index_select(axis, first), total.index_select(axis, last)
            total = below * ((2 * side - 1) - upper) + above * upper
            whole *= 2 * side - 1
        exact = torch.div(2 * total.to(torch.int64) + whole, 2 * whole, rounding_mode="floor")
        return exact.float().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Add(Operation):
    """clamp(x + y) of two values of one scale."""

    bound: int

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Add and clamp."""
        return torch.add(inputs[0], inputs[1]).clamp_(-self.bound, self.bound)


@dataclass(frozen=True)
class Rectify(Operation):
    """max(x, 0)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Rectify."""
        return torch.relu(inputs[0])


@dataclass(frozen=True)
class Concatenate(Operation):
    """Channels of all inputs one after another."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Concatenate."""
        return torch.cat(list(inputs), 1)


@dataclass(frozen=True)
class Fold(Operation):
    """Squares of pixels to channels (pixel unshuffle)."""

    factor: int

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fold."""
        return F.pixel_unshuffle(inputs[0], self.factor).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LookUp(Operation):
    """table[x + bound]: an activation as 2·bound + 1 integers, int32."""

    table: Tensor = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Look up; through numpy on the CPU, where it is six times faster than indexing."""
        x = inputs[0]
        index = x.to(torch.int32).add_(self.table.numel() // 2)
        if x.device.type != "cpu":
            return self.table[index.long()].to(x.dtype)
        flat = index.permute(0, 2, 3, 1).contiguous().numpy()
        taken = np.take(self.table.numpy(), flat).astype(np.float32)
        return torch.from_numpy(taken).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Average(Operation):
    """The mean over space in sixteenths, rounded: floor((32·sum + n) / 2n), (B, C, 1, 1)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Average in integers."""
        x = inputs[0]
        count = x.shape[2] * x.shape[3]
        total = x.sum((2, 3), keepdim=True, dtype=torch.float64).to(torch.int64)
        return torch.div(32 * total + count, 2 * count, rounding_mode="floor").to(x.dtype)


@dataclass(frozen=True)
class Gate(Operation):
    """clamp(round((x · y) · m)): channels weighed by a gate (B, C, 1, 1); |x·y| < 2^24."""

    multiplier: Tensor = field(repr=False)
    bound: int

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Multiply, requantise, clamp."""
        product = torch.mul(inputs[0], inputs[1])
        return product.mul_(self.multiplier.view(1, -1, 1, 1)).round_().clamp_(-self.bound, self.bound)


OPERATIONS: dict[str, type[Operation]] = {
    kind.__name__: kind
    for kind in (
        Input, Convolve, Spread, SpreadMap, Repeat, Pool, Interpolate, Add, Rectify, Concatenate, Fold, LookUp, Average,
        Gate,
    )
}  # fmt: skip
