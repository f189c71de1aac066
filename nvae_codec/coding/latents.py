"""Latents as symbols: u = (z - prior mean) / prior sigma on a uniform grid, where the prior is N(0, 1) for all.

u = k·Δ with |u| <= 8, Δ = step / 4096 a channel. The prior's intervals are a static table with a quantile for every bin
at least; the posterior's are differences of Φ at the edges between bins (docs/format.md, "Latents").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.likelihoods.tables import FIXED, NORMAL_REACH, NORMAL_UNIT, RAW_BOUND, SIGMA_FIXED

Int64 = NDArray[np.int64]

FEW_BINS = 1 << 12
"""Of so many bins in all, each is looked at: near an empty stack symbols come in slices of few, and calls cost most."""


@dataclass(frozen=True)
class Normals:
    """Prior means (2^-12) and sigmas (2^-16) of a group, int64 (B, L, h, w)."""

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
    """The grids of a group's kept channels, and the prior's table on them."""

    def __init__(self, model: IntegerModel, group: LatentGroup, coarse: bool) -> None:
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
        index = edge * self.posterior_inverse[at] >> (FIXED + 1 + 16 - 8)
        index = np.minimum(np.maximum(index, -reach, out=index), reach, out=index)  # of few, much faster than np.clip
        index += reach
        out: Int64 = self.grid.normal[index].astype(np.int64)
        np.copyto(out, 0, where=k <= 0)
        np.copyto(out, 1 << self.grid.bits, where=k >= bins)
        return out

    def turns(self) -> Int64:
        """The lower end of the bin that holds each posterior's mean: where a quantile of zero is turned to. (n,)."""
        middle = np.clip((2 * self.posterior_mean + self.bins * self.step) // (2 * self.step), 0, self.bins - 1)
        return self.posterior_cdf(middle, slice(None))

    def find(self, quantile: Int32, at: slice, *, posterior: bool) -> tuple[Int32, Int32, Int32]:
        """The bins that hold quantiles, with left ends and widths: by bisection; of few symbols, by looking at all."""
        cdf = self.posterior_cdf if posterior else self.prior_cdf
        bins = self.bins[at]
        most = int(bins.max(initial=1))
        if len(quantile) * most <= FEW_BINS:
            edges = cdf(np.minimum(np.arange(most + 1)[:, None], bins), at)
            low = (edges <= quantile).sum(0) - 1
            left, right = (np.take_along_axis(edges, k[None], 0)[0] for k in (low, low + 1))
        else:
            low, high = np.zeros(len(quantile), np.int64), bins
            for _ in range(most.bit_length()):
                middle = (low + high) >> 1
                above = cdf(middle, at) <= quantile
                low, high = np.where(above, middle, low), np.where(above, high, np.maximum(middle, low + 1))
            left, right = cdf(low, at), cdf(low + 1, at)
        return low.astype(np.int32), left.astype(np.int32), (right - left).astype(np.int32)

    def interval(self, k: Int32, at: slice = slice(None), *, posterior: bool) -> tuple[Int32, Int32]:
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
    """z (B, L, h, w) in 2^-12 as integers in units of the network's own, each channel by its multiplier (L,)."""
    return np.clip(np.rint(z * multiplier[:, None, None]), -bound, bound).astype(np.float32)
