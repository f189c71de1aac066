"""A mixture of logistics on integers: the distribution of one colour of one phase.

F(k) = (Σ_j w_j · T[(U k - U/2 - μ_j) · inverse_scale_j] >> S) + k, F(0) = 0, F(V) = 2^bits: the slots below value k
of V, U units a value (64 of 256 values). The weights sum to 2^S; T is the logistic function; the k gives every value a
slot. Arrays are component-major, (K, n), which is what makes them fast.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from nvae_codec.coding.ans import Int32
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.tables import (
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_REACH,
    MixtureTables,
    level_unit,
)

TOGETHER = 4096
"""So many values of components are computed at once, or those of one: few calls for few, the cache for many."""


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
    """Whole weights (K, n) of raw logits, which sum to 2^shift in every column."""
    below = logit.max(0) - logit
    mass = np.where(below < LOGIT_REACH, softmax.take(np.minimum(below, LOGIT_REACH - 1)), 0)
    # mass <= 2^16, at most 16 components, shift <= 14: float64 holds the products and their quotients' floors exactly
    weight: Int32 = np.floor(mass * float(1 << shift) / mass.sum(0)).astype(np.int32)
    weight[0] += (1 << shift) - weight.sum(0)
    return weight
