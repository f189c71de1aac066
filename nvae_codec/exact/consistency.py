"""Whether the parts of a model file fit together, so that coding with it cannot stumble later.

The identity says that a file is what its maker wrote, not that it made sense.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.exact.model import FrozenModel, LatentGroup
from nvae_codec.exact.operations import Input
from nvae_codec.exact.tables import (
    FIXED,
    FLOOR,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_REACH,
    NORMAL_REACH,
    NORMAL_UNIT,
    PIXEL_RAW_BOUND,
    RAW_BOUND,
)
from nvae_codec.exact.trace import plane_name

LARGEST_LEVELS, LARGEST_COMPONENTS, LARGEST_STRIDE = 8, 16, 4096
BITS = range(9, 21)
"""The P of quantiles: every one of 256 values has one, and the stack takes no more than 20 bits."""


def check_consistency(model: FrozenModel, bounds: Mapping[str, Tensor]) -> None:
    """Raise ModelFileError with the field that is impossible. ``bounds``: of every step's channels, as proved."""
    _require(0 <= model.levels <= LARGEST_LEVELS, "levels")
    _require(1 <= model.components <= LARGEST_COMPONENTS, "components")
    _require(model.pixel_bits in BITS, "pixel_bits")
    _require(model.latent_bits in BITS, "latent_bits")
    _require(sorted(model.colour_order) == [0, 1, 2], "colour_order")
    _require(1 <= model.stride <= LARGEST_STRIDE and model.stride % 2**model.levels == 0, "stride")
    for index, group in enumerate(model.groups):
        _check_group(group, model, f"group {index}: ")
    _check_tables(model)
    _check_inputs(model)
    _check_outputs(model, bounds)


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise ModelFileError(f"its description cannot be: {field}")


def _check_group(group: LatentGroup, model: FrozenModel, where: str) -> None:
    _require(1 <= group.stride <= model.stride and model.stride % group.stride == 0, f"{where}stride")
    _require(group.channels >= 1, f"{where}channels")
    _require(list(group.kept) == sorted(set(group.kept)), f"{where}kept")
    _require(not group.kept or (group.kept[0] >= 0 and group.kept[-1] < group.channels), f"{where}kept")
    _require(len(group.steps) == len(group.kept), f"{where}steps")
    # every bin has a quantile: 2 * half + 1 of them
    least = NORMAL_REACH * 2 ** (FIXED + 2) >> model.latent_bits
    _require(all(least < step <= NORMAL_REACH * 2**FIXED for step in group.steps), f"{where}steps")
    _require(group.multiplier.shape == (group.channels,), f"{where}multiplier")
    _require(bool(np.isfinite(group.multiplier).all()), f"{where}multiplier")


def _check_tables(model: FrozenModel) -> None:
    tables = model.tables.arrays()
    lengths = {
        "mean": 2 * RAW_BOUND + 1, "sigma": 2 * RAW_BOUND + 1, "normal": 2 * NORMAL_REACH * NORMAL_UNIT + 1,
        "logistic": 2 * LOGISTIC_REACH * LOGISTIC_UNIT + 1, "inverse_scale": LOG_SCALE_HIGH - LOG_SCALE_LOW + 1,
        "softmax": LOGIT_REACH, "tanh": 2 * PIXEL_RAW_BOUND + 1,
    }  # fmt: skip
    for name, length in lengths.items():
        kind = np.float32 if name == "inverse_scale" else np.int32
        _require(tables[name].shape == (length,) and tables[name].dtype == kind, f"table {name}")
    _require(bool((model.tables.sigma > 0).all()), "table sigma")
    _require(bool(np.isfinite(model.tables.inverse_scale).all()), "table inverse_scale")
    softmax = model.tables.softmax
    _require(softmax[0] > 0 and softmax.min() >= 0 and softmax.max() <= 2**16, "table softmax")
    for name, top in (("normal", 2**model.latent_bits), ("logistic", 2**model.pixel_bits - FLOOR)):
        table = tables[name].astype(np.int64)
        _require(bool((np.diff(table) >= 0).all()) and table[0] >= 0 and table[-1] <= top, f"table {name}")


def _check_inputs(model: FrozenModel) -> None:
    """Names, channels, places and bounds are those of what the walk gives."""
    given = {"image": (3, 1, 255), "blank": (1, model.stride, 0)}
    given |= {f"z.{index}": (g.channels, g.stride, g.bound) for index, g in enumerate(model.groups)}
    given |= {plane_name(plane): (3, plane.stride, 255) for phase in model.phases for plane in phase.known}
    for operation in model.graph.operations.values():
        if isinstance(operation, Input):
            channels, pixels, bound = given.get(operation.name, (0, 0, 0))
            fits = (operation.channels, operation.pixels) == (channels, pixels) and operation.bound >= bound
            _require(fits, f"input {operation.name}")


def _check_outputs(model: FrozenModel, bounds: Mapping[str, Tensor]) -> None:
    """Every group and phase has its raw parameters, as many and as large as the tables expect."""
    expected = {f"pixels.{index}": (9 * model.components + 3, PIXEL_RAW_BOUND) for index in range(len(model.phases))}
    for index, group in enumerate(model.groups):
        expected[f"posterior.{index}"] = (2 * group.channels, RAW_BOUND)
        if group.has_prior:
            expected[f"prior.{index}"] = (2 * group.channels, RAW_BOUND)
    _require(set(model.graph.outputs) == set(expected), "outputs")
    for name, (channels, bound) in expected.items():
        step = model.graph.outputs[name]
        _require(step in bounds and len(bounds[step]) == channels and float(bounds[step].max()) <= bound, name)
