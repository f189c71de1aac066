"""From a traced network to steps that quantisation understands: layers merged, constants folded, names settled.

Batch normalisation and constant factors fold into the convolution before them; a ReLU becomes its lower bound, a pixel
shuffle the form of its result.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nvae_codec.errors import ModelFileError
from nvae_codec.network.cells import Constant, ConstantMap, Scale
from nvae_codec.network.convolution import FactorizedConv2d, applied_weight

TABLED: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.SiLU: F.silu, nn.Hardswish: F.hardswish, nn.ELU: F.elu, nn.Sigmoid: torch.sigmoid,
    nn.GELU: F.gelu,
}  # fmt: skip


@dataclass
class Step:
    """One operation on real numbers; ``kind`` is the name of the operation that it becomes."""

    kind: str
    name: str
    inputs: list[str]
    weight: Tensor | None = None
    bias: Tensor | None = None
    gain: float = 1.0
    stride: int = 1
    padding: int = 0
    groups: int = 1
    shuffle: int = 1
    rectified: bool = False
    function: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    source: str = ""

    @property
    def fan_in(self) -> int:
        """Products summed for one output of a convolution."""
        return cast(Tensor, self.weight)[0].numel()


def lower(traced: fx.GraphModule) -> tuple[list[Step], dict[str, str], dict[str, str]]:
    """Steps in order, outputs by public name, and the fx node whose values each step's result has."""
    modules = dict(traced.named_modules())
    steps: dict[str, Step] = {}
    alias: dict[str, str] = {}
    watched: dict[str, str] = {}
    outputs: dict[str, str] = {}

    def resolve(argument: object) -> str:
        return alias[cast(fx.Node, argument).name]

    for node in traced.graph.nodes:
        if node.op == "output":
            outputs = {name: resolve(value) for name, value in node.args[0].items()}
            continue
        step = _absorb(node, modules, steps, alias) or _begin(node, modules, resolve)
        alias[node.name] = step.name
        watched[step.name] = node.name
        steps[step.name] = step
    return list(steps.values()), outputs, watched


def _begin(node: fx.Node, modules: dict[str, nn.Module], resolve: Callable[[object], str]) -> Step:
    """A new step for a node."""
    if node.op == "placeholder":
        return Step("Input", node.meta["input"], [], source=node.meta["input"])
    name = node.name
    if node.op == "call_function":
        if node.target is torch.cat:
            return Step("Concatenate", name, [resolve(part) for part in cast(list[fx.Node], node.args[0])])
        kinds = {operator.add: "Add", operator.mul: "Gate", F.pixel_unshuffle: "Fold", F.avg_pool2d: "Pool"}
        if node.target in kinds:
            values = [resolve(part) for part in node.args if isinstance(part, fx.Node)]
            factor = cast(int, node.args[1]) if node.target is F.pixel_unshuffle else 1
            return Step(kinds[node.target], name, values, stride=factor)
    if node.op == "call_module":
        module, source = modules[cast(str, node.target)], cast(str, node.target)
        inputs = [resolve(node.args[0])]
        if isinstance(module, nn.Conv2d):
            weight = _dilate(applied_weight(module).detach().double(), module.dilation[0])
            bias = (
                torch.zeros(len(weight), dtype=torch.double) if module.bias is None else module.bias.detach().double()
            )
            return Step(
                "Convolve", name, inputs, weight, bias, stride=module.stride[0], padding=cast(int, module.padding[0]),
                groups=module.groups, source=source,
            )  # fmt: skip
        if isinstance(module, FactorizedConv2d):
            kernel, offset = (value.detach().double() for value in module.fused())
            return Step("Convolve", name, inputs, kernel, offset, stride=2, source=source)
        if isinstance(module, nn.BatchNorm2d):
            scale, offset = _affine(module)
            return Step("Convolve", name, inputs, scale.view(-1, 1, 1, 1), offset, groups=len(scale), source=source)
        if isinstance(module, Constant):
            return Step("Spread", name, inputs, module.value.detach().double().flatten(), source=source)
        if isinstance(module, ConstantMap):
            return Step("SpreadMap", name, inputs, module.value.detach().double()[0], source=source)
        if isinstance(module, nn.Upsample):
            return Step("Repeat" if module.mode == "nearest" else "Interpolate", name, inputs)
        if isinstance(module, nn.ReLU):
            return Step("Rectify", name, inputs)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return Step("Average", name, inputs)
        for kind, function in TABLED.items():
            if isinstance(module, kind):
                return Step("LookUp", name, inputs, function=function)
    raise ModelFileError(f"freezing does not know {node.op} {node.target}")


def _absorb(node: fx.Node, modules: dict[str, nn.Module], steps: dict[str, Step], alias: dict[str, str]) -> Step | None:
    """The step before, changed to include this node, where that is possible."""
    sources = node.all_input_nodes
    if len(sources) != 1 or sources[0].name not in alias:
        return None
    step = steps[alias[sources[0].name]]
    module = modules[cast(str, node.target)] if node.op == "call_module" else None
    if isinstance(module, nn.Identity):
        return step
    if len(sources[0].users) != 1:
        return None
    plain = step.kind == "Convolve" and not step.rectified and step.shuffle == 1
    if isinstance(module, nn.BatchNorm2d) and plain:
        scale, offset = _affine(module)
        step.weight = cast(Tensor, step.weight) * scale.view(-1, 1, 1, 1)
        step.bias = cast(Tensor, step.bias) * scale + offset
        return step
    if isinstance(module, Scale) and plain:
        step.weight, step.bias = cast(Tensor, step.weight) * module.factor, cast(Tensor, step.bias) * module.factor
        return step
    if isinstance(module, Scale) and step.kind == "Gate":
        step.gain *= module.factor
        return step
    if isinstance(module, nn.ReLU) and plain:
        step.rectified = True
        return step
    if node.op == "call_function" and node.target is F.pixel_shuffle and plain:
        step.shuffle = cast(int, node.args[1])
        return step
    return None


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
