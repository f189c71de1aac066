"""*Flows*."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.decoder.model import Latents, Model
from tests.decoder.stack import Ints


class FlowLatents(Latents):
    """A group with flows; its halves are undone place by place."""

    def __init__(
        self, model: Model, group: dict[str, Any], raw: Ints | None, shape: list[int], *, first: bool, index: int
    ) -> None:
        super().__init__(model, group, raw, shape, first=first)
        self.index = index

    def undo(self, raw: Ints, k: Ints) -> Ints:
        """Take the posterior; the symbols that it codes."""
        self.show(raw)
        c = [(2 * self.m + self.step) // (2 * self.step)]
        self.m = self.m - c[0] * self.step
        rest = [self.normals(raw)[0]]
        halves = range(len(self.group["flow_bounds"]))
        for half in halves:
            shift = self.shift(half, c[-1], rest[-1])
            c.append(c[-1] - self.steps(shift))
            rest.append(rest[-1] - shift)
        k = k - self.half
        for half in reversed(halves):
            before = c[half].copy()
            for place in self.places(mirror=half % 2 == 1):
                low = (c[half] - self.half)[place]
                moved = (k + self.steps(self.shift(half, before, rest[half])))[place]
                before[place] = low + (moved - low) % self.bins[place]
            k = before
        symbols: Ints = k - c[0] + self.half
        return symbols

    def places(self, *, mirror: bool) -> list[Ints]:
        """The symbols of each place, one of every tile, in the order of the flow."""
        at = np.arange(self.count).reshape(self.shape)
        at = at[:, :, ::-1, ::-1] if mirror else at
        return list(at.transpose(2, 3, 1, 0).reshape(-1, self.shape[0]))

    def shift(self, half: int, k: Ints, rest: Ints) -> Ints:
        z, kept = rest.copy(), self.group["active"]
        u = (k * self.step).reshape(self.shape)
        z[:, kept] = self.mean[:, kept] + (self.sigma[:, kept] * u + 2**15 >> 16)
        bound = self.group["flow_bounds"][half]
        known: NDArray[np.float64] = np.clip(
            np.rint(z * self.group["flow_multipliers"][half][:, None, None]), -bound, bound
        )
        walk = self.model.graph.evaluate([f"shift.{self.index}.{half}"])
        walk.give(f"flow.{self.index}.{half}", torch.from_numpy(known.astype(np.float32)))
        whole: Ints = walk.take(f"shift.{self.index}.{half}").to(torch.int64).numpy()
        return whole

    def steps(self, shift: Ints) -> Ints:
        kept = self.group["active"]
        unit = self.sigma[:, kept].ravel() * self.step
        steps: Ints = ((shift[:, kept].ravel() << 17) + unit) // (2 * unit)
        return steps
