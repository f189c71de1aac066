"""Whether the parts of a model file fit together, so that coding with it cannot fail later.

The identity proves that a file is what its author wrote, not that it makes sense.
"""

from collections.abc import Mapping

import numpy as np

from nvae_codec import ports
from nvae_codec.errors import ModelFileError
from nvae_codec.integer.causality import check_half
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.integer.operation import Bounds
from nvae_codec.integer.operations import Convolve
from nvae_codec.likelihoods.likelihood import find_coded
from nvae_codec.likelihoods.registry import LIKELIHOODS
from nvae_codec.likelihoods.tables import FIXED, NORMAL_REACH, NORMAL_UNIT, RAW_BOUND, SHIFT_BOUND, is_cdf, is_table

LARGEST_SCALES, LARGEST_COMPONENTS, LARGEST_STRIDE = 8, 16, 4096
LARGEST_PADDING, LARGEST_SIDE, MOST_HALVES = 64, 65536, 8
BITS = range(9, 21)
"""Frequencies sum to 2^bits: each of 256 values needs one, and the stack takes no more than 20 bits."""


def check_consistency(model: IntegerModel, bounds: Mapping[str, Bounds]) -> None:
    """Raise ModelFileError with the name of the field that is impossible. ``bounds``: of every operation, as proved."""
    _require(0 <= model.scales <= LARGEST_SCALES, "scales")
    _require(1 <= model.components <= LARGEST_COMPONENTS, "components")
    _require(model.pixel_bits in BITS, "pixel_bits")
    _require(model.latent_bits in BITS, "latent_bits")
    _require(1 <= model.value_bits <= 8, "value_bits")
    facts = LIKELIHOODS[model.likelihood]
    _require(model.value_bits == 1 if facts.binary else model.value_bits in facts.bits, "value_bits")
    _require(model.channels in facts.channels, "channels")
    _require(sorted(model.colour_order) == list(range(model.channels)), "colour_order")
    _require(0 <= model.padding <= LARGEST_PADDING and not (model.padding and model.scales), "padding")
    _require(0 <= model.side <= LARGEST_SIDE, "side")
    _require(1 <= model.stride <= LARGEST_STRIDE and model.stride % 2**model.scales == 0, "stride")
    for index, group in enumerate(model.groups):
        _check_group(group, model, f"group {index}: ")
    _check_tables(model)
    _check_inputs(model)
    _check_outputs(model, bounds)
    _check_adaptable(model)
    for index, group in enumerate(model.groups):
        for half in range(len(group.flow_bounds)):
            check_half(model.graph, index, half, group.channels)


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise ModelFileError(f"its description cannot be: {field}")


def _check_group(group: LatentGroup, model: IntegerModel, where: str) -> None:
    _require(1 <= group.stride <= model.stride and model.stride % group.stride == 0, f"{where}stride")
    _require(group.channels >= 1, f"{where}channels")
    _require(list(group.active) == sorted(set(group.active)), f"{where}active")
    _require(not group.active or (group.active[0] >= 0 and group.active[-1] < group.channels), f"{where}active")
    _require(group.bound >= 0, f"{where}bound")
    _require(len(group.bin_widths) == len(group.active), f"{where}bin_widths")
    # every bin has a frequency: 2 * half + 1 of them
    least = NORMAL_REACH * 2 ** (FIXED + 2) >> model.latent_bits
    _require(all(least < width <= NORMAL_REACH * 2**FIXED for width in group.bin_widths), f"{where}bin_widths")
    _require(1 <= group.coarse <= 64, f"{where}coarse")
    _require(all(width * group.coarse <= NORMAL_REACH * 2**FIXED for width in group.bin_widths), f"{where}coarse")
    _require(group.multiplier.shape == (group.channels,), f"{where}multiplier")
    _require(bool(np.isfinite(group.multiplier).all()), f"{where}multiplier")
    halves = len(group.flow_bounds)
    _require(halves <= MOST_HALVES and all(bound >= 0 for bound in group.flow_bounds), f"{where}flow_bounds")
    _require(not halves or group.flow_multipliers.shape == (halves, group.channels), f"{where}flow_multipliers")
    _require(bool(np.isfinite(group.flow_multipliers).all()), f"{where}flow_multipliers")


def _check_tables(model: IntegerModel) -> None:
    tables = model.tables
    _require(is_table(tables.mean, 2 * RAW_BOUND + 1), "table mean")
    _require(is_table(tables.sigma, 2 * RAW_BOUND + 1) and bool((tables.sigma > 0).all()), "table sigma")
    _require(is_table(tables.normal, 2 * NORMAL_REACH * NORMAL_UNIT + 1), "table normal")
    _require(is_cdf(tables.normal, 2**model.latent_bits), "table normal")
    for name in find_coded(model.likelihood).table_faults(model):
        _require(False, f"table {name}")


def _check_inputs(model: IntegerModel) -> None:
    """Names, channels, strides and bounds are those of what coding gives the network."""
    channels, top = model.channels, model.top_value
    given = {ports.IMAGE: (channels, 1, top), ports.BLANK: (1, model.stride, 0)}
    for index, group in enumerate(model.groups):
        given[ports.z(index)] = (group.channels, group.stride, group.bound)
        for half, bound in enumerate(group.flow_bounds):
            given[ports.flow(index, half)] = (group.channels, group.stride, bound)
    given |= {plane.name: (channels, plane.stride, top) for phase in model.phases for plane in phase.known}
    for name, operation in model.graph.inputs.items():
        expected, stride, largest = given.get(name, (0, 0, 0))
        fits = (operation.channels, operation.stride) == (expected, stride) and operation.largest >= largest
        _require(fits, f"input {name}")


LARGEST_CHANGE, LARGEST_SHIFT = 2**11, 60


def _check_adaptable(model: IntegerModel) -> None:
    """Directions fit their convolutions, and their products with any coordinates fit 64 bits."""
    names = [layer.operation for layer in model.adaptable]
    _require(len(set(names)) == len(names), "adaptable")
    for layer in model.adaptable:
        operation = model.graph.operations.get(layer.operation)
        if not isinstance(operation, Convolve):
            raise ModelFileError(f"its description cannot be: adaptable {layer.operation}")
        columns = operation.weight[0].numel() + 1
        fits = layer.gains.shape == (len(operation.weight),) and layer.directions.ndim == 2
        _require(fits and layer.directions.shape[1] == columns, f"{layer.operation}: directions")
        _require(1 <= len(layer.directions) <= columns, f"{layer.operation}: directions")
        _require(isinstance(layer.shift, int) and 0 <= layer.shift <= LARGEST_SHIFT - 20, f"{layer.operation}: shift")
        reach = float(np.abs(layer.directions).sum(0).max()) * LARGEST_CHANGE * float(np.abs(layer.gains).max())
        _require(8 * reach < 2**62, f"{layer.operation}: gains")


def _check_outputs(model: IntegerModel, bounds: Mapping[str, Bounds]) -> None:
    """Every group and phase has its raw parameters, as many and as large as the tables expect."""
    likelihood = find_coded(model.likelihood)
    count, largest = likelihood.raw_channels(model.channels, model.components), likelihood.raw_bound
    expected = {
        ports.pixels(index, expert): (count, phase.plane.stride, largest)
        for index, phase in enumerate(model.phases)
        for expert in range(model.experts)
    }
    for index, group in enumerate(model.groups):
        expected[ports.posterior(index)] = (2 * group.channels, group.stride, RAW_BOUND)
        if group.has_prior:
            expected[ports.prior(index)] = (2 * group.channels, group.stride, RAW_BOUND)
        for half in range(len(group.flow_bounds)):
            expected[ports.shift(index, half)] = (group.channels, group.stride, SHIFT_BOUND)
    _require(set(model.graph.outputs) == set(expected), "outputs")
    for name, (channels, stride, largest) in expected.items():
        found = bounds[model.graph.outputs[name]]
        fits = len(found.largest) == channels and found.stride == stride and float(found.largest.max()) <= largest
        _require(fits, f"output {name}")
