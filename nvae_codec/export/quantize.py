"""From steps on real numbers to operations on integers: scales, widths, and the proof that every sum is exact.

Each value has a scale a channel (real = integer · scale) and a bound (|integer| <= bound). Values that are added share
both. Weights are scaled, an output channel at a time, as far as the bound of the accumulator allows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.integer import operations as ops
from nvae_codec.integer.bounds import FLOAT32_BOUND, FLOAT64_BOUND
from nvae_codec.integer.width import Width

if TYPE_CHECKING:
    from nvae_codec.export.lower import Step

DERIVED = ("Concatenate", "Fold", "Average")
"""Steps whose result takes its width from what they read."""
WEIGHT_BOUND = 2**15 - 1
"""High, as a large weight (a latent that is passed on as it is) stands beside small ones in one row."""
COARSEST_WEIGHTS = 24
"""Where the accumulator's bound leaves the largest weight of a channel below this, the layer runs in float64."""
MARGIN = 1.1
"""Room above the largest value seen in calibration; what lies beyond is clamped."""


@dataclass
class _Family:
    """Values that share their scale: the two sides of a sum and its result, a value and its rectified form."""

    members: list[str] = field(default_factory=list)
    fixed: Width | None = None
    uniform: bool = False
    fan_in: int = 1


@dataclass
class LayerReport:
    """One convolution: its largest possible accumulator, and whether it needs float64."""

    source: str
    accumulator: int
    double: bool


def quantize(
    steps: list[Step],
    ranges: Mapping[str, Tensor],
    fixed: Mapping[str, Width],
    precise: Collection[str] = (),
) -> tuple[list[ops.Operation], dict[str, Width], list[LayerReport]]:
    """Integer operations, the width of every value, and a report a convolution.

    ranges: the largest absolute value a channel (C,) of every step, seen in calibration. fixed: widths that the coding
    or the images dictate (pixels, raw parameters). precise: sources of convolutions that run in float64 whatever their
    weights, so that what they read may have all the levels there are. Raises ModelFileError where a bound cannot be
    met.
    """
    families = _find_families(steps, fixed)
    _find_fan_in(families, steps, precise)
    widths: dict[str, Width] = {}
    for family in {id(f): f for f in families.values()}.values():
        width = family.fixed or _choose_width(family, ranges)
        widths |= dict.fromkeys(family.members, width)
    result: list[ops.Operation] = []
    reports: list[LayerReport] = []
    for step in steps:
        inputs = [widths[name] for name in step.inputs]
        if step.kind == "Concatenate":
            bounds = torch.cat([_bounds(w) for w in inputs])
            widths[step.name] = Width(torch.cat([w.scale for w in inputs]), int(bounds.max()))
        elif step.kind == "Fold":
            widths[step.name] = Width(inputs[0].scale.repeat_interleave(step.stride**2), inputs[0].bound)
        elif step.kind == "Average":
            widths[step.name] = Width(inputs[0].scale / 16, 16 * inputs[0].bound)
        result.append(_make(step, steps, widths, reports, precise))
    return result, widths, reports


def _find_families(steps: list[Step], fixed: Mapping[str, Width]) -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    parts = _find_parts(steps)
    for step in steps:
        if step.kind in DERIVED:
            continue
        family = families.setdefault(step.name, _Family([step.name]))
        if step.kind in ("Add", "Rectify", "Repeat", "Pool", "Interpolate"):
            for name in step.inputs:
                if name not in families:
                    raise ModelFileError(f"{step.name}: {step.kind} of a {name} that has no scale of its own")
                family = _join(families, families[name], family)
        if step.kind == "LookUp":
            for part in parts.get(step.inputs[0], step.inputs):
                families[part].uniform = True
        family.uniform = family.uniform or step.kind == "LookUp"
    for name, width in fixed.items():
        if name in families:
            families[name].fixed = width
    return families


def _find_parts(steps: list[Step]) -> dict[str, list[str]]:
    """Values that those of derived width are made of: what reads the one reads the others."""
    parts: dict[str, list[str]] = {}
    for step in steps:
        if step.kind in DERIVED:
            parts[step.name] = [part for name in step.inputs for part in parts.get(name, [name])]
    return parts


def _find_fan_in(families: dict[str, _Family], steps: list[Step], precise: Collection[str]) -> None:
    """The largest number of values that a float32 convolution sums up, for each family that one reads."""
    parts = _find_parts(steps)
    for step in steps:
        if step.kind == "Convolve" and step.source not in precise:
            for part in parts.get(step.inputs[0], step.inputs):
                families[part].fan_in = max(families[part].fan_in, step.fan_in)


def _join(families: dict[str, _Family], a: _Family, b: _Family) -> _Family:
    if a is b:
        return a
    a.members += b.members
    a.uniform = a.uniform or b.uniform
    for name in b.members:
        families[name] = a
    return a


def _choose_width(family: _Family, ranges: Mapping[str, Tensor]) -> Width:
    """As wide as balances the rounding of activations against that of the weights that read them.

    The 2^29 is measured: with 2^27 exact / float ELBO of photo was 1.0008 on photographs, with 2^29 1.0004.
    """
    bound = max(255, min(4095, int(math.sqrt(2**29 / family.fan_in))))
    largest = torch.stack([ranges[name].double() for name in family.members]).amax(0) * MARGIN
    floor = max(float(largest.max()) * 1e-3, 1e-6)
    largest = torch.full_like(largest, float(largest.max())) if family.uniform else largest
    return Width(largest.clamp_min(floor) / bound, bound)


def _bounds(width: Width) -> Tensor:
    return torch.full_like(width.scale, float(width.bound))


def _make(
    step: Step, steps: list[Step], widths: dict[str, Width], reports: list[LayerReport], precise: Collection[str]
) -> ops.Operation:
    name, inputs, own = step.name, tuple(step.inputs), widths[step.name]
    if step.kind == "Input":
        return ops.Input(name, inputs, len(own.scale), own.bound, step.stride)
    if step.kind == "Convolve":
        return _make_convolution(step, steps, widths, reports, double=step.source in precise)
    if step.kind == "Spread":
        value = (cast(Tensor, step.weight) / own.scale).round().clamp(-own.bound, own.bound)
        return ops.Spread(name, inputs, value.float())
    if step.kind == "SpreadMap":
        value = cast(Tensor, step.weight) / own.scale.view(-1, 1, 1)
        return ops.SpreadMap(name, inputs, value.round().clamp(-own.bound, own.bound).float())
    if step.kind == "Repeat":
        return ops.Repeat(name, inputs)
    if step.kind == "Pool":
        return ops.Pool(name, inputs)
    if step.kind == "Interpolate":
        return ops.Interpolate(name, inputs)
    if step.kind == "Add":
        return ops.Add(name, inputs, own.bound)
    if step.kind == "Rectify":
        return ops.Rectify(name, inputs)
    if step.kind == "Concatenate":
        return ops.Concatenate(name, inputs)
    if step.kind == "Fold":
        return ops.Fold(name, inputs, step.stride)
    if step.kind == "Average":
        return ops.Average(name, inputs)
    before = widths[step.inputs[0]]
    if step.kind == "LookUp":
        index = torch.arange(-before.bound, before.bound + 1, dtype=torch.double)
        assert step.function is not None
        table = (step.function(index * before.scale[0]) / own.scale[0]).round().clamp(-own.bound, own.bound)
        return ops.LookUp(name, inputs, table.to(torch.int32))
    gate = widths[step.inputs[1]]
    if before.bound * gate.bound >= FLOAT32_BOUND:
        raise ModelFileError(f"{name}: a product of {before.bound} and {gate.bound} is not exact in float32")
    return ops.Gate(name, inputs, (before.scale * gate.scale * step.gain / own.scale).float(), own.bound)


def _input_bounds(name: str, steps: list[Step], widths: dict[str, Width]) -> Tensor:
    """The bound of each channel of a value, tighter than its width's where it is a concatenation."""
    step = next(s for s in steps if s.name == name)
    if step.kind == "Concatenate":
        return torch.cat([_input_bounds(part, steps, widths) for part in step.inputs])
    return _bounds(widths[name])


def _make_convolution(
    step: Step, steps: list[Step], widths: dict[str, Width], reports: list[LayerReport], *, double: bool
) -> ops.Convolve:
    weight, bias, own = cast(Tensor, step.weight), cast(Tensor, step.bias), widths[step.name]
    bounds, scale = _input_bounds(step.inputs[0], steps, widths), widths[step.inputs[0]].scale
    per_group = weight.shape[1]
    first = torch.arange(len(weight)) // (len(weight) // step.groups) * per_group
    channel = first[:, None] + torch.arange(per_group)[None]  # (O, I / groups): which input each weight reads
    real = weight * scale[channel][:, :, None, None]
    reach = bounds[channel][:, :, None, None].expand_as(real)
    whole, offset, unit, total = _scale_weights(real, bias, reach, FLOAT32_BOUND)
    coarse = (whole.abs().amax((1, 2, 3)) < COARSEST_WEIGHTS) & (real.abs().amax((1, 2, 3)) > 0)
    double = double or bool(coarse.any())
    if double:
        whole, offset, unit, total = _scale_weights(real, bias, reach, FLOAT64_BOUND)
    out = own.scale.repeat_interleave(step.shuffle**2)
    reports.append(LayerReport(step.source, int(total.max()), double))
    return ops.Convolve(
        step.name, tuple(step.inputs), whole.float(), offset.float(), (unit / out).float(), step.stride, step.padding,
        step.groups, 0 if step.rectified else -own.bound, own.bound, step.shuffle, double,
    )  # fmt: skip


def _scale_weights(real: Tensor, bias: Tensor, reach: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole weights and biases, their unit an output channel, and the largest accumulator, proved below the limit."""
    room = limit - 1
    unit = torch.maximum(
        real.abs().amax((1, 2, 3)) / WEIGHT_BOUND, ((real.abs() * reach).sum((1, 2, 3)) + bias.abs()) / room
    ).clamp_min(1e-12)
    # a bias that float32 cannot hold as an integer would not be exact
    unit = torch.maximum(unit, bias.abs() / (FLOAT32_BOUND // 2))
    for _ in range(200):
        whole, offset = (real / unit.view(-1, 1, 1, 1)).round(), (bias / unit).round()
        total = (whole.abs() * reach).sum((1, 2, 3)) + offset.abs()
        beyond = total > room
        if not bool(beyond.any()):
            return whole, offset, unit, total
        unit = torch.where(beyond, unit * 1.01, unit)
    raise ModelFileError("a convolution cannot be scaled into the bound of its accumulator")
