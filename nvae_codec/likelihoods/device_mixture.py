"""The mixture of ``mixture.py`` where the network ran: its parameters stay on a GPU, and intervals leave it.

Each operation is one kernel on integers, or one float32 operation that is rounded as on the CPU, so the intervals
are the same (docs/exactness.md). On a CPU the other is faster: NumPy looks up six times as fast as torch.
"""

from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.mixture import (
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_REACH,
    MixtureTables,
    level_unit,
)

FEW_EDGES = 1 << 16
"""Where no more edges than that need be looked at, all are: near an empty stack slices have few symbols, and starting a
kernel takes as long for one as for thousands."""


class DeviceTables(NamedTuple):
    """The tables of a mixture on a device."""

    logistic: Tensor
    inverse_scale: Tensor
    softmax: Tensor


@lru_cache(maxsize=8)
def tables_on(tables: MixtureTables, device: torch.device) -> DeviceTables:
    """The tables, copied when a model is first used there."""
    parts = (tables.logistic, tables.inverse_scale, tables.softmax)
    return DeviceTables(*(torch.from_numpy(part).to(device) for part in parts))


class DeviceMixture:
    """The distribution of n values: centres and inverse scales float32, weights int32, each (K, n) on the device."""

    def __init__(self, model: IntegerModel, mean: Tensor, log_scale: Tensor, logit: Tensor, centre: Int32) -> None:
        """Raw parameters (K, n), int32 on the device, and what is added to the means, (n,), on the host."""
        tables = tables_on(cast(MixtureTables, model.tables), mean.device)
        self.bits, self.value_bits = model.pixel_bits, model.value_bits
        self.shift, self.count = 30 - self.bits, mean.shape[1]
        self.logistic, self.unit = tables.logistic, level_unit(model.value_bits)
        self.centre = (mean + self._there(centre + self.unit // 2, mean.device)).float()
        self.inverse = tables.inverse_scale[(log_scale.clamp(LOG_SCALE_LOW, LOG_SCALE_HIGH) - LOG_SCALE_LOW).long()]
        self.weight = device_weights(logit, tables.softmax, self.shift)

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of values."""
        below = self._there(values)
        start, end = self._cdf(torch.stack([below, below + 1]), at)
        both = torch.stack([start, end - start]).cpu().numpy()
        return both[0], both[1]

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The values whose intervals hold slots, with starts and frequencies."""
        search = self._look_at_all if len(slots) << self.value_bits <= FEW_EDGES else self._bisect
        low, start, end = search(self._there(slots), at)
        found = torch.stack([low, start, end - start]).cpu().numpy()
        return found[0], found[1], found[2]

    def _look_at_all(self, goal: Tensor, at: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Few values in few kernels, by the edges of all that there are."""
        edges = self._cdf(torch.arange((1 << self.value_bits) + 1, device=goal.device)[:, None], at)
        low = (edges[1:] <= goal).sum(0, keepdim=True)
        return low[0].to(torch.int32), edges.gather(0, low)[0], edges.gather(0, low + 1)[0]

    def _bisect(self, goal: Tensor, at: slice) -> tuple[Tensor, Tensor, Tensor]:
        low, start, end = torch.zeros_like(goal), torch.zeros_like(goal), torch.full_like(goal, 1 << self.bits)
        size = 1 << self.value_bits - 1
        while size:
            edge = self._cdf((low + size)[None], at)[0]
            above = edge <= goal
            low = torch.where(above, low + size, low)
            start, end = torch.where(above, edge, start), torch.where(above, end, edge)
            size //= 2
        return low, start, end

    def _cdf(self, k: Tensor, at: slice) -> Tensor:
        """Slots below the values k (V, n) or (V, 1), which are 0 to all of them: int32 (V, n)."""
        reach = LOGISTIC_REACH * LOGISTIC_UNIT
        distance = k.float() * self.unit - self.centre[:, None, at]
        steps = distance.mul_(self.inverse[:, None, at]).round_().clamp_(-reach, reach)
        parts = self.logistic[steps.long().add_(reach)].mul_(self.weight[:, None, at])
        total = (parts.sum(0, dtype=torch.int32) >> self.shift) + k.to(torch.int32)
        return total.masked_fill_(k <= 0, 0).masked_fill_(k >= 1 << self.value_bits, 1 << self.bits)

    def _there(self, values: Int32, device: torch.device | None = None) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int32)).to(device or self.centre.device)


def device_weights(logit: Tensor, softmax: Tensor, shift: int) -> Tensor:
    """Integer weights (K, n) of raw logits, which sum to 2^shift in every column."""
    below = logit.amax(0) - logit
    mass = softmax[below.clamp_max(LOGIT_REACH - 1).long()].masked_fill_(below >= LOGIT_REACH, 0).long()
    weight = torch.div(mass << shift, mass.sum(0), rounding_mode="floor").to(torch.int32)
    weight[0] += (1 << shift) - weight.sum(0, dtype=torch.int32)
    return weight
