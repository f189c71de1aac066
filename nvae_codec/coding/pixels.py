"""Pixels as symbols: a mixture of logistics on integers, one colour of one phase at a time.

F(k) = (Σ_j w_j · T[(64k - 32 - μ_j) · inverse_scale_j] >> S) + k, F(0) = 0, F(256) = 2^bits: the quantiles below value
k. The weights sum to 2^S; T is the logistic function; the k gives every value a quantile. Arrays are component-major,
(K, n), which is what makes them fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.stack import Int32
from nvae_codec.exact.model import FrozenModel
from nvae_codec.exact.tables import (
    COLOUR_UNIT,
    LEVEL_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_REACH,
    PIXEL_RAW_BOUND,
)

VALUES = 256


class Mixture:
    """The distribution of n values: centres and inverse scales float32, weights int32, each (K, n)."""

    def __init__(self, model: FrozenModel, mean: Int32, log_scale: Int32, logit: Int32, centre: Int32) -> None:
        """Raw parameters (K, n) and the guess with the colours before (n,), in 1/64 level."""
        self.bits = model.pixel_bits
        self.shift = 30 - self.bits
        self.logistic = model.tables.logistic
        # half a level is part of the centre: the edge below value k lies at 64k - (centre + 32)
        self.centre = np.add(mean, centre + LEVEL_UNIT // 2, dtype=np.int32).astype(np.float32)
        index = np.clip(log_scale, LOG_SCALE_LOW, LOG_SCALE_HIGH) - LOG_SCALE_LOW
        self.inverse = np.take(model.tables.inverse_scale, index)
        self.weight = mixture_weights(logit, model.tables.softmax, self.shift)

    def cdf(self, k: Int32, at: slice = slice(None)) -> Int32:
        """Quantiles below the values k, which are 0 to 256."""
        edge = k.astype(np.float32) * LEVEL_UNIT
        reach = LOGISTIC_REACH * LOGISTIC_UNIT
        total = np.zeros(len(k), np.int32)
        for centre, inverse, weight in zip(self.centre, self.inverse, self.weight, strict=True):
            # one subtraction of whole numbers, one product, one rounding: the same everywhere
            t = edge - centre[at]
            t *= inverse[at]
            np.rint(t, out=t)
            np.clip(t, -reach, reach, out=t)
            index = t.astype(np.int32)
            index += reach
            part = self.logistic.take(index)
            part *= weight[at]
            total += part
        total >>= self.shift
        total += k
        total[k <= 0] = 0
        total[k >= VALUES] = 1 << self.bits
        return total

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Left ends and widths of values."""
        left = self.cdf(values, at)
        return left, self.cdf(values + 1, at) - left

    def find(self, quantile: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The values whose intervals hold quantiles, by bisection, with left ends and widths."""
        low = np.zeros(len(quantile), np.int32)
        left = np.zeros(len(quantile), np.int32)
        right = np.full(len(quantile), 1 << self.bits, np.int32)
        size = VALUES // 2
        while size:
            middle = low + size
            edge = self.cdf(middle, at)
            above = edge <= quantile
            low[above] = middle[above]
            left = np.where(above, edge, left)
            right = np.where(above, right, edge)
            size //= 2
        return low, left, right - left


def mixture_weights(logit: Int32, softmax: Int32, shift: int) -> Int32:
    """Whole weights (K, n) of raw logits, which sum to 2^shift in every column."""
    below = logit.max(0) - logit
    mass = np.where(below < LOGIT_REACH, softmax.take(np.minimum(below, LOGIT_REACH - 1)), 0)
    # mass <= 2^16, at most 16 components, shift <= 14: float64 holds the products and their quotients' floors exactly
    weight: Int32 = np.floor(mass * float(1 << shift) / mass.sum(0)).astype(np.int32)
    weight[0] += (1 << shift) - weight.sum(0)
    return weight


def colour_centre(model: FrozenModel, coefficients: Int32, guess: Int32, residual: list[Int32]) -> Int32:
    """The centre of the next colour in 1/64 level: its guess, and what the colours before tell.

    coefficients (3, n) in 1/1024; guess (n,) in quarter levels; residual: of each colour before, its value less its
    guess, in quarter levels.
    """
    centre = guess * (LEVEL_UNIT // 4)
    if not residual:
        return centre
    used: Int32 = coefficients[:1] if len(residual) == 1 else coefficients[1:]
    if model.bounded_colour:
        used = model.tables.tanh.take(used + PIXEL_RAW_BOUND)
    total = sum((c * r for c, r in zip(used, residual, strict=True)), np.zeros_like(centre))
    return centre + ((total * (LEVEL_UNIT // 4) + COLOUR_UNIT // 2) >> COLOUR_UNIT.bit_length() - 1)


def split_raw(raw: NDArray[np.int32], components: int) -> tuple[Int32, Int32, Int32, Int32]:
    """Raw parameters (9K + 3, n) as means, log scales and logits (3, K, n) and colour coefficients (3, n)."""
    mean, log_scale, logit = raw[: 9 * components].reshape(3, 3, components, -1)
    return mean, log_scale, logit, raw[9 * components :]
