"""Latents with flows: from the posterior's symbols to the prior's and back, a bijection of integers.

A flow is a row of halves, z to z - mu(z), where mu at a place reads only places before it (network/flow.py). The
posterior is of z before all of them; prior and network see z after them.

    z_0 ~ q(z_0 | x)  --half 0-->  z_1  --half 1-->  ...  -->  z_n, coded with p(z_n)

Every z_j lies on the prior's grid, k·Δ prior sigmas from the prior's mean, and a half takes round(mu / (sigma·Δ)) steps
off k. The alphabet is finite, so k is known modulo the number of bins alone, and each stage has a window of as many
grid points that says which one is meant: that of z_n lies around the prior's mean, as without flows; that of z_0
around the posterior's, and the others where the flow takes the posterior's mean.

A half is undone by repetition: k <- k' + round(mu(z(k)) / (sigma·Δ)) finds every place whose earlier ones are right, so
each round settles all places that wait for the same ones, and what no longer changes is the one inverse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.latents import Grid, GroupLatents, Int64, Normals, to_network
from nvae_codec.integer.model import LatentGroup
from nvae_codec.likelihoods.tables import SIGMA_FIXED

Shift = Callable[[int, NDArray[np.float32]], Int32]
"""(half, z as the network's integers) to the mu that the half takes off z, in 2^-12; both (B, L, h, w)."""


class FlowLatents(GroupLatents):
    """Latents whose posterior's symbols and prior's differ: :meth:`flow` takes the ones to the others.

    The posterior's symbols count from the lower end of its own window, whose middle bin holds its mean.
    """

    def __init__(self, group: LatentGroup, grid: Grid, prior: Normals, shift: Shift) -> None:
        """``prior`` covers all channels of the group, of which some are kept."""
        super().__init__(group, grid, prior)
        self.shift = shift
        # what a step of each symbol's grid is, in 2^-28
        self.unit = self.normals.sigma[:, list(group.kept)].ravel() * self.step

    def set_posterior(self, posterior: Normals) -> None:
        """Take the posterior of z before the flow; follow its mean through the flow, where the windows will lie."""
        super().set_posterior(posterior)
        middle = (2 * self.posterior_mean + self.step) // (2 * self.step)
        self.posterior_mean -= middle * self.step
        self.middles: list[Int64] = []
        self.rest: list[Int64] = []
        rest = posterior.mean
        for half in range(len(self.group.flow_bounds)):
            self.middles.append(middle)
            self.rest.append(rest)
            shift = self._shift(half, middle)
            middle, rest = middle - self._steps(shift), rest - shift
        self.middles.append(np.zeros_like(middle))

    def flow(self, k: Int32) -> Int32:
        """The symbols that the prior codes, of those that the posterior drew. The posterior must be known."""
        point = self.middles[0] + k - self.half
        for half in range(len(self.group.flow_bounds)):
            point = self._into_window(point - self._steps(self._shift(half, point)), half + 1)
        symbols: Int32 = (point + self.half).astype(np.int32)
        return symbols

    def unflow(self, k: Int32) -> Int32:
        """The inverse of :meth:`flow`, each half undone by repetition; it ends, since a half reads earlier places."""
        point = k.astype(np.int64) - self.half
        for half in reversed(range(len(self.group.flow_bounds))):
            before, found = None, self.middles[half]
            while before is None or not np.array_equal(before, found):
                before = found
                found = self._into_window(point + self._steps(self._shift(half, before)), half)
            point = found
        symbols: Int32 = (point - self.middles[0] + self.half).astype(np.int32)
        return symbols

    def _into_window(self, point: Int64, stage: int) -> Int64:
        """The grid points of a stage's window that are the same modulo the number of bins."""
        low = self.middles[stage] - self.half
        meant: Int64 = low + (point - low) % self.bins
        return meant

    def _shift(self, half: int, point: Int64) -> Int64:
        """What a half takes off z at grid points (n,): 2^-12, (B, L, h, w)."""
        group = self.group
        z = to_network(self.place(point, self.rest[half]), group.flow_multipliers[half], group.flow_bounds[half])
        return self.shift(half, z).astype(np.int64)

    def _steps(self, shift: Int64) -> Int64:
        """The same in steps of the grids (n,), rounded."""
        kept = shift[:, list(self.group.kept)].ravel() << SIGMA_FIXED
        steps: Int64 = (2 * kept + self.unit) // (2 * self.unit)
        return steps
