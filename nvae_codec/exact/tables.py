"""Distributions as tables of whole numbers, made once when a model is frozen and kept in its file.

The machine's own exp, tanh and erf differ in their last bits from library to library, so they are called here, at
freezing, and never when a file is coded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

RAW_UNIT, RAW_BOUND = 256, 6143
"""Raw parameters of latents: units of 1/256, in [-6143, 6143]; beyond +-20 the soft clamp is flat."""
FIXED = 12
"""Means of latents and positions on their grids are in units of 2^-12."""
SIGMA_FIXED = 16
"""Sigmas of latents are in units of 2^-16."""
NORMAL_UNIT, NORMAL_REACH = 256, 8
"""The table of Φ has steps of 1/256 up to 8 sigmas on both sides."""

LEVEL_UNIT = 64
"""Means of pixels are in units of 1/64 level."""
LOG_SCALE_UNIT, LOG_SCALE_LOW, LOG_SCALE_HIGH = 128, -896, 320
"""Log scales of pixels: units of 1/128, -7 to 2.5 for a picture in [-1, 1]."""
LOGIT_UNIT, LOGIT_REACH = 64, 1024
"""Logits: units of 1/64; a component 16 nats below the best has no weight."""
COLOUR_UNIT = 1024
"""Colour coefficients: units of 1/1024."""
PIXEL_RAW_BOUND = 16383
LOGISTIC_UNIT, LOGISTIC_REACH = 1024, 12
"""The table of the logistic function has steps of 1/1024 up to 12 on both sides."""
FLOOR = 256
"""Quantiles given away so that each of 256 pixel values has one at least."""


@dataclass(frozen=True)
class Tables:
    """All tables of a model; indices are raw integers plus half the length unless said otherwise.

    mean: 5 tanh(raw / 5), 2^-12. sigma: exp(5 tanh(raw / 5)) + 0.01, 2^-16. normal: Φ, 2^latent_bits.
    logistic: the logistic function, 2^pixel_bits - 256. inverse_scale: float32, by log scale from -896: what turns
    1/64 levels into steps of the logistic table. softmax: exp(-i / 64), 2^16. tanh: colour coefficients, 1/1024.
    """

    mean: Int32
    sigma: Int32
    normal: Int32
    logistic: Int32
    inverse_scale: NDArray[np.float32]
    softmax: Int32
    tanh: Int32

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The tables by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def make_tables(pixel_bits: int, latent_bits: int) -> Tables:
    """The tables of a model whose quantiles have so many bits."""
    raw = np.arange(-RAW_BOUND, RAW_BOUND + 1) / RAW_UNIT
    soft = 5 * np.tanh(raw / 5)
    steps = np.arange(-NORMAL_REACH * NORMAL_UNIT, NORMAL_REACH * NORMAL_UNIT + 1) / NORMAL_UNIT
    phi = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in steps])
    steps = np.arange(-LOGISTIC_REACH * LOGISTIC_UNIT, LOGISTIC_REACH * LOGISTIC_UNIT + 1) / LOGISTIC_UNIT
    logistic = np.rint((2**pixel_bits - FLOOR) / (1 + np.exp(-steps)))
    # the ends are exact, so that a saturated component gives all or nothing
    logistic[0], logistic[-1] = 0, 2**pixel_bits - FLOOR
    log_scale = np.arange(LOG_SCALE_LOW, LOG_SCALE_HIGH + 1) / LOG_SCALE_UNIT
    inverse = LOGISTIC_UNIT / (LEVEL_UNIT * 127.5 * np.exp(log_scale))
    colour = np.arange(-PIXEL_RAW_BOUND, PIXEL_RAW_BOUND + 1) / COLOUR_UNIT
    return Tables(
        mean=_whole(soft * 2**FIXED),
        sigma=_whole((np.exp(soft) + 0.01) * 2**SIGMA_FIXED),
        normal=_whole(phi * 2**latent_bits),
        logistic=logistic.astype(np.int32),
        inverse_scale=inverse.astype(np.float32),
        softmax=_whole(np.exp(-np.arange(LOGIT_REACH) / LOGIT_UNIT) * 2**16),
        tanh=_whole(np.tanh(colour) * COLOUR_UNIT),
    )


def _whole(values: NDArray[np.float64]) -> Int32:
    return np.rint(values).astype(np.int32)
