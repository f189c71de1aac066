"""*The walk* of one batch, backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.integer.graph import Evaluation
from tests.decoder.flows import FlowLatents
from tests.decoder.model import Latents, Mixture, Model
from tests.decoder.official import Bernoulli, Joint, Quantiles
from tests.decoder.stack import Ans, Ints, find_symbol, slices
from tests.decoder.tiles import Plane


class BatchDecoder:
    """Tiles of one size."""

    def __init__(
        self, model: Model, ans: Ans, tiles: int, size: tuple[int, int], *, first: bool, dense: bool, gray: bool
    ) -> None:
        self.model, self.ans, self.tiles, self.size = model, ans, tiles, size
        self.first, self.dense = first, dense
        stride, self.edge = model.description["stride"], model.description["padding"]
        self.channels, self.top = model.description["channels"], 2 ** model.description["value_bits"] - 1
        self.coded = 1 if gray else self.channels
        self.padded = [-(-(side + 2 * self.edge) // stride) * stride for side in size]
        self.pixels = np.zeros((tiles, self.channels, *self.padded), np.int64)
        self.walk: Evaluation = model.graph.evaluate()
        self.give("blank", np.zeros((tiles, 1, *(side // stride for side in self.padded))))

    def give(self, name: str, value: NDArray[Any]) -> None:
        self.walk.give(name, torch.from_numpy(value.astype(np.float32)))

    def take(self, name: str) -> Ints:
        whole: Ints = self.walk.take(name).to(torch.int64).numpy()
        return whole

    def own(self, plane: Plane) -> tuple[int, int]:
        """Rows and columns of a plane's pixels in a tile."""
        stride, *start = plane
        rows, columns = (max(0, -(-(side - at) // stride)) for side, at in zip(self.size, start, strict=True))
        return rows, columns

    def see(self, plane: Plane) -> Ints:
        stride, row, column = plane
        return self.pixels[:, :, row::stride, column::stride]

    def decode(self, before: int, after: int, fill: int) -> Ints:
        """The pixels (tiles, C, rows, columns); ``fill``: the last of the batch before."""
        groups = [self.pop_latents(index, after) for index in range(len(self.model.groups))]
        self.pop_pixels(before, after)
        self.give("image", 2 * self.pixels - self.top)
        cuts = []
        for latents, _ in groups:
            rate = 84 if isinstance(latents, FlowLatents) else 72 if self.dense else 36
            cuts.append([slice(0, latents.count)] if self.first else slices(latents.count, fill, -rate))
            fill = max(0, fill + -rate * latents.count // 16)
        for index in reversed(range(len(groups))):
            latents, symbols = groups[index]
            raw = self.take(f"posterior.{index}")
            if isinstance(latents, FlowLatents):
                symbols = latents.undo(raw, symbols)
            else:
                latents.show(raw)
            for at in reversed(cuts[index]):
                left = latents.posterior(symbols[at], at)
                width = latents.posterior(symbols[at] + 1, at) - left
                self.ans.push(left - latents.turn(at), width, latents.bits)
        return self.inside(self.pixels)

    def inside(self, maps: Ints) -> Ints:
        """Without the padding of a tile, (B, C, rows, columns)."""
        return maps[:, :, self.edge : self.edge + self.size[0], self.edge : self.edge + self.size[1]]

    def pop_latents(self, index: int, after: int) -> tuple[Latents, Ints]:
        group = self.model.groups[index]
        shape = [self.tiles, group["channels"], *(side // group["stride"] for side in self.padded)]
        raw = self.take(f"prior.{index}") if group["has_prior"] else None
        if group["flow_bounds"]:
            latents: Latents = FlowLatents(self.model, group, raw, shape, first=self.first, index=index)
        else:
            latents = Latents(self.model, group, raw, shape, first=self.first)
        symbols = np.empty(latents.count, np.int64)
        for at in reversed(slices(latents.count, after, 0)):

            def find(q: Ints, at: slice = at) -> tuple[Ints, Ints, Ints]:
                return find_symbol(lambda k: latents.prior(k, at), q, latents.bins[at])

            symbols[at] = self.ans.pop(at.stop - at.start, find, latents.bits)
        self.give(f"z.{index}", latents.z(symbols))
        return latents, symbols

    def pop_pixels(self, before: int, after: int) -> None:
        counts = [self.tiles * rows * columns for rows, columns in (self.own(p) for p, _, _ in self.model.phases)]
        rate = max(0, 8 * (after - before) // (self.tiles * self.coded * self.size[0] * self.size[1]))
        fills, fill = {}, before
        for index in reversed(range(len(counts))):
            for colour in reversed(range(self.coded)):
                fills[index, colour] = fill
                fill += counts[index] * rate // 16
        for index, count in enumerate(counts):
            self.pop_phase(index, [slices(count, fills[index, colour], rate) for colour in range(self.coded)])

    def pop_official(self, cuts: list[list[slice]]) -> None:
        """All pixels of a likelihood that has no phases."""
        raw = self.inside(self.take("pixels.0")).transpose(1, 0, 2, 3)
        kinds: dict[str, type[Bernoulli] | type[Joint]] = {"bernoulli": Bernoulli, "joint": Joint}
        likelihood = kinds[self.model.description["likelihood"]](self.model, raw.reshape(len(raw), -1))
        for colour in range(self.coded):
            quantiles = likelihood.quantiles(colour)
            x = np.empty(self.tiles * self.size[0] * self.size[1], np.int64)
            for at in reversed(cuts[colour]):

                def find(q: Ints, at: slice = at, quantiles: Quantiles = quantiles) -> tuple[Ints, Ints, Ints]:
                    return find_symbol(lambda k: quantiles(k, at), q, np.full(len(q), self.top + 1))

                x[at] = self.ans.pop(at.stop - at.start, find, self.model.description["pixel_bits"])
            likelihood.observe(colour, x)
            self.inside(self.pixels)[:, colour:] = x.reshape(self.tiles, 1, *self.size)
        if not self.edge:
            more = [(0, full - own) for full, own in zip(self.padded, self.size, strict=True)]
            self.pixels[:] = np.pad(self.inside(self.pixels), [(0, 0), (0, 0), *more], mode="edge")

    def pop_phase(self, index: int, cuts: list[list[slice]]) -> None:
        if self.model.description["likelihood"] != "colourwise":
            self.pop_official(cuts)
            return
        plane, known, neighbours = self.model.phases[index]
        rows, columns = self.own(plane)
        for other in known:
            self.give(".".join(map(str, ("plane", *other))), 2 * self.see(other) - 255)
        raw = self.take(f"pixels.{index}")[:, :, :rows, :columns].transpose(1, 0, 2, 3)
        if not rows or not columns:
            self.see(plane)[:] = self.see((plane[0], 0, 0))
            return
        raw = raw.reshape(len(raw), -1)
        components = self.model.description["components"]
        mean, log_scale, logit = raw[: 9 * components].reshape(3, 3, components, -1)
        c = raw[9 * components :]
        if self.model.description["bounded_colour"]:
            c = self.model.look_up("tanh", c)
        guess = self.guess(known, neighbours, rows, columns)
        residuals: list[Ints] = []
        values = []
        for colour in range(self.coded):
            used = [c[:0], c[:1], c[1:]][colour]
            told = sum((a * b for a, b in zip(used, residuals, strict=True)), np.zeros_like(guess[0]))
            centre = 16 * guess[colour] + (16 * told + 512 >> 10)
            mixture = Mixture(self.model, mean[colour], log_scale[colour], logit[colour], centre)
            x = np.empty(len(centre), np.int64)
            for at in reversed(cuts[colour]):

                def find(q: Ints, at: slice = at, mixture: Mixture = mixture) -> tuple[Ints, Ints, Ints]:
                    return find_symbol(lambda k: mixture.quantiles(k, at), q, np.full(len(q), 256))

                x[at] = self.ans.pop(at.stop - at.start, find, mixture.bits)
            residuals.append(4 * x - guess[colour])
            values.append(x.reshape(self.tiles, rows, columns))
        view = self.see(plane)
        more = [(0, full - own) for full, own in zip(view.shape[2:], (rows, columns), strict=True)]
        values *= 3 // self.coded
        view[:] = np.pad(np.stack(values, 1), [(0, 0), (0, 0), *more], mode="edge")

    def guess(self, known: list[Plane], neighbours: list[tuple[int, int, int]], rows: int, columns: int) -> list[Ints]:
        """In quarter levels, (n,) a colour."""
        if not known:
            return [np.full(self.tiles * rows * columns, 510, np.int64)] * 3
        total = np.zeros((self.tiles, 3, rows, columns), np.int64)
        for which, down, right in neighbours:
            plane = self.see(known[which])
            r = np.clip(np.arange(rows) + down, 0, plane.shape[2] - 1)
            c = np.clip(np.arange(columns) + right, 0, plane.shape[3] - 1)
            total += plane[:, :, r][:, :, :, c]
        return list(total.transpose(1, 0, 2, 3).reshape(3, -1))
