"""The layers of a traced network on real numbers: one class for each operation of the integer network.

Each class recognizes its nodes of the traced graph, says how its result is scaled and, once all scales are known,
becomes an operation of integer/operations.py.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nvae_codec.errors import ModelFileError
from nvae_codec.export.weights import scale_weights, split_weights
from nvae_codec.export.width import Width
from nvae_codec.integer import operations as ops
from nvae_codec.integer import resampling
from nvae_codec.integer.operation import FLOAT32_BOUND, Operation
from nvae_codec.network.cells import Constant, ConstantMap, Scale
from nvae_codec.network.convolution import FactorizedConv2d, applied_weight

Module = nn.Module | None


@dataclass
class Layer:
    """One layer: the name of its result, the names of earlier results, and the module that it comes from."""

    name: str
    inputs: list[str]
    source: str = ""

    shares_scale: ClassVar[bool] = False
    """Whether the result has the scale and the bound of all inputs."""
    uniform: ClassVar[bool] = False
    """Whether all channels of result and inputs have one scale."""

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """The layer of a node, or None if it is of another kind. ``module`` is what a call_module node calls."""
        raise NotImplementedError

    def absorb(self, node: fx.Node, module: Module) -> bool:
        """Include the next node, which alone uses this result, if this layer can."""
        return False

    @property
    def fan_in(self) -> int:
        """Values summed in float32 for one output."""
        return 0

    def derive(self, inputs: list[Width]) -> Width | None:
        """The width of the result, if it follows from the inputs."""
        return None

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """The operation on integers. Raises ModelFileError if it cannot be exact."""
        raise NotImplementedError


@dataclass
class InputLayer(Layer):
    """An input; ``stride`` is set once the inputs' strides are known."""

    stride: int = 1

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Placeholders of the trace."""
        return cls(node.meta["input"], [], node.meta["input"]) if node.op == "placeholder" else None

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """An input with the bound of its width."""
        return ops.Input(self.name, (), len(own.scale), own.bound, self.stride)


@dataclass
class ConvolveLayer(Layer):
    """A convolution with batch normalisation, constant factors, a ReLU and a pixel shuffle merged into it.

    precise: whether weights keep all their bits, at the price of more digits.
    """

    weight: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    bias: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    stride: int = 1
    padding: int = 0
    groups: int = 1
    shuffle: int = 1
    rectified: bool = False
    precise: bool = False

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Convolutions, factorised ones as one kernel, and batch normalisation that follows something else."""
        source = str(node.target)
        if isinstance(module, nn.Conv2d):
            weight = _dilate(applied_weight(module).detach().double(), module.dilation[0])
            bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().double()
            padding = cast(int, module.padding[0])
            return cls(node.name, inputs, source, weight, bias, module.stride[0], padding, module.groups)
        if isinstance(module, FactorizedConv2d):
            kernel, offset = (value.detach().double() for value in module.fused())
            return cls(node.name, inputs, source, kernel, offset, stride=2)
        if isinstance(module, nn.BatchNorm2d):
            scale, offset = _affine(module)
            return cls(node.name, inputs, source, scale.view(-1, 1, 1, 1), offset, groups=len(scale))
        return None

    def absorb(self, node: fx.Node, module: Module) -> bool:
        """What is linear per channel, then a ReLU or a pixel shuffle."""
        if self.rectified or self.shuffle > 1:
            return False
        if isinstance(module, nn.BatchNorm2d):
            scale, offset = _affine(module)
            self.weight, self.bias = self.weight * scale.view(-1, 1, 1, 1), self.bias * scale + offset
        elif isinstance(module, Scale):
            self.weight, self.bias = self.weight * module.factor, self.bias * module.factor
        elif isinstance(module, nn.ReLU):
            self.rectified = True
        elif _is_call(node, F.pixel_shuffle):
            self.shuffle = cast(int, node.args[1])
        else:
            return False
        return True

    @property
    def fan_in(self) -> int:
        """0 if it is precise, so that it does not limit the bits of its inputs."""
        return 0 if self.precise else self.weight[0].numel()

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Scale the weights to integers; split them into digits where float32 leaves them too few bits."""
        largest = inputs[0].largest
        channel = torch.arange(len(largest)).view(self.groups, 1, -1)
        channel = channel.expand(-1, len(self.weight) // self.groups, -1).flatten(0, 1)
        real = self.weight * inputs[0].scale[channel][:, :, None, None]
        reach = largest[channel][:, :, None, None].expand_as(real)
        weight, bias, unit, split = scale_weights(real, self.bias, reach, precise=self.precise)
        multiplier = unit / own.scale.repeat_interleave(self.shuffle**2)
        operation = ops.Convolve(
            self.name, tuple(self.inputs), weight.float(), bias.float(), multiplier.float(), self.stride, self.padding,
            self.groups, 0 if self.rectified else -own.bound, own.bound, self.shuffle,
        )  # fmt: skip
        return split_weights(operation, largest) if split else operation


@dataclass
class SpreadLayer(Layer):
    """A constant for each channel."""

    value: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Constants."""
        if not isinstance(module, Constant):
            return None
        return cls(node.name, inputs, str(node.target), module.value.detach().double().flatten())

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Round the constant."""
        return ops.Spread(self.name, tuple(self.inputs), _round(self.value / own.scale, own.bound).float())


@dataclass
class SpreadMapLayer(Layer):
    """A constant map."""

    value: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Constant maps."""
        if not isinstance(module, ConstantMap):
            return None
        return cls(node.name, inputs, str(node.target), module.value.detach().double()[0])

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Round the map."""
        value = _round(self.value / own.scale.view(-1, 1, 1), own.bound)
        return ops.SpreadMap(self.name, tuple(self.inputs), value.float())


@dataclass
class _SimpleLayer(Layer):
    """A layer without parameters whose result has the scale of its inputs: what ``kind`` computes."""

    shares_scale = True
    kind: ClassVar[type[Operation]]

    @staticmethod
    def matches(node: fx.Node, module: Module) -> bool:
        """Whether it stands for a node."""
        raise NotImplementedError

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """By :meth:`matches`."""
        return cls(node.name, inputs) if cls.matches(node, module) else None

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Nothing to quantise."""
        return self.kind(self.name, tuple(self.inputs))


def _is_call(node: fx.Node, function: Callable[..., object]) -> bool:
    return node.op == "call_function" and node.target is function


class RepeatLayer(_SimpleLayer):
    """Nearest-neighbour upsampling by two."""

    kind = resampling.Repeat
    matches = staticmethod(lambda node, module: isinstance(module, nn.Upsample) and module.mode == "nearest")


class InterpolateLayer(_SimpleLayer):
    """Bilinear upsampling by two."""

    kind = resampling.Interpolate
    matches = staticmethod(lambda node, module: isinstance(module, nn.Upsample) and module.mode != "nearest")


class PoolLayer(_SimpleLayer):
    """The mean of squares of two by two."""

    kind = resampling.Pool
    matches = staticmethod(lambda node, module: _is_call(node, F.avg_pool2d))


class RectifyLayer(_SimpleLayer):
    """A ReLU that does not follow a convolution."""

    kind = ops.Rectify
    matches = staticmethod(lambda node, module: isinstance(module, nn.ReLU))


class AddLayer(_SimpleLayer):
    """A sum of two values."""

    matches = staticmethod(lambda node, module: _is_call(node, operator.add))

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Clamped to the bound that all three share."""
        return ops.Add(self.name, tuple(self.inputs), own.bound)


class ConcatenateLayer(_SimpleLayer):
    """Values next to each other."""

    kind = ops.Concatenate
    shares_scale = False
    matches = staticmethod(lambda node, module: _is_call(node, torch.cat))

    def derive(self, inputs: list[Width]) -> Width | None:
        """Each channel as it was."""
        bounds = torch.cat([width.largest for width in inputs])
        return Width(torch.cat([width.scale for width in inputs]), int(bounds.max()), bounds)


class AverageLayer(_SimpleLayer):
    """The mean over space."""

    kind = ops.Average
    shares_scale = False
    matches = staticmethod(lambda node, module: isinstance(module, nn.AdaptiveAvgPool2d))

    def derive(self, inputs: list[Width]) -> Width | None:
        """In sixteenths."""
        return Width(inputs[0].scale / 16, 16 * inputs[0].bound)


@dataclass
class FoldLayer(Layer):
    """Squares of positions as channels."""

    factor: int = 1

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Calls of pixel_unshuffle."""
        known = _is_call(node, F.pixel_unshuffle)
        return cls(node.name, inputs, factor=cast(int, node.args[1])) if known else None

    def derive(self, inputs: list[Width]) -> Width | None:
        """Each channel as often as it becomes several."""
        return Width(inputs[0].scale.repeat_interleave(self.factor**2), inputs[0].bound)

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Nothing to quantise."""
        return ops.Fold(self.name, tuple(self.inputs), self.factor)


TABULATED: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.SiLU: F.silu, nn.Hardswish: F.hardswish, nn.ELU: F.elu, nn.Sigmoid: torch.sigmoid, nn.GELU: F.gelu,
}  # fmt: skip


@dataclass
class LookUpLayer(Layer):
    """An activation that becomes a table."""

    function: Callable[[Tensor], Tensor] = field(default=F.silu, repr=False)

    uniform = True

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Activations that are no ReLU."""
        function = next((each for kind, each in TABULATED.items() if isinstance(module, kind)), None)
        return cls(node.name, inputs, function=function) if function else None

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """The function at every integer."""
        index = torch.arange(-inputs[0].bound, inputs[0].bound + 1, dtype=torch.double)
        table = _round(self.function(index * inputs[0].scale[0]) / own.scale[0], own.bound)
        return ops.LookUp(self.name, tuple(self.inputs), table.to(torch.int32))


@dataclass
class GateLayer(Layer):
    """A value times a gate and a constant factor."""

    gain: float = 1.0

    @classmethod
    def from_node(cls, node: fx.Node, module: Module, inputs: list[str]) -> Self | None:
        """Products."""
        return cls(node.name, inputs) if _is_call(node, operator.mul) else None

    def absorb(self, node: fx.Node, module: Module) -> bool:
        """A constant factor."""
        if isinstance(module, Scale):
            self.gain *= module.factor
        return isinstance(module, Scale)

    def quantize(self, inputs: list[Width], own: Width) -> Operation:
        """Requantise the product."""
        value, gate = inputs
        if value.bound * gate.bound >= FLOAT32_BOUND:
            raise ModelFileError(f"{self.name}: a product of {value.bound} and {gate.bound} is not exact in float32")
        multiplier = (value.scale * gate.scale * self.gain / own.scale).float()
        return ops.Gate(self.name, tuple(self.inputs), multiplier, own.bound)


LAYERS: Sequence[type[Layer]] = (
    InputLayer, ConvolveLayer, SpreadLayer, SpreadMapLayer, RepeatLayer, InterpolateLayer, PoolLayer, RectifyLayer,
    AddLayer, ConcatenateLayer, AverageLayer, FoldLayer, LookUpLayer, GateLayer,
)  # fmt: skip


def _round(value: Tensor, bound: int) -> Tensor:
    return value.round().clamp(-bound, bound)


def _dilate(weight: Tensor, dilation: int) -> Tensor:
    """A kernel with the zeros that its dilation skips."""
    if dilation == 1:
        return weight
    size = dilation * (weight.shape[2] - 1) + 1
    wide = weight.new_zeros(*weight.shape[:2], size, size)
    wide[:, :, ::dilation, ::dilation] = weight
    return wide


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch normalisation in evaluation mode as x * scale + offset, float64."""
    variance, mean = cast(Tensor, norm.running_var).double(), cast(Tensor, norm.running_mean).double()
    scale = norm.weight.detach().double() / torch.sqrt(variance + norm.eps)
    return scale, norm.bias.detach().double() - mean * scale
