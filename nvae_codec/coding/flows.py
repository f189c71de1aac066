"""Latents with flows: from the posterior's symbols to the prior's and back, a bijection of integers.

A flow is a sequence of halves, z to z - mu(z), where mu at a position reads only positions before it (network/flow.py).
The posterior is of z before all of them; prior and network see z after them.

    z_0 ~ q(z_0 | x)  --half 0-->  z_1  --half 1-->  ...  -->  z_n, coded with p(z_n)

Every z_j is on the prior's grid, k·Δ prior sigmas from the prior's mean, and a half subtracts round(mu / (sigma·Δ))
from k. The alphabet is finite, so k is known only modulo the number of bins. Each stage has a window of that many grid
points, which makes k unique: the window of z_n is around the prior's mean, as without flows; that of z_0 is around the
posterior's mean; the others are around the images of that mean under the flow.

A half is inverted by fixed-point iteration, k <- k' + round(mu(z(k)) / (sigma·Δ)). Each round finds every position
whose earlier positions are right, so the iteration ends, and its fixed point is the only inverse.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.latents import Int64, Normals, Posterior, Prior, to_network
from nvae_codec.likelihoods.tables import SIGMA_FIXED

Shift = Callable[[int, NDArray[np.float32]], Int32]
"""(half, z as the network's integers) to the mu that the half subtracts from z, in 2^-12; both (B, L, h, w)."""


class FlowPosterior(Posterior):
    """The posterior of a group with flows and active channels: its symbols differ from the prior's.

    Symbols count from the lower end of the window of z_0, whose middle bin contains the mean.
    """

    def __init__(self, prior: Prior, normals: Normals, shift: Shift) -> None:
        """``normals`` are of z before the flow. Their mean, followed through it, places the windows."""
        super().__init__(prior, normals)
        self.shift = shift
        self.halves = range(len(prior.group.flow_bounds))
        self.unit: Int64 = prior.normals.sigma[:, prior.active].ravel() * self.step
        """The bin width of each symbol's grid, in 2^-28."""
        middle = (2 * self.mean + self.step) // (2 * self.step)
        self.mean = self.mean - middle * self.step
        self.middles: list[Int64] = []
        self.pruned: list[Int64] = []
        pruned = normals.mean
        for half in self.halves:
            self.middles.append(middle)
            self.pruned.append(pruned)
            shift_z = self._shift(half, middle)
            middle = middle - self._steps(shift_z)
            pruned = pruned - shift_z
        self.middles.append(np.zeros_like(middle))

    def to_prior(self, symbols: Int32) -> Int32:
        """The symbols that the prior codes, for those that were drawn."""
        point = self.middles[0] + symbols - self.half
        for half in self.halves:
            point = self._into_window(point - self._steps(self._shift(half, point)), half + 1)
        flown: Int32 = (point + self.half).astype(np.int32)
        return flown

    def from_prior(self, symbols: Int32) -> Int32:
        """The inverse of :meth:`to_prior`. The iteration ends, since a half reads earlier positions only."""
        point = symbols.astype(np.int64) - self.half
        for half in reversed(self.halves):
            before, found = None, self.middles[half]
            while before is None or not np.array_equal(before, found):
                before = found
                found = self._into_window(point + self._steps(self._shift(half, before)), half)
            point = found
        drawn: Int32 = (point - self.middles[0] + self.half).astype(np.int32)
        return drawn

    def _into_window(self, point: Int64, stage: int) -> Int64:
        """The grid points in a stage's window that equal ``point`` modulo the number of bins."""
        low = self.middles[stage] - self.half
        return (low + (point - low) % self.bins).astype(np.int64, copy=False)

    def _shift(self, half: int, point: Int64) -> Int64:
        """The mu of a half at grid points (n,): 2^-12, (B, L, h, w)."""
        group = self.prior.group
        z = self.prior.place(point, self.pruned[half])
        return self.shift(half, to_network(z, group.flow_multipliers[half], group.flow_bounds[half])).astype(np.int64)

    def _steps(self, shift: Int64) -> Int64:
        """A mu in bins of the grids, rounded, (n,)."""
        active = shift[:, self.prior.active].ravel() << SIGMA_FIXED
        steps: Int64 = (2 * active + self.unit) // (2 * self.unit)
        return steps
