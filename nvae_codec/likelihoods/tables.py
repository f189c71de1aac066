"""Distributions as tables of integers, computed once when a model is exported and kept in its file.

The machine's own exp, tanh and erf differ in their last bits from library to library, so they are called here, at
export, and never when a file is coded. This file has the tables of latents; those of pixels are with each likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

SOFT_CLAMP, SIGMA_FLOOR = 5.0, 0.01
"""Raw means and log sigmas pass 5 tanh(x / 5), and sigmas get a floor: NVAE's code, distributions.py."""
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


@dataclass(frozen=True, eq=False)
class LatentTables:
    """Tables of the latents. Indices are raw integers plus half the length.

    mean: 5 tanh(raw / 5), 2^-12. sigma: exp(5 tanh(raw / 5)) + 0.01, 2^-16. normal: Φ, 2^latent_bits.
    """

    mean: Int32
    sigma: Int32
    normal: Int32

    @classmethod
    def make(cls, latent_bits: int) -> LatentTables:
        """The tables for intervals of 2^latent_bits."""
        soft = SOFT_CLAMP * np.tanh(np.arange(-RAW_BOUND, RAW_BOUND + 1) / RAW_UNIT / SOFT_CLAMP)
        steps = np.arange(-NORMAL_REACH * NORMAL_UNIT, NORMAL_REACH * NORMAL_UNIT + 1) / NORMAL_UNIT
        phi = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in steps])
        return cls(
            round_table(soft * 2**FIXED),
            round_table((np.exp(soft) + SIGMA_FLOOR) * 2**SIGMA_FIXED),
            round_table(phi * 2**latent_bits),
        )


@dataclass(frozen=True, eq=False)
class Tables(LatentTables):
    """All tables of a model; each likelihood adds its own."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The tables by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def round_table(values: NDArray[np.float64]) -> Int32:
    """Real numbers rounded to int32."""
    return np.rint(values).astype(np.int32)


def is_table(table: NDArray[np.generic], length: int, kind: type[np.generic] = np.int32) -> bool:
    """Whether a table has this length and dtype."""
    return table.shape == (length,) and table.dtype == kind


def is_cdf(table: Int32, total: int) -> bool:
    """Whether a table never falls, from 0 or more to at most ``total``."""
    return bool((np.diff(table.astype(np.int64)) >= 0).all()) and table[0] >= 0 and table[-1] <= total
