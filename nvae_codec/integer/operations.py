"""The operations of the integer network: arithmetic on integers held in floating-point tensors.

Every result is an integer that its dtype represents exactly, so the order of summation, threads, batch size, memory
layout and instruction set cannot change it (docs/exactness.md). The only rounding, from an accumulator to few bits, is
one multiplication followed by one rounding to even; IEEE 754 specifies both.

Tensors are float32 (B, C, H, W), channels_last on the CPU. Each class holds what it computes (``run``) and what is
proved of it (``bound``); export/layers.py has its real-valued counterpart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.integer.convolution import convolve, convolve_packed, pack_pointwise
from nvae_codec.integer.operation import FLOAT32_BOUND, FLOAT64_BOUND, MOST_CHANNELS, Bounds, Operation
from nvae_codec.integer.resampling import Interpolate, Pool, Repeat


@dataclass(frozen=True)
class Input(Operation):
    """A value from outside: integers in [-largest, largest], one position every ``stride`` pixels."""

    channels: int
    largest: int
    stride: int

    arity = 0

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """As declared."""
        self.require(1 <= self.channels <= MOST_CHANNELS, f"{self.channels} channels")
        self.require(0 <= self.largest < FLOAT32_BOUND and self.stride >= 1, "no such input")
        return Bounds(torch.full((self.channels,), float(self.largest), dtype=torch.double, device="cpu"), self.stride)


@dataclass(frozen=True)
class Convolve(Operation):
    """clamp(round((w * x + b) · m), low, high): a convolution and its requantisation.

    weight (O, I / groups, k, k), bias (O,) and multiplier (O,) are float32; weight and bias hold integers. Every sum is
    below 2^24: Σ|w|·max|x| + |b| for each output channel. Where that leaves too few bits, ``digits`` splits weights and
    biases into balanced digits, with so many bits in the lowest, the next, and so on; the highest takes the rest. Then
    the sums of each digit are below 2^24, and are combined in float64 below 2^53. With ``shuffle`` > 1, squares of
    channels finally become squares of positions (pixel shuffle).
    """

    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    multiplier: Tensor = field(repr=False)
    stride: int = 1
    padding: int = 0
    groups: int = 1
    low: int = 0
    high: int = 0
    shuffle: int = 1
    digits: tuple[int, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was derived from them belongs to this machine."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def pointwise(self) -> bool:
        """If the kernel has one position."""
        return self.weight.shape[2] == self.stride == self.shuffle == 1 and not self.padding

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """Weights and biases by digit, the highest first: the output channels of each group, once for each digit."""
        if not self.digits:
            return self.weight, self.bias
        weights, biases = split_digits(self.weight, self.digits), split_digits(self.bias, self.digits)
        shape = (len(weights), self.groups, -1)
        weight = torch.stack(weights).view(*shape, *self.weight.shape[1:]).transpose(0, 1).flatten(0, 2)
        bias = torch.stack(biases).view(shape).transpose(0, 1).flatten()
        return weight.contiguous(memory_format=torch.channels_last), bias

    @cached_property
    def packed(self) -> Tensor | None:
        """The kernel in a faster layout, if this is a pointwise convolution on the CPU."""
        return pack_pointwise(self.parts[0]) if self.pointwise and self.groups == 1 else None

    def accumulate(self, inputs: Sequence[Tensor]) -> Tensor:
        """w * x + b: integers, float32, or float64 with digits."""
        weight, bias = self.parts
        if torch.backends.mkldnn.enabled and self.packed is not None:
            out = convolve_packed(inputs[0], self.packed, bias)
        else:
            out = convolve(inputs[0], weight, bias, self.stride, self.padding, self.groups)
        if not self.digits:
            return out
        parts = out.view(len(out), self.groups, len(self.digits) + 1, -1, *out.shape[2:]).unbind(2)
        total = parts[0].double()
        for bits, part in zip(reversed(self.digits), parts[1:], strict=True):
            total.mul_(2.0**bits).add_(part)
        return total.flatten(1, 2)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Convolve, multiply, round, clamp."""
        return self.requantize(self.accumulate(inputs))

    def requantize(self, total: Tensor) -> Tensor:
        """The result for an accumulator, which is overwritten."""
        multiplier = self.multiplier.to(total.dtype).view(1, -1, 1, 1)
        out = total.mul_(multiplier).round_().clamp_(self.low, self.high).float()
        return F.pixel_shuffle(out, self.shuffle) if self.shuffle > 1 else out

    def sums(self, largest: Tensor) -> Tensor:
        """Σ|w|·max|x| + |b| of each digit and output channel, float64 (digits, O), for inputs bounded by ``largest``.

        The last row is that of the whole weights, if there are digits.
        """
        weights, biases = split_digits(self.weight.cpu(), self.digits), split_digits(self.bias.cpu(), self.digits)
        if self.digits:
            weights, biases = [*weights, self.weight.cpu()], [*biases, self.bias.cpu()]
        reach = largest.view(self.groups, 1, -1)
        rows = [w.double().abs().sum((2, 3)).view(self.groups, -1, w.shape[1]) * reach for w in weights]
        return torch.stack([row.sum(2).flatten() + b.double().abs() for row, b in zip(rows, biases, strict=True)])

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """Every sum is exact, and the result is in [low, high]."""
        largest, stride = inputs[0]
        self._check_shapes(len(largest), stride)
        self.require_integers(weight=self.weight, bias=self.bias)
        self.require(bool(torch.isfinite(self.multiplier).all()), "a multiplier is not a number")
        self.require(len(self.digits) <= 7 and all(1 <= bits <= 23 for bits in self.digits), "digits")
        sums = self.sums(largest)
        self.require(bool((sums[: len(self.digits) + 1] < FLOAT32_BOUND).all()), f"a sum may reach {sums.max():.0f}")
        self.require(bool((sums < FLOAT64_BOUND).all()), f"a sum may reach {sums.max():.0f}")
        self.require(self.low <= self.high, "low is above high")
        channels = len(self.bias) // self.shuffle**2
        bound = float(max(abs(self.low), abs(self.high)))
        bounds = torch.full((channels,), bound, dtype=torch.double, device="cpu")
        return Bounds(bounds, stride * self.stride // self.shuffle)

    def _check_shapes(self, channels: int, stride: int) -> None:
        """Parameters fit the input and one another, and the sides of the map are divided by ``self.stride``."""
        self.require(self.weight.dim() == 4 and min(self.weight.shape) >= 1, "weight has not four dimensions")
        outputs, per_group, kernel, columns = self.weight.shape
        self.require(kernel == columns and outputs <= MOST_CHANNELS, "the shape of weight")
        self.require(self.bias.shape == self.multiplier.shape == (outputs,), "the shape of bias or multiplier")
        self.require(self.groups >= 1 and outputs % self.groups == 0, "groups")
        self.require(per_group * self.groups == channels, f"{channels} input channels")
        self.require(self.stride >= 1, "stride")
        self.require(kernel - self.stride <= 2 * self.padding < kernel, "padding")
        self.require(self.shuffle >= 1 and outputs % self.shuffle**2 == 0, "shuffle")
        self.require(stride * self.stride % self.shuffle == 0, "the size of its map")
        self.require(bool(stride) or kernel == self.stride == self.shuffle == 1, "the size of its map")

    def products(self, inputs: Sequence[Bounds]) -> float:
        """One per weight, digit and position."""
        return self.weight.numel() * (len(self.digits) + 1) / max(inputs[0].stride * self.stride, 1) ** 2


def split_digits(value: Tensor, digits: Sequence[int]) -> list[Tensor]:
    """The balanced digits of integers, the highest first, float32; ``digits`` has their bits, the lowest first."""
    rest, parts = value.double(), []
    for bits in digits:
        low = torch.remainder(rest + 2 ** (bits - 1), 2**bits) - 2 ** (bits - 1)
        rest = (rest - low) / 2**bits
        parts.append(low.float())
    return [rest.float(), *reversed(parts)]


@dataclass(frozen=True)
class Spread(Operation):
    """A constant for each channel, at every position of the input: value (C,), integers."""

    value: Tensor = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Only the shape of the input matters."""
        b, _, h, w = inputs[0].shape
        return self.value.view(1, -1, 1, 1).expand(b, -1, h, w).contiguous(memory_format=torch.channels_last)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """The value itself."""
        self.require(self.value.dim() == 1 and self.value.numel() >= 1, "the shape of value")
        self.require_integers(value=self.value)
        return Bounds(self.value.double().cpu().abs(), inputs[0].stride)


@dataclass(frozen=True)
class SpreadMap(Operation):
    """A constant map, cropped or repeated to the size of the input: value (C, h, w), integers."""

    value: Tensor = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Only the shape of the input matters."""
        b, _, rows, columns = inputs[0].shape
        _, h, w = self.value.shape
        whole = self.value.repeat(1, -(-rows // h), -(-columns // w))[None, :, :rows, :columns]
        return whole.expand(b, -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """The value itself."""
        self.require(self.value.dim() == 3 and self.value.numel() >= 1, "the shape of value")
        self.require_integers(value=self.value)
        return Bounds(self.value.double().cpu().abs().amax((1, 2)), inputs[0].stride)


@dataclass(frozen=True)
class Add(Operation):
    """clamp(x + y, -limit, limit) of two values with the same scale."""

    limit: int

    arity = 2

    @property
    def pointwise(self) -> bool:
        """Always."""
        return True

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Add and clamp."""
        return torch.add(inputs[0], inputs[1]).clamp_(-self.limit, self.limit)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """The sum is exact before it is clamped."""
        one, other = inputs
        self.require(one.largest.shape == other.largest.shape and one.stride == other.stride, "inputs of two shapes")
        total = one.largest + other.largest
        self.require(float(total.max()) < FLOAT32_BOUND, "a sum may not be exact")
        self.require(self.limit >= 0, "limit")
        return Bounds(total.clamp_max(self.limit), one.stride)


@dataclass(frozen=True)
class Rectify(Operation):
    """max(x, 0)."""

    @property
    def pointwise(self) -> bool:
        """Always."""
        return True

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Rectify."""
        return torch.relu(inputs[0])


@dataclass(frozen=True)
class Concatenate(Operation):
    """The channels of all inputs, one input after another."""

    arity = None

    @property
    def pointwise(self) -> bool:
        """Always."""
        return True

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Concatenate."""
        return torch.cat(list(inputs), 1)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """That of each input."""
        self.require(len({each.stride for each in inputs}) == 1, "inputs of two sizes")
        self.require(sum(len(each.largest) for each in inputs) <= MOST_CHANNELS, "too many channels")
        return Bounds(torch.cat([each.largest for each in inputs]), inputs[0].stride)


@dataclass(frozen=True)
class Fold(Operation):
    """Squares of positions become channels (pixel unshuffle)."""

    factor: int

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fold."""
        return F.pixel_unshuffle(inputs[0], self.factor).contiguous(memory_format=torch.channels_last)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """That of the input."""
        largest, stride = inputs[0]
        self.require(1 <= self.factor <= 256 and len(largest) * self.factor**2 <= MOST_CHANNELS, "factor")
        self.require(stride >= 1, "the size of its map")
        return Bounds(largest.repeat_interleave(self.factor**2), stride * self.factor)


@dataclass(frozen=True)
class LookUp(Operation):
    """table[x + n // 2]: an activation as a table (n,) of integers, int32, with the entry of zero in its middle."""

    table: Tensor = field(repr=False)

    @property
    def pointwise(self) -> bool:
        """Always."""
        return True

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Look up. On the CPU this uses NumPy, which is six times faster than indexing in torch."""
        x = inputs[0]
        index = x.to(torch.int32).add_(self.table.numel() // 2)
        if x.device.type != "cpu":
            return self.table[index.long()].to(x.dtype)
        flat = index.permute(0, 2, 3, 1).contiguous().numpy()
        taken = np.take(self.table.numpy(), flat).astype(np.float32)
        return torch.from_numpy(taken).permute(0, 3, 1, 2)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """No index is outside the table."""
        self.require(self.table.dim() == 1 and self.table.numel() >= 1, "the shape of table")
        # with an even number of entries, the middle leaves one entry fewer at the upper end
        inside = float(inputs[0].largest.max()) <= (self.table.numel() - 1) // 2
        self.require(inside, "an index may be outside the table")
        return Bounds(torch.full_like(inputs[0].largest, float(self.table.double().abs().max())), inputs[0].stride)


@dataclass(frozen=True)
class Average(Operation):
    """The mean over all positions in sixteenths, rounded: floor((32 · sum + n) / 2n), (B, C, 1, 1)."""

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Average in integers."""
        x = inputs[0]
        count = x.shape[2] * x.shape[3]
        total = x.sum((2, 3), keepdim=True, dtype=torch.float64).to(torch.int64)
        return torch.div(32 * total + count, 2 * count, rounding_mode="floor").to(x.dtype)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """Sixteen times that of the input."""
        return Bounds(16 * inputs[0].largest, 0)


@dataclass(frozen=True)
class Gate(Operation):
    """clamp(round((x · y) · m), -limit, limit): channels weighted by a gate y (B, C, 1, 1); multiplier (C,)."""

    multiplier: Tensor = field(repr=False)
    limit: int

    arity = 2

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Multiply, requantise, clamp."""
        product = torch.mul(inputs[0], inputs[1])
        return product.mul_(self.multiplier.view(1, -1, 1, 1)).round_().clamp_(-self.limit, self.limit)

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """The product is exact before it is requantised."""
        value, gate = inputs
        shape = value.largest.shape
        self.require(shape == gate.largest.shape == self.multiplier.shape and not gate.stride, "inputs of two shapes")
        self.require(bool(torch.isfinite(self.multiplier).all()), "a multiplier is not a number")
        self.require(float((value.largest * gate.largest).max()) < FLOAT32_BOUND, "a product may not be exact")
        self.require(self.limit >= 0, "limit")
        return Bounds(torch.full_like(value.largest, float(self.limit)), value.stride)


OPERATIONS: dict[str, type[Operation]] = {
    kind.__name__: kind
    for kind in (
        Input, Convolve, Spread, SpreadMap, Repeat, Pool, Interpolate, Add, Rectify, Concatenate, Fold, LookUp, Average,
        Gate,
    )
}  # fmt: skip
"""The operations by the names that model files give them."""
