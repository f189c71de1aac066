"""Latents as symbols: u = (z - prior mean) / prior sigma on a uniform grid, where the prior is N(0, 1) for all.

u = k·Δ with |u| <= 8, Δ = step / 4096 for each channel. The prior's intervals are a static table in which every bin has
a frequency of at least 1; the posterior's are differences of Φ at the edges between bins (docs/format.md, "Latents").
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.compiled import Kernel
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.likelihoods.tables import FIXED, NORMAL_REACH, NORMAL_UNIT, RAW_BOUND, SIGMA_FIXED

Int64 = NDArray[np.int64]

EDGE_SHIFT = FIXED + 1 + 16 - (NORMAL_UNIT.bit_length() - 1)
"""Turns edges (2^-13) times inverse sigmas (2^-16) into steps of the table of Φ."""


@dataclass(frozen=True)
class Normals:
    """Means (2^-12) and sigmas (2^-16) of all channels of a group, int64 (B, L, h, w)."""

    mean: Int64
    sigma: Int64


def decode_raw(model: IntegerModel, raw: NDArray[np.int32] | None, shape: tuple[int, ...]) -> Normals:
    """Normals of raw parameters (B, 2L, h, w); None is the top prior. ``shape`` is (B, L, h, w)."""
    tables = model.tables
    if raw is None:
        return Normals(np.zeros(shape, np.int64), np.full(shape, tables.sigma[RAW_BOUND], np.int64))
    mean, log_sigma = np.split(raw.astype(np.intp) + RAW_BOUND, 2, axis=1)
    return Normals(tables.mean[mean].astype(np.int64), tables.sigma[log_sigma].astype(np.int64))


class Grid:
    """The grids of a group's active channels, and the prior's CDF table on them."""

    def __init__(self, model: IntegerModel, group: LatentGroup, coarse: bool) -> None:
        """``coarse`` for the first batch of a segment."""
        self.group, self.bits, self.normal = group, model.latent_bits, model.tables.normal
        steps = np.array(group.bin_widths, np.int64) * (group.coarse if coarse else 1)
        self.step = steps
        self.half = NORMAL_REACH * 2**FIXED // steps
        self.bins = 2 * self.half + 1
        tables = [self._prior_table(int(step), int(bins)) for step, bins in zip(steps, self.bins, strict=True)]
        self.prior = np.concatenate(tables) if tables else np.zeros(0, np.int32)
        self.first = np.cumsum([0] + [len(table) for table in tables[:-1]])[: len(tables)]

    def _prior_table(self, step: int, bins: int) -> Int32:
        edges = (2 * np.arange(bins + 1) - bins) * step  # in 2^-13
        scaled = np.clip(edges * NORMAL_UNIT >> (FIXED + 1), -NORMAL_REACH * NORMAL_UNIT, NORMAL_REACH * NORMAL_UNIT)
        table = self.normal[scaled + NORMAL_REACH * NORMAL_UNIT].astype(np.int64)
        full = 1 << self.bits
        table = (table * (full - bins) >> self.bits) + np.arange(bins + 1)
        table[0], table[-1] = 0, full
        cdf: Int32 = table.astype(np.int32)
        return cdf


class Binned(ABC):
    """A distribution over the bins k (n,) of one group in one batch, given by its CDF at their edges.

    Symbols run over images, active channels, rows, columns. step, half, bins: of each symbol's grid, (n,).
    """

    bits: int
    step: Int64
    half: Int64
    bins: Int64

    @property
    def count(self) -> int:
        """Symbols of the group in this batch."""
        return len(self.bins)

    @abstractmethod
    def cdf(self, k: Int64, at: slice) -> Int64:
        """Slots below bin k, of 2^bits."""

    def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of bins."""
        k = symbols.astype(np.int64)
        start = self.cdf(k, at)
        return start.astype(np.int32), (self.cdf(k + 1, at) - start).astype(np.int32)

    @abstractmethod
    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bins that hold slots, by bisection, with cumulative starts and frequencies."""


class Prior(Binned):
    """p(z) of a group: the same table for every symbol of a channel, since z is measured in the prior's own units."""

    def __init__(self, grid: Grid, normals: Normals) -> None:
        """``normals`` are the network's prior, which places the grid points."""
        self.grid, self.group, self.bits, self.normals = grid, grid.group, grid.bits, normals
        self.active = list(self.group.active)
        b, _, h, w = normals.mean.shape
        self.shape = (b, len(self.active), h, w)
        channel = np.broadcast_to(np.arange(len(self.active))[None, :, None, None], self.shape).ravel()
        self.first, self.bins = grid.first[channel], grid.bins[channel]
        self.step, self.half = grid.step[channel], grid.half[channel]

    def cdf(self, k: Int64, at: slice) -> Int64:
        """Slots below bin k, of 2^bits."""
        slots: Int64 = self.grid.prior[self.first[at] + k].astype(np.int64)
        return slots

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bins that hold slots, by bisection, with cumulative starts and frequencies."""
        found = empty_intervals(len(slots))
        find_in_prior(len(slots), at.start or 0, self.grid.prior, self.first, self.bins, slots, found)
        return found

    def z(self, symbols: Int32) -> NDArray[np.float32]:
        """z of all channels as the network's integers, float32 (B, L, h, w); pruned channels are the prior's mean."""
        z = self.place(symbols - self.half, self.normals.mean)
        return to_network(z, self.group.multiplier, self.group.bound)

    def place(self, point: Int64, pruned: Int64) -> Int64:
        """z in 2^-12, (B, L, h, w), of grid points (n,) from the prior's mean on; ``pruned`` for other channels."""
        z = pruned.copy()
        if self.active:
            u = (point * self.step).reshape(self.shape)
            shift = (self.normals.sigma[:, self.active] * u + (1 << (SIGMA_FIXED - 1))) >> SIGMA_FIXED
            z[:, self.active] = self.normals.mean[:, self.active] + shift
        return z


class Posterior(Binned):
    """q(z|x) of a group on the prior's grid.

    mean, inverse_sigma: in prior units, 2^-12 and 2^-16, (n,). Intervals are rotated by the lower end of the bin that
    contains the mean. So slot 0, which an empty stack draws, is the start of the mean's interval, and no bits are put
    back for it: the first batch takes the means at no cost.
    """

    def __init__(self, prior: Prior, normals: Normals) -> None:
        """``normals`` in absolute units."""
        self.prior, self.bits, self.normal = prior, prior.bits, prior.grid.normal
        self.step, self.half, self.bins = prior.step, prior.half, prior.bins
        prior_sigma = prior.normals.sigma[:, prior.active].ravel()
        difference = (normals.mean - prior.normals.mean)[:, prior.active].ravel()
        self.mean = (difference << SIGMA_FIXED) // prior_sigma
        self.inverse_sigma = (prior_sigma << 16) // normals.sigma[:, prior.active].ravel()

    @cached_property
    def rotation(self) -> Int32:
        """The lower end of the bin that contains the mean, (n,)."""
        middle = np.clip((2 * self.mean + self.bins * self.step) // (2 * self.step), 0, self.bins - 1)
        return self.cdf(middle, slice(None)).astype(np.int32)

    def cdf(self, k: Int64, at: slice) -> Int64:
        """Slots below bin k, of 2^bits, before the rotation."""
        bins = self.bins[at]
        edge = (2 * k - bins) * self.step[at] - 2 * self.mean[at]  # 2^-13
        reach = NORMAL_REACH * NORMAL_UNIT
        index = edge * self.inverse_sigma[at] >> EDGE_SHIFT
        index = np.minimum(np.maximum(index, -reach, out=index), reach, out=index)  # of few, much faster than np.clip
        index += reach
        out: Int64 = self.normal[index].astype(np.int64)
        np.copyto(out, 0, where=k <= 0)
        np.copyto(out, 1 << self.bits, where=k >= bins)
        return out

    def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts, modulo 2^bits, and frequencies of bins."""
        start, frequency = super().interval(symbols, at)
        return start - self.rotation[at], frequency

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bins that hold slots, by bisection, with starts, modulo 2^bits, and frequencies."""
        found = empty_intervals(len(slots))
        normals = self.step, self.bins, self.mean, self.inverse_sigma, self.rotation
        find_in_posterior(len(slots), at.start or 0, self.normal, normals, self.bits, slots, found)
        return found

    def to_prior(self, symbols: Int32) -> Int32:
        """The prior's symbols for symbols drawn from the posterior: the same, unless the group has flows."""
        return symbols

    def from_prior(self, symbols: Int32) -> Int32:
        """The inverse of :meth:`to_prior`."""
        return symbols


def to_network(z: Int64, multiplier: NDArray[np.float64], bound: int) -> NDArray[np.float32]:
    """z (B, L, h, w) in 2^-12 as integers in units of the network's own, each channel by its multiplier (L,)."""
    return np.clip(np.rint(z * multiplier[:, None, None]), -bound, bound).astype(np.float32)


def empty_intervals(count: int) -> tuple[Int32, Int32, Int32]:
    """Arrays for symbols, starts and frequencies, to be filled."""
    return np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.int32)


@Kernel
def find_in_prior(begin: int, end: int, offset: int, table: Any, first: Any, bins: Any, slots: Any, found: Any) -> None:
    """The bins that contain slots, in CDF tables that begin at ``first``; distributions from ``offset`` on."""
    symbols, starts, frequencies = found
    for i in range(begin, end):
        at, slot = first[offset + i], slots[i]
        low, high = 0, bins[offset + i]
        while high - low > 1:
            middle = (low + high) >> 1
            if table[at + middle] <= slot:
                low = middle
            else:
                high = middle
        symbols[i], starts[i], frequencies[i] = low, table[at + low], table[at + low + 1] - table[at + low]


@Kernel
def find_in_posterior(
    begin: int, end: int, offset: int, normal: Any, normals: Any, bits: int, slots: Any, found: Any
) -> None:
    """The bins that contain slots, under the rotated Normals of Posterior.cdf; distributions from ``offset`` on."""
    step, bins, mean, inverse_sigma, rotation = normals
    symbols, starts, frequencies = found
    reach = NORMAL_REACH * NORMAL_UNIT
    for i in range(begin, end):
        at = offset + i
        slot = (slots[i] + rotation[at]) & ((1 << bits) - 1)
        low, high, start, stop = 0, bins[at], 0, 1 << bits
        while high - low > 1:
            middle = (low + high) >> 1
            edge = (2 * middle - bins[at]) * step[at] - 2 * mean[at]
            index = edge * inverse_sigma[at] >> EDGE_SHIFT
            below = normal[min(max(index, -reach), reach) + reach]
            if below <= slot:
                low, start = middle, below
            else:
                high, stop = middle, below
        symbols[i], starts[i], frequencies[i] = low, start - rotation[at], stop - start
