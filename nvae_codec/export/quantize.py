"""From layers on real numbers to operations on integers: the scale and the bound of every value.

Each value has a scale for every channel (real = integer · scale) and a bound (|integer| <= bound). Values that are
added share both. Weights are scaled, one output channel at a time, as far as the bound of the sum allows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.export.layers import Layer
from nvae_codec.export.width import Width
from nvae_codec.integer.operation import Operation
from nvae_codec.integer.operations import Convolve

MARGIN = 1.1
"""Room above the largest value seen in calibration; what exceeds it is clamped."""


@dataclass
class _Family:
    """Values that share a scale: both terms of a sum and the result, a value and its rectified form."""

    members: list[str]
    fixed: Width | None = None
    uniform: bool = False
    fan_in: int = 1


@dataclass
class LayerReport:
    """One convolution: its largest possible sum, and into how many digits its weights are split (1: not split)."""

    source: str
    largest_sum: int
    digits: int


@dataclass
class Quantized:
    """operations: in order. widths: of every value. reports: one for each convolution."""

    operations: list[Operation] = field(default_factory=list)
    widths: dict[str, Width] = field(default_factory=dict)
    reports: list[LayerReport] = field(default_factory=list)


def quantize(layers: dict[str, Layer], ranges: Mapping[str, Tensor], fixed: Mapping[str, Width]) -> Quantized:
    """Integer operations for the layers.

    ranges: the largest absolute value of each channel (C,) of every layer, seen in calibration. fixed: widths that
    coding or the images dictate (pixels, raw parameters). Raises ModelFileError if a bound cannot be met.
    """
    families = _find_families(layers, fixed)
    result = Quantized()
    for family in {id(each): each for each in families.values()}.values():
        width = family.fixed or _choose_width(family, ranges)
        result.widths |= dict.fromkeys(family.members, width)
    for name, layer in layers.items():
        inputs = [result.widths[source] for source in layer.inputs]
        own = layer.derive(inputs) or result.widths[name]
        result.widths[name] = own
        operation = layer.quantize(inputs, own)
        result.operations.append(operation)
        if isinstance(operation, Convolve):
            largest_sum = int(operation.sums(inputs[0].largest)[-1].max())
            result.reports.append(LayerReport(layer.source, largest_sum, len(operation.digits) + 1))
    return result


def _find_families(layers: dict[str, Layer], fixed: Mapping[str, Width]) -> dict[str, _Family]:
    """The family of each value whose width is not derived; ``parts`` are the values that a derived one consists of."""
    families: dict[str, _Family] = {}
    parts: dict[str, list[str]] = {}
    for name, layer in layers.items():
        parts[name] = [part for source in layer.inputs for part in parts[source]] if _is_derived(layer) else [name]
        if _is_derived(layer):
            continue
        family = families.setdefault(name, _Family([name], uniform=layer.uniform))
        for source in layer.inputs:
            if layer.shares_scale:
                if source not in families:
                    raise ModelFileError(f"{name}: {source} has no scale of its own")
                family = _join(families, families[source], family)
            for part in parts[source]:
                families[part].uniform |= layer.uniform
                families[part].fan_in = max(families[part].fan_in, layer.fan_in)
    for name, width in fixed.items():
        if name in families:
            families[name].fixed = width
    return families


def _is_derived(layer: Layer) -> bool:
    """Whether the width of the result follows from the inputs."""
    return type(layer).derive is not Layer.derive


def _join(families: dict[str, _Family], one: _Family, other: _Family) -> _Family:
    if one is not other:
        one.members += other.members
        one.uniform |= other.uniform
        one.fan_in = max(one.fan_in, other.fan_in)
        families |= dict.fromkeys(other.members, one)
    return one


def _choose_width(family: _Family, ranges: Mapping[str, Tensor]) -> Width:
    """The width that balances the rounding of activations against that of the weights that read them.

    The 2^29 is measured: integer-model / float ELBO of photo was 1.0008 with 2^27 and 1.0004 with 2^29.
    """
    bound = max(255, min(4095, int(math.sqrt(2**29 / family.fan_in))))
    largest = torch.stack([ranges[name].double() for name in family.members]).amax(0) * MARGIN
    floor = max(float(largest.max()) * 1e-3, 1e-6)
    largest = torch.full_like(largest, float(largest.max())) if family.uniform else largest
    return Width(largest.clamp_min(floor) / bound, bound)
