"""Latents as symbols: u = (z - prior mean) / prior sigma on a uniform grid, where the prior is N(0, 1) for all.

u = k·Δ with |u| <= 8, Δ = step / 4096 a channel. The prior's intervals are a static table with a quantile for every bin
at least; the posterior's are differences of Φ at the edges between bins (docs/format.md, "Latents").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.stack import Int32
from nvae_codec.exact.model import FrozenModel, LatentGroup
from nvae_codec.exact.tables import FIXED, NORMAL_REACH, NORMAL_UNIT, RAW_BOUND, SIGMA_FIXED

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Normals:
    """Prior means (2^-12) and sigmas (2^-16) of a group, int64 (B, L, h, w)."""

    mean: Int64
    sigma: Int64


def decode_raw(model: FrozenModel, raw: NDArray[np.int32] | None, shape: tuple[int, ...]) -> Normals:
    """Normals of raw parameters (B, 2L, h, w); None is the top prior. ``shape`` is (B, L, h, w)."""
    tables = model.tables
    if raw is None:
        return Normals(np.zeros(shape, np.int64), np.full(shape, tables.sigma[RAW_BOUND], np.int64))
    mean, log_sigma = np.split(raw.astype(np.intp) + RAW_BOUND, 2, axis=1)
    return Normals(tables.mean[mean].astype(np.int64), tables.sigma[log_sigma].astype(np.int64))


class Grid:
    """The grids of a group's kept channels, and the prior's table on them."""

    def __init__(self, model: FrozenModel, group: LatentGroup, coarse: bool) -> None:
        """``coarse`` for the first batch of a segment."""
        self.bits, self.normal = model.latent_bits, model.tables.normal
        steps = np.array(group.steps, np.int64) * (group.coarse if coarse else 1)
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
        quantiles: Int32 = table.astype(np.int32)
        return quantiles


class GroupLatents:
    """The symbols k (n,) of one group in one batch, under the prior and under the posterior.

    Symbols run over images, kept channels, rows, columns.
    """

    def __init__(self, group: LatentGroup, grid: Grid, prior: Normals) -> None:
        """``prior`` covers all channels of the group."""
        self.group, self.grid, self.normals = group, grid, prior
        b, _, h, w = prior.mean.shape
        self.shape = (b, len(group.kept), h, w)
        channel = np.broadcast_to(np.arange(len(group.kept))[None, :, None, None], self.shape).ravel()
        self.first, self.bins = grid.first[channel], grid.bins[channel]
        self.step, self.half = grid.step[channel], grid.half[channel]

    @property
    def count(self) -> int:
        """Symbols of the group in this batch."""
        return len(self.bins)

    def prior_cdf(self, k: Int64, at: slice) -> Int64:
        """Quantiles below bin k under the prior."""
        quantiles: Int64 = self.grid.prior[self.first[at] + k].astype(np.int64)
        return quantiles

    def set_posterior(self, posterior: Normals) -> None:
        """Take the posterior over all channels, in absolute units, and keep it in prior units."""
        kept = list(self.group.kept)
        prior_sigma = self.normals.sigma[:, kept].ravel()
        difference = (posterior.mean - self.normals.mean)[:, kept].ravel()
        self.posterior_mean = (difference << SIGMA_FIXED) // prior_sigma  # 2^-12
        self.posterior_inverse = (prior_sigma << 16) // posterior.sigma[:, kept].ravel()  # 1 / sigma in 2^-16

    def posterior_cdf(self, k: Int64, at: slice) -> Int64:
        """Quantiles below bin k under the posterior."""
        bins = self.bins[at]
        edge = (2 * k - bins) * self.step[at] - 2 * self.posterior_mean[at]  # 2^-13
        reach = NORMAL_REACH * NORMAL_UNIT
        index = np.clip(edge * self.posterior_inverse[at] >> (FIXED + 1 + 16 - 8), -reach, reach)
        out: Int64 = self.grid.normal[index + reach].astype(np.int64)
        out[k <= 0] = 0
        out[k >= bins] = 1 << self.grid.bits
        return out

    def turn(self, at: slice) -> Int64:
        """The lower end of the bin that holds the posterior's mean: where a quantile of zero is turned to."""
        step, bins = self.step[at], self.bins[at]
        middle = np.clip((2 * self.posterior_mean[at] + bins * step) // (2 * step), 0, bins - 1)
        return self.posterior_cdf(middle, at)

    def find(self, quantile: Int32, at: slice, *, posterior: bool) -> tuple[Int32, Int32, Int32]:
        """The bins that hold quantiles, by bisection, with left ends and widths."""
        cdf = self.posterior_cdf if posterior else self.prior_cdf
        low, high = np.zeros(len(quantile), np.int64), self.bins[at].copy()
        for _ in range(int(self.bins[at].max(initial=1)).bit_length()):
            middle = (low + high) >> 1
            above = cdf(middle, at) <= quantile
            low, high = np.where(above, middle, low), np.where(above, high, np.maximum(middle, low + 1))
        left = cdf(low, at)
        return low.astype(np.int32), left.astype(np.int32), (cdf(low + 1, at) - left).astype(np.int32)

    def interval(self, k: Int32, at: slice, *, posterior: bool) -> tuple[Int32, Int32]:
        """Left ends and widths of bins."""
        cdf = self.posterior_cdf if posterior else self.prior_cdf
        whole = k.astype(np.int64)
        left = cdf(whole, at)
        return left.astype(np.int32), (cdf(whole + 1, at) - left).astype(np.int32)

    def flow(self, k: Int32) -> Int32:
        """The symbols that the prior codes, of those that the posterior drew: the same without flows."""
        return k

    def unflow(self, k: Int32) -> Int32:
        """The inverse of :meth:`flow`."""
        return k

    def z(self, k: Int32) -> NDArray[np.float32]:
        """z of all channels as the network's integers, float32 (B, L, h, w); cut channels sit at the prior's mean."""
        z = self.place(k - self.half, self.normals.mean)
        return to_network(z, self.group.multiplier, self.group.bound)

    def place(self, k: Int64, rest: Int64) -> Int64:
        """z in 2^-12, (B, L, h, w), of grid points (n,) from the prior's mean on; ``rest`` has the cut channels'."""
        z = rest.copy()
        if self.group.kept:
            kept = list(self.group.kept)
            u = (k * self.step).reshape(self.shape)
            shift = (self.normals.sigma[:, kept] * u + (1 << (SIGMA_FIXED - 1))) >> SIGMA_FIXED
            z[:, kept] = self.normals.mean[:, kept] + shift
        return z


def to_network(z: Int64, multiplier: NDArray[np.float64], bound: int) -> NDArray[np.float32]:
    """z (B, L, h, w) in 2^-12 as whole numbers in units of the network's own, each channel by its multiplier (L,)."""
    return np.clip(np.rint(z * multiplier[:, None, None]), -bound, bound).astype(np.float32)
