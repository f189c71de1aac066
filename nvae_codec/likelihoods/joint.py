"""The official mixture: its components hold all three colours of a pixel.

p(x) = Σ_j π_j p_j(red) p_j(green | red) p_j(blue | red, green) is coded a colour after another. A colour has the
mixture of its logistics, and then multiplies each component's weight by that component's probability of the value:

    logit_j  <-  logit_j + ln p_j(value)        integers throughout, from tables
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.canvas import Canvas
from nvae_codec.likelihoods.likelihood import Likelihood
from nvae_codec.likelihoods.mixture import Mixture
from nvae_codec.likelihoods.tables import (
    COLOUR_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_UNIT,
    NATS_UNIT,
    PIXEL_RAW_BOUND,
    JointTables,
    half_range,
    level_unit,
)

FURTHEST = 1 << 22
"""Steps of the logistic table, beyond which a value is improbable enough: 4096 scales."""
NATS_SHIFT = (NATS_UNIT // LOGIT_UNIT).bit_length() - 1


class Joint(Likelihood):
    """The colours of a pixel share their component."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        k, host = self.model.components, parameters.cpu().numpy()
        self.first_logit = self.logit = host[:k]
        self.mean, self.log_scale, raw = host[k:].reshape(3, 3, k, -1).swapaxes(0, 1)
        self.tables = cast(JointTables, self.model.tables)
        # red to green, red to blue, green to blue, each a component
        self.coefficients = self.tables.tanh.take(raw + PIXEL_RAW_BOUND)
        self.unit, self.middle = level_unit(self.model.value_bits), int(half_range(self.model.value_bits))

    def distribution(self, colour: int) -> Mixture:
        """Of the next colour."""
        return Mixture(self.model, self.mean[colour], self.log_scale[colour], self.logit, self.centre(colour))

    def centre(self, colour: int, at: slice = slice(None)) -> Int32:
        """What is added to the means of the next colour (K, n): the middle, and what the colours before tell."""
        told = np.zeros((self.model.components, len(self.values[0][at]) if colour else 1), np.int32)
        for before in range(colour):
            coefficient = self.coefficients[colour - 1 + before][:, at]
            told += coefficient * (self.unit * self.values[before][at] - self.middle)
        return self.middle + (told + COLOUR_UNIT // 2 >> COLOUR_UNIT.bit_length() - 1)

    def observe(self, values: Int32) -> None:
        """Weigh the components by what each says of the values (n,) of the next colour."""
        colour = len(self.values)
        if colour < 2:
            self.logit = self.logit + self._log_probability(colour, values)
        super().observe(values)

    def _log_probability(self, colour: int, values: Int32) -> Int32:
        """ln p_j of values under each component, (K, n), in units of logits; :class:`JointTables` has the formula."""
        scale = np.clip(self.log_scale[colour], LOG_SCALE_LOW, LOG_SCALE_HIGH) - LOG_SCALE_LOW
        middle = (self.unit * values - self.mean[colour] - self.centre(colour)).astype(np.float32)
        inverse = self.tables.inverse_scale.take(scale)
        below = _steps(middle - self.unit // 2, inverse)
        above = _steps(middle + self.unit // 2, inverse)
        below_cost, above_cost = self._log_cosh(below), self._log_cosh(above)
        nats: Int32 = self.tables.log_sinh.take(scale) - below_cost - above_cost
        # the values at the ends have what lies beyond them, too
        nats = np.where(values == 0, above - above_cost, nats)
        nats = np.where(values == self.model.top_value, -below - below_cost, nats)
        return nats >> NATS_SHIFT

    def _log_cosh(self, steps: Int32) -> Int32:
        """ln(2 cosh(t / 2)) = |t| / 2 + ln(1 + exp(-|t|)) in 1/2048 nat; t in steps of 1/1024."""
        size = np.abs(steps)
        return size + self.tables.softplus.take(np.minimum(size, LOGISTIC_REACH * LOGISTIC_UNIT))


def _steps(distance: NDArray[np.float32], inverse: NDArray[np.float32]) -> Int32:
    """Whole steps of the logistic table: one product, one rounding, the same everywhere."""
    whole: Int32 = np.clip(np.rint(distance * inverse), -FURTHEST, FURTHEST).astype(np.int32)
    return whole
