"""*Flows*."""

from typing import Any

import numpy as np

from tests.decoder.model import Latents, Model, scale
from tests.decoder.stack import Ints


class FlowLatents(Latents):
    """A group with flows; its half flows are undone position by position."""

    def __init__(
        self, model: Model, group: dict[str, Any], raw: Ints | None, shape: list[int], *, first: bool, index: int
    ) -> None:
        super().__init__(model, group, raw, shape, first=first)
        self.index = index

    def undo(self, raw: Ints, k: Ints) -> Ints:
        """Set the posterior; the symbols that it codes."""
        self.set_posterior(raw)
        c = [(2 * self.m + self.width) // (2 * self.width)]
        self.m = self.m - c[0] * self.width
        pruned = [self.normals(raw)[0]]
        halves = range(len(self.group["flow_bounds"]))
        for half in halves:
            shift = self.shift(half, c[-1], pruned[-1])
            c.append(c[-1] - self.steps(shift))
            pruned.append(pruned[-1] - shift)
        k = k - self.half
        for half in reversed(halves):
            before = c[half].copy()
            for at in self.positions(mirror=half % 2 == 1):
                low = (c[half] - self.half)[at]
                moved = (k + self.steps(self.shift(half, before, pruned[half])))[at]
                before[at] = low + (moved - low) % self.bins[at]
            k = before
        symbols: Ints = k - c[0] + self.half
        return symbols

    def positions(self, *, mirror: bool) -> list[Ints]:
        """The symbols at each position, one of every tile, in the order of the flow."""
        at = np.arange(self.count).reshape(self.shape)
        at = at[:, :, ::-1, ::-1] if mirror else at
        return list(at.transpose(2, 3, 1, 0).reshape(-1, self.shape[0]))

    def shift(self, half: int, points: Ints, pruned: Ints) -> Ints:
        z, group = self.place(points, pruned), self.group
        network = self.model.network.begin()
        network.give(f"flow.{self.index}.{half}", scale(z, group["flow_multipliers"][half], group["flow_bounds"][half]))
        return network.take(f"shift.{self.index}.{half}")

    def steps(self, shift: Ints) -> Ints:
        active = self.group["active"]
        unit = self.sigma[:, active].ravel() * self.width
        steps: Ints = ((shift[:, active].ravel() << 17) + unit) // (2 * unit)
        return steps
