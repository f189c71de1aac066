"""Pixels that are 0 or 1."""

from __future__ import annotations

from typing import cast

import numpy as np
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.likelihoods.likelihood import Likelihood
from nvae_codec.likelihoods.tables import BERNOULLI_BOUND, BernoulliTables
from nvae_codec.schedule.tiles import Canvas


class Bernoulli(Likelihood):
    """Independent bits: quantiles below ``zero`` mean 0, those above 1, and either has one at least."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        self.logit: Int32 = parameters.cpu().numpy()
        self.zero = cast(BernoulliTables, self.model.tables).zero.take(self.logit + BERNOULLI_BOUND)

    def distribution(self, colour: int) -> Bits:
        """Of the next colour, whatever the others are."""
        return Bits(self.zero[colour], 1 << self.model.pixel_bits)


class Bits:
    """The distribution of n bits: quantiles (n,) of 0, of so many."""

    def __init__(self, zero: Int32, whole: int) -> None:
        self.zero, self.whole = zero, whole

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Left ends and widths of values."""
        zero = self.zero[at]
        return values * zero, np.where(values == 0, zero, self.whole - zero).astype(np.int32)

    def find(self, quantile: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bits whose intervals hold quantiles, with left ends and widths."""
        values = (quantile >= self.zero[at]).astype(np.int32)
        return values, *self.interval(values, at)
