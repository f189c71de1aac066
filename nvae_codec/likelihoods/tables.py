"""Distributions as tables of integers, made once when a model is frozen and kept in its file.

The machine's own exp, tanh and erf differ in their last bits from library to library, so they are called here, at
freezing, and never when a file is coded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

RAW_UNIT, RAW_BOUND = 256, 6143
"""Raw parameters of latents: units of 1/256, in [-6143, 6143]; beyond +-20 the soft clamp is flat."""
FIXED = 12
"""Means of latents and positions on their grids are in units of 2^-12."""
SHIFT_BOUND = 2**18 - 1
"""What half a flow takes off z: units of 2^-12, up to 64."""
SIGMA_FIXED = 16
"""Sigmas of latents are in units of 2^-16."""
NORMAL_UNIT, NORMAL_REACH = 256, 8
"""The table of Φ has steps of 1/256 up to 8 sigmas on both sides."""

LEVEL_UNIT = 64
"""Means of pixels are in units of 1/64 of an 8-bit level: 1/512 of a level of 5 bits."""
LOG_SCALE_UNIT, LOG_SCALE_LOW, LOG_SCALE_HIGH = 128, -896, 320
"""Log scales of pixels: units of 1/128, -7 to 2.5 for an image in [-1, 1]."""
LOGIT_UNIT, LOGIT_REACH = 64, 1024
"""Logits: units of 1/64; a component 16 nats below the best has no weight."""
COLOUR_UNIT = 1024
"""Colour coefficients: units of 1/1024."""
PIXEL_RAW_BOUND = 16383
LOGISTIC_UNIT, LOGISTIC_REACH = 1024, 12
"""The table of the logistic function has steps of 1/1024 up to 12 on both sides."""
NATS_UNIT = 2048
"""Logarithms of a component's probability: units of 1/2048 nat."""
BERNOULLI_UNIT, BERNOULLI_BOUND = 256, 4095
"""Logits of a Bernoulli: units of 1/256, in [-4095, 4095]."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables of every model: those of its latents. Those of its pixels depend on the likelihood.

    Indices are raw integers plus half the length unless said otherwise. mean: 5 tanh(raw / 5), 2^-12.
    sigma: exp(5 tanh(raw / 5)) + 0.01, 2^-16. normal: Φ, 2^latent_bits.
    """

    mean: Int32
    sigma: Int32
    normal: Int32

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The tables by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, eq=False)
class MixtureTables(Tables):
    """Of a colourwise mixture of logistics.

    logistic: the logistic function, 2^pixel_bits less a quantile a value. inverse_scale: float32, by log scale from
    -896: what turns units of means into steps of the logistic table. softmax: exp(-i / 64), 2^16. tanh: colour
    coefficients, 1/1024.
    """

    logistic: Int32
    inverse_scale: NDArray[np.float32]
    softmax: Int32
    tanh: Int32


@dataclass(frozen=True, eq=False)
class JointTables(MixtureTables):
    """Of a joint mixture, whose components gain or lose weight with each colour.

    The logistic mass between a and b is 2 sinh(h) / (4 cosh(a / 2) cosh(b / 2)), h = (b - a) / 2 half a value in
    scales. log_sinh: ln(2 sinh h) by log scale from -896, 1/2048. softplus: ln(1 + exp(-i / 1024)), 1/2048, i from 0
    to the logistic table's reach.
    """

    log_sinh: Int32
    softplus: Int32


@dataclass(frozen=True, eq=False)
class BernoulliTables(Tables):
    """Of pixels that are 0 or 1. zero: quantiles of 0 by the logit of 1, 1 to 2^pixel_bits - 1."""

    zero: Int32


TABLES: dict[str, type[Tables]] = {"colourwise": MixtureTables, "joint": JointTables, "bernoulli": BernoulliTables}
"""The tables of each kind of likelihood."""


def make_tables(kind: str, pixel_bits: int, latent_bits: int, value_bits: int = 8) -> Tables:
    """The tables of a model of a kind of likelihood, whose quantiles and pixel values have so many bits."""
    raw = np.arange(-RAW_BOUND, RAW_BOUND + 1) / RAW_UNIT
    soft = 5 * np.tanh(raw / 5)
    steps = np.arange(-NORMAL_REACH * NORMAL_UNIT, NORMAL_REACH * NORMAL_UNIT + 1) / NORMAL_UNIT
    phi = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in steps])
    latents: dict[str, Any] = {
        "mean": _whole(soft * 2**FIXED),
        "sigma": _whole((np.exp(soft) + 0.01) * 2**SIGMA_FIXED),
        "normal": _whole(phi * 2**latent_bits),
    }
    if kind == "bernoulli":
        logit = np.arange(-BERNOULLI_BOUND, BERNOULLI_BOUND + 1) / BERNOULLI_UNIT
        zero = _whole(2**pixel_bits / (1 + np.exp(logit)))
        return BernoulliTables(**latents, zero=np.clip(zero, 1, 2**pixel_bits - 1))
    log_scale = np.arange(LOG_SCALE_LOW, LOG_SCALE_HIGH + 1) / LOG_SCALE_UNIT
    steps = np.arange(-LOGISTIC_REACH * LOGISTIC_UNIT, LOGISTIC_REACH * LOGISTIC_UNIT + 1) / LOGISTIC_UNIT
    top = 2**pixel_bits - 2**value_bits
    logistic = _whole(top / (1 + np.exp(-steps)))
    # the ends are exact, so that a saturated component gives all or nothing
    logistic[0], logistic[-1] = 0, top
    inverse = LOGISTIC_UNIT / (half_range(value_bits) * np.exp(log_scale))
    colour = np.arange(-PIXEL_RAW_BOUND, PIXEL_RAW_BOUND + 1) / COLOUR_UNIT
    mixture: dict[str, Any] = {
        "logistic": logistic,
        "inverse_scale": inverse.astype(np.float32),
        "softmax": _whole(np.exp(-np.arange(LOGIT_REACH) / LOGIT_UNIT) * 2**16),
        "tanh": _whole(np.tanh(colour) * COLOUR_UNIT),
    }
    if kind == "colourwise":
        return MixtureTables(**latents, **mixture)
    half_value = np.exp(-log_scale) / (2**value_bits - 1)
    return JointTables(
        **latents,
        **mixture,
        log_sinh=_whole(np.log(2 * np.sinh(half_value)) * NATS_UNIT),
        softplus=_whole(np.log1p(np.exp(-np.arange(LOGISTIC_REACH * LOGISTIC_UNIT + 1) / LOGISTIC_UNIT)) * NATS_UNIT),
    )


def level_unit(value_bits: int) -> int:
    """Units of means in a level of so many bits: the range of values is about as many for any."""
    return LEVEL_UNIT << (8 - value_bits)


def half_range(value_bits: int) -> float:
    """Units of means from the middle of the range to an end of it: 1 in an image in [-1, 1]."""
    return float(level_unit(value_bits) * (2**value_bits - 1) / 2)


def _whole(values: NDArray[np.float64]) -> Int32:
    return np.rint(values).astype(np.int32)
