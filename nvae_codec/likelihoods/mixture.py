"""Mixtures of logistics on integers: their tables, and the distribution of one colour of one phase.

F(k) = (Σ_j w_j · T[(U k - U/2 - μ_j) · inverse_scale_j] >> S) + k, F(0) = 0, F(V) = 2^bits: the slots below value k
of V, U units a value (64 of 256 values). The weights sum to 2^S; T is the logistic function; the k gives every value a
slot. Arrays are component-major, (K, n), which is what makes them fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.likelihood import Float64
from nvae_codec.likelihoods.tables import Tables, is_cdf, is_table, round_table

LEVEL_UNIT = 64
"""Means are in units of 1/64 of an 8-bit level: 1/512 of a level of 5 bits."""
LOG_SCALE_UNIT, LOG_SCALE_LOW, LOG_SCALE_HIGH = 128, -896, 320
"""Log scales: units of 1/128, from -7 to 2.5 for an image in [-1, 1]."""
LOG_SCALE_RANGE = LOG_SCALE_LOW / LOG_SCALE_UNIT, LOG_SCALE_HIGH / LOG_SCALE_UNIT
LOGIT_UNIT, LOGIT_REACH = 64, 1024
"""Logits: units of 1/64; a component 16 nats below the best has no weight."""
COLOUR_UNIT = 1024
"""Colour coefficients: units of 1/1024."""
PIXEL_RAW_BOUND = 16383
LOGISTIC_UNIT, LOGISTIC_REACH = 1024, 12
"""The table of the logistic function has steps of 1/1024 up to 12 on both sides."""
SCALES = LOG_SCALE_HIGH - LOG_SCALE_LOW + 1


@dataclass(frozen=True, eq=False)
class MixtureTables(Tables):
    """Indices are raw integers plus half the length unless said otherwise.

    logistic: the logistic function, 2^pixel_bits less one slot for each value. inverse_scale: float32, by log scale
    from -896: what turns units of means into steps of the logistic table. softmax: exp(-i / 64), 2^16. tanh: colour
    coefficients, 1/1024.
    """

    logistic: Int32
    inverse_scale: NDArray[np.float32]
    softmax: Int32
    tanh: Int32


def make_mixture_tables(pixel_bits: int, value_bits: int) -> dict[str, Any]:
    """The fields of :class:`MixtureTables`."""
    steps = np.arange(-LOGISTIC_REACH * LOGISTIC_UNIT, LOGISTIC_REACH * LOGISTIC_UNIT + 1) / LOGISTIC_UNIT
    top = 2**pixel_bits - 2**value_bits
    logistic = round_table(top / (1 + np.exp(-steps)))
    # the ends are exact, so that a saturated component gives all or nothing
    logistic[0], logistic[-1] = 0, top
    colour = np.arange(-PIXEL_RAW_BOUND, PIXEL_RAW_BOUND + 1) / COLOUR_UNIT
    return {
        "logistic": logistic,
        "inverse_scale": (LOGISTIC_UNIT / (half_range(value_bits) * np.exp(log_scales()))).astype(np.float32),
        "softmax": round_table(np.exp(-np.arange(LOGIT_REACH) / LOGIT_UNIT) * 2**16),
        "tanh": round_table(np.tanh(colour) * COLOUR_UNIT),
    }


def mixture_faults(model: IntegerModel) -> Iterator[str]:
    """The names of tables of a mixture that are impossible."""
    tables = cast(MixtureTables, model.tables)
    top, softmax = 2**model.pixel_bits - 2**model.value_bits, tables.softmax
    if not is_table(tables.logistic, 2 * LOGISTIC_REACH * LOGISTIC_UNIT + 1) or not is_cdf(tables.logistic, top):
        yield "logistic"
    if not is_table(tables.inverse_scale, SCALES, np.float32) or not np.isfinite(tables.inverse_scale).all():
        yield "inverse_scale"
    if not is_table(softmax, LOGIT_REACH) or softmax[0] <= 0 or softmax.min() < 0 or softmax.max() > 2**16:
        yield "softmax"
    if not is_table(tables.tanh, 2 * PIXEL_RAW_BOUND + 1):
        yield "tanh"


def log_scales() -> Float64:
    """The log scale of each index of a table by log scale."""
    scales: Float64 = np.arange(LOG_SCALE_LOW, LOG_SCALE_HIGH + 1) / LOG_SCALE_UNIT
    return scales


def level_unit(value_bits: int) -> int:
    """Units of means in a level of so many bits: the range of values has about as many for any."""
    return LEVEL_UNIT << (8 - value_bits)


def half_range(value_bits: int) -> float:
    """Units of means from the middle of the range to an end of it: 1 in an image in [-1, 1]."""
    return float(level_unit(value_bits) * (2**value_bits - 1) / 2)


TOGETHER = 4096
"""Values of components that are computed at once, at least those of one: few calls for few, the cache for many."""


class Mixture:
    """The distribution of n values: centres and inverse scales float32, weights int32, each (K, n)."""

    def __init__(self, model: IntegerModel, mean: Int32, log_scale: Int32, logit: Int32, centre: Int32) -> None:
        """Raw parameters (K, n), and what is added to the means, (n,) or (K, n), in the same units."""
        tables = cast(MixtureTables, model.tables)
        self.bits, self.value_bits = model.pixel_bits, model.value_bits
        self.shift, self.count = 30 - self.bits, mean.shape[1]
        self.logistic, self.unit = tables.logistic, level_unit(model.value_bits)
        # half a level is part of the centre: the edge below value k lies at U k - (centre + U / 2)
        self.centre = np.add(mean, centre + self.unit // 2, dtype=np.int32).astype(np.float32)
        index = np.clip(log_scale, LOG_SCALE_LOW, LOG_SCALE_HIGH) - LOG_SCALE_LOW
        self.inverse = np.take(tables.inverse_scale, index)
        self.weight = mixture_weights(logit, tables.softmax, self.shift)

    def cdf(self, k: Int32, at: slice = slice(None)) -> Int32:
        """Slots below the values k, which are 0 to all of them."""
        edge = k.astype(np.float32) * self.unit
        reach = LOGISTIC_REACH * LOGISTIC_UNIT
        total = np.zeros(len(k), np.int32)
        together = max(1, TOGETHER // max(1, len(k)))
        for first in range(0, len(self.centre), together):
            some = slice(first, first + together)
            # one subtraction of integers, one product, one rounding: the same everywhere
            t = edge - self.centre[some, at]
            t *= self.inverse[some, at]
            np.rint(t, out=t)
            t.clip(-reach, reach, out=t)
            index = t.astype(np.int32)
            index += reach
            part = self.logistic.take(index)
            part *= self.weight[some, at]
            total += part[0] if len(part) == 1 else part.sum(0, dtype=np.int32)
        total >>= self.shift
        total += k
        total[k <= 0] = 0
        total[k >= 1 << self.value_bits] = 1 << self.bits
        return total

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of values."""
        start = self.cdf(values, at)
        return start, self.cdf(values + 1, at) - start

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The values whose intervals hold slots, by bisection, with starts and frequencies."""
        low = np.zeros(len(slots), np.int32)
        start = np.zeros(len(slots), np.int32)
        end = np.full(len(slots), 1 << self.bits, np.int32)
        size = 1 << self.value_bits - 1
        while size:
            middle = low + size
            edge = self.cdf(middle, at)
            above = edge <= slots
            low[above] = middle[above]
            start = np.where(above, edge, start)
            end = np.where(above, end, edge)
            size //= 2
        return low, start, end - start


def mixture_weights(logit: Int32, softmax: Int32, shift: int) -> Int32:
    """Integer weights (K, n) of raw logits, which sum to 2^shift in every column."""
    below = logit.max(0) - logit
    mass = np.where(below < LOGIT_REACH, softmax.take(np.minimum(below, LOGIT_REACH - 1)), 0)
    # mass <= 2^16, at most 16 components, shift <= 14: float64 holds the products and their quotients' floors exactly
    weight: Int32 = np.floor(mass * float(1 << shift) / mass.sum(0)).astype(np.int32)
    weight[0] += (1 << shift) - weight.sum(0)
    return weight


def mixture_bits(logit: Float64, mass: Float64) -> Float64:
    """-log2 of the probability of values under a mixture in real numbers, (n,), from (K, n) of its components."""
    weight = np.exp(logit - logit.max(0))
    bits: Float64 = -np.log2(np.maximum((weight * mass).sum(0) / weight.sum(0), 1e-300))
    return bits


def component_masses(model: IntegerModel, values: Int32, centre: Int32, log_scale: Int32) -> Float64:
    """Each logistic's probability of values (n,) in real numbers, (K, n) as its centre and raw log scale."""
    scale = np.clip(log_scale, LOG_SCALE_LOW, LOG_SCALE_HIGH) / LOG_SCALE_UNIT
    inverse = np.exp(-scale) / half_range(model.value_bits)
    unit = level_unit(model.value_bits)
    distance = unit * values - centre
    low = np.where(values == 0, -np.inf, (distance - unit / 2) * inverse)
    high = np.where(values == model.top_value, np.inf, (distance + unit / 2) * inverse)
    return np.maximum(logistic_mass(low, high), 1e-300)


def logistic_mass(low: Float64, high: Float64) -> Float64:
    """σ(high) - σ(low), from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    mass: Float64 = (torch.sigmoid(torch.from_numpy(b)) - torch.sigmoid(torch.from_numpy(a))).numpy()
    return mass
