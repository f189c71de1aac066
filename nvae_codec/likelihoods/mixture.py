"""Mixtures of logistics on integers: their tables, and the distribution of one colour of one phase.

F(k) = (Σ_j w_j · T[(U k - U/2 - μ_j) · inverse_scale_j] >> S) + k, F(0) = 0, F(V) = 2^bits: the slots below value k
of V, U units a value (64 of 256 values). The weights sum to 2^S; T is the logistic function; the k gives every value a
slot. Arrays are component-major, (K, n), which is what makes them fast.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.compiled import Kernel
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


MOST_COMPONENTS = 16


class Mixture:
    """The distribution of n values."""

    def __init__(self, model: IntegerModel, mean: Int32, log_scale: Int32, logit: Int32, centre: Int32) -> None:
        """Raw parameters (K, n), and what is added to the means, (n,) or (K, n), in the same units."""
        self.tables = cast(MixtureTables, model.tables)
        self.bits, self.value_bits = model.pixel_bits, model.value_bits
        self.count, self.unit = mean.shape[1], level_unit(model.value_bits)
        # half a level is part of the centre: the edge below value k is at U k - (centre + U / 2)
        centre = np.add(mean, centre + self.unit // 2, dtype=np.int32)
        self.raw = tuple(np.ascontiguousarray(part, np.int32) for part in (centre, log_scale, logit))

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of values."""
        _, start, frequency = self._run(values, at, known=True)
        return start, frequency

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The values whose intervals hold slots, by bisection, with starts and frequencies."""
        return self._run(slots, at, known=False)

    def _run(self, given: Int32, at: slice, *, known: bool) -> tuple[Int32, Int32, Int32]:
        given, tables = np.ascontiguousarray(given, np.int32), self.tables
        found = np.empty(len(given), np.int32), np.empty(len(given), np.int32), np.empty(len(given), np.int32)
        looked_up = tables.inverse_scale, tables.softmax, tables.logistic
        sizes = self.bits, self.value_bits, self.unit
        mixture_intervals(len(given), at.start or 0, self.raw, given, known, looked_up, sizes, found)
        return found


@Kernel
def mixture_intervals(
    begin: int, end: int, offset: int, raw: Any, given: Any, known: bool, tables: Any, sizes: Any, found: Any
) -> None:
    """Intervals of values that are ``known``, or of those whose intervals hold slots; parameters from ``offset`` on."""
    centre, log_scale, logit = raw
    inverse_scale, softmax, logistic = tables
    bits, value_bits, unit = sizes
    values, starts, frequencies = found
    components, shift, reach = len(centre), 30 - bits, LOGISTIC_REACH * LOGISTIC_UNIT
    middle, inverse = np.empty(MOST_COMPONENTS, np.float32), np.empty(MOST_COMPONENTS, np.float32)
    weight = np.empty(MOST_COMPONENTS, np.int64)
    lowest, highest, whole = np.float32(-reach), np.float32(reach), float(1 << shift)
    for i in range(begin, end):
        at = offset + i
        best, total = logit[0, at], 0
        for j in range(1, components):
            best = max(best, logit[j, at])
        for j in range(components):
            below = best - logit[j, at]
            weight[j] = softmax[below] if below < LOGIT_REACH else 0
            total += weight[j]
            middle[j] = centre[j, at]
            inverse[j] = inverse_scale[min(max(log_scale[j, at], LOG_SCALE_LOW), LOG_SCALE_HIGH) - LOG_SCALE_LOW]
        left = 1 << shift
        for j in range(components):
            # at most 2^16 · 2^14: float64 holds the products and their quotients' floors exactly
            weight[j] = int(np.floor(weight[j] * whole / total))
            left -= weight[j]
        weight[0] += left
        low, start, stop = 0, 0, 1 << bits
        size = 1 << (value_bits - 1)
        if known:
            low, size = given[i] - 1, 1
        for step in range(2 if known else value_bits):
            k = low + size
            if k <= 0:
                slots = 0
            elif k >= 1 << value_bits:
                slots = 1 << bits
            else:
                edge, mass = np.float32(k * unit), 0
                for j in range(components):
                    # one subtraction of integers, one product, one rounding: the same everywhere
                    t = min(max(np.rint((edge - middle[j]) * inverse[j]), lowest), highest)
                    mass += weight[j] * logistic[int(t) + reach]
                slots = (mass >> shift) + k
            if known:
                if step == 0:
                    low, start = k, slots
                else:
                    stop = slots
            else:
                size >>= 1
                if slots <= given[i]:
                    low, start = k, slots
                else:
                    stop = slots
        values[i], starts[i], frequencies[i] = low, start, stop - start


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
