"""Pixels that are 0 or 1."""

from __future__ import annotations

from typing import cast

import numpy as np
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.canvas import Canvas
from nvae_codec.likelihoods.likelihood import Likelihood
from nvae_codec.likelihoods.tables import BERNOULLI_BOUND, BernoulliTables


class Bernoulli(Likelihood):
    """Independent bits: slots below ``zero`` mean 0, those above 1, and each has at least one."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        self.logit: Int32 = parameters.cpu().numpy()
        self.zero = cast(BernoulliTables, self.model.tables).zero.take(self.logit + BERNOULLI_BOUND)

    def distribution(self, colour: int) -> Bits:
        """Of the next colour, whatever the others are."""
        return Bits(self.zero[colour], self.model.pixel_bits)


class Bits:
    """The distribution of n bits: the frequency (n,) of 0."""

    def __init__(self, zero: Int32, bits: int) -> None:
        self.zero, self.bits, self.count = zero, bits, len(zero)

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of values."""
        zero = self.zero[at]
        return values * zero, np.where(values == 0, zero, (1 << self.bits) - zero).astype(np.int32)

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bits whose intervals hold slots, with starts and frequencies."""
        values = (slots >= self.zero[at]).astype(np.int32)
        return values, *self.interval(values, at)
