"""Whether the parts of a model file fit together, so that coding with it cannot stumble later.

The identity says that a file is what its maker wrote, not that it made sense.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.causality import check_half
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.integer.operations import Input
from nvae_codec.likelihoods.tables import (
    BERNOULLI_BOUND,
    FIXED,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_REACH,
    NORMAL_REACH,
    NORMAL_UNIT,
    PIXEL_RAW_BOUND,
    RAW_BOUND,
    SHIFT_BOUND,
    BernoulliTables,
    JointTables,
    MixtureTables,
)
from nvae_codec.likelihoods.units import count_raw, raw_bound
from nvae_codec.polyphase import pixels_output

LARGEST_LEVELS, LARGEST_COMPONENTS, LARGEST_STRIDE = 8, 16, 4096
LARGEST_PADDING, LARGEST_SIDE, MOST_HALVES = 64, 65536, 8
BITS = range(9, 21)
"""The P of quantiles: every one of 256 values has one, and the stack takes no more than 20 bits."""


def check_consistency(model: IntegerModel, bounds: Mapping[str, Tensor]) -> None:
    """Raise ModelFileError with the field that is impossible. ``bounds``: of every step's channels, as proved."""
    _require(0 <= model.levels <= LARGEST_LEVELS, "levels")
    _require(1 <= model.components <= LARGEST_COMPONENTS, "components")
    _require(model.pixel_bits in BITS, "pixel_bits")
    _require(model.latent_bits in BITS, "latent_bits")
    _require(1 <= model.value_bits <= 8, "value_bits")
    _require(model.likelihood == "bernoulli" or model.channels == 3, "channels")
    _require(model.likelihood != "bernoulli" or model.value_bits == 1, "value_bits")
    _require(model.likelihood != "colourwise" or model.value_bits == 8, "value_bits")
    _require(model.channels in (1, 3) and sorted(model.colour_order) == list(range(model.channels)), "colour_order")
    _require(0 <= model.padding <= LARGEST_PADDING and not (model.padding and model.levels), "padding")
    _require(0 <= model.side <= LARGEST_SIDE, "side")
    _require(1 <= model.stride <= LARGEST_STRIDE and model.stride % 2**model.levels == 0, "stride")
    for index, group in enumerate(model.groups):
        _check_group(group, model, f"group {index}: ")
    _check_tables(model)
    _check_inputs(model)
    _check_outputs(model, bounds)
    for index, group in enumerate(model.groups):
        for half in range(len(group.flow_bounds)):
            check_half(model.graph, index, half, group.channels)


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise ModelFileError(f"its description cannot be: {field}")


def _check_group(group: LatentGroup, model: IntegerModel, where: str) -> None:
    _require(1 <= group.stride <= model.stride and model.stride % group.stride == 0, f"{where}stride")
    _require(group.channels >= 1, f"{where}channels")
    _require(list(group.kept) == sorted(set(group.kept)), f"{where}kept")
    _require(not group.kept or (group.kept[0] >= 0 and group.kept[-1] < group.channels), f"{where}kept")
    _require(len(group.steps) == len(group.kept), f"{where}steps")
    # every bin has a quantile: 2 * half + 1 of them
    least = NORMAL_REACH * 2 ** (FIXED + 2) >> model.latent_bits
    _require(all(least < step <= NORMAL_REACH * 2**FIXED for step in group.steps), f"{where}steps")
    _require(1 <= group.coarse <= 64, f"{where}coarse")
    _require(all(step * group.coarse <= NORMAL_REACH * 2**FIXED for step in group.steps), f"{where}coarse")
    _require(group.multiplier.shape == (group.channels,), f"{where}multiplier")
    _require(bool(np.isfinite(group.multiplier).all()), f"{where}multiplier")
    halves = len(group.flow_bounds)
    _require(halves <= MOST_HALVES and all(bound >= 0 for bound in group.flow_bounds), f"{where}flow_bounds")
    _require(not halves or group.flow_multipliers.shape == (halves, group.channels), f"{where}flow_multipliers")
    _require(bool(np.isfinite(group.flow_multipliers).all()), f"{where}flow_multipliers")


def _check_tables(model: IntegerModel) -> None:
    tables = model.tables
    _check_table(model, "mean", 2 * RAW_BOUND + 1)
    _check_table(model, "sigma", 2 * RAW_BOUND + 1)
    _check_table(model, "normal", 2 * NORMAL_REACH * NORMAL_UNIT + 1)
    _require(bool((tables.sigma > 0).all()), "table sigma")
    _check_rising(tables.normal, 0, 2**model.latent_bits, "normal")
    if isinstance(tables, BernoulliTables):
        _check_table(model, "zero", 2 * BERNOULLI_BOUND + 1)
        _require(tables.zero.min() >= 1 and tables.zero.max() < 2**model.pixel_bits, "table zero")
    if isinstance(tables, MixtureTables):
        scales = LOG_SCALE_HIGH - LOG_SCALE_LOW + 1
        _check_table(model, "logistic", 2 * LOGISTIC_REACH * LOGISTIC_UNIT + 1)
        _check_table(model, "inverse_scale", scales, np.float32)
        _check_table(model, "softmax", LOGIT_REACH)
        _check_table(model, "tanh", 2 * PIXEL_RAW_BOUND + 1)
        _require(bool(np.isfinite(tables.inverse_scale).all()), "table inverse_scale")
        softmax = tables.softmax
        _require(softmax[0] > 0 and softmax.min() >= 0 and softmax.max() <= 2**16, "table softmax")
        _check_rising(tables.logistic, 0, 2**model.pixel_bits - 2**model.value_bits, "logistic")
        if isinstance(tables, JointTables):
            _check_table(model, "log_sinh", scales)
            _check_table(model, "softplus", LOGISTIC_REACH * LOGISTIC_UNIT + 1)
            # logarithms that no sum of a few overflows
            _require(max(abs(tables.log_sinh).max(), abs(tables.softplus).max()) < 2**24, "table log_sinh, softplus")


def _check_table(model: IntegerModel, name: str, length: int, kind: type[np.generic] = np.int32) -> None:
    table = model.tables.arrays()[name]
    _require(table.shape == (length,) and table.dtype == kind, f"table {name}")


def _check_rising(table: NDArray[np.int32], low: int, high: int, name: str) -> None:
    _require(
        bool((np.diff(table.astype(np.int64)) >= 0).all()) and table[0] >= low and table[-1] <= high, f"table {name}"
    )


def _check_inputs(model: IntegerModel) -> None:
    """Names, channels, places and bounds are those of what the walk gives."""
    channels, top = model.channels, model.top_value
    given = {"image": (channels, 1, top), "blank": (1, model.stride, 0)}
    for index, group in enumerate(model.groups):
        given[f"z.{index}"] = (group.channels, group.stride, group.bound)
        for half, bound in enumerate(group.flow_bounds):
            given[f"flow.{index}.{half}"] = (group.channels, group.stride, bound)
    given |= {plane.name: (channels, plane.stride, top) for phase in model.phases for plane in phase.known}
    for operation in model.graph.operations.values():
        if isinstance(operation, Input):
            expected, pixels, bound = given.get(operation.name, (0, 0, 0))
            fits = (operation.channels, operation.pixels) == (expected, pixels) and operation.bound >= bound
            _require(fits, f"input {operation.name}")


def _check_outputs(model: IntegerModel, bounds: Mapping[str, Tensor]) -> None:
    """Every group and phase has its raw parameters, as many and as large as the tables expect."""
    pixels = count_raw(model.likelihood, model.channels, model.components), raw_bound(model.likelihood)
    phases = range(len(model.phases))
    expected = {pixels_output(index, expert): pixels for index in phases for expert in range(model.experts)}
    for index, group in enumerate(model.groups):
        expected[f"posterior.{index}"] = (2 * group.channels, RAW_BOUND)
        if group.has_prior:
            expected[f"prior.{index}"] = (2 * group.channels, RAW_BOUND)
        for half in range(len(group.flow_bounds)):
            expected[f"shift.{index}.{half}"] = (group.channels, SHIFT_BOUND)
    _require(set(model.graph.outputs) == set(expected), "outputs")
    for name, (channels, bound) in expected.items():
        step = model.graph.outputs[name]
        _require(step in bounds and len(bounds[step]) == channels and float(bounds[step].max()) <= bound, name)
