"""*The coding pass* of one batch, backwards."""

import numpy as np

from tests.decoder.flows import FlowLatents
from tests.decoder.model import Latents, Mixture, Model
from tests.decoder.official import Bernoulli, Joint
from tests.decoder.stack import Ans, Ints, slices
from tests.decoder.tiles import Component

LIKELIHOODS: dict[str, type[Bernoulli] | type[Joint]] = {"bernoulli": Bernoulli, "joint": Joint}


class BatchDecoder:
    """Tiles of one size."""

    def __init__(
        self, model: Model, ans: Ans, tiles: int, size: tuple[int, int], *, first: bool, dense: bool, gray: bool
    ) -> None:
        self.model, self.ans, self.tiles, self.size, self.first, self.dense = model, ans, tiles, size, first, dense
        self.of, self.bits = model.description, model.description["pixel_bits"]
        self.edge, self.channels, self.top = self.of["padding"], self.of["channels"], 2 ** self.of["value_bits"] - 1
        self.coded = 1 if gray else self.channels
        self.padded = [-(-(side + 2 * self.edge) // self.of["stride"]) * self.of["stride"] for side in size]
        self.pixels = np.zeros((tiles, self.channels, *self.padded), np.int64)
        self.network = model.network.begin()
        self.network.give("blank", np.zeros((tiles, 1, *(side // self.of["stride"] for side in self.padded))))

    def own(self, component: Component) -> tuple[int, int]:
        """Rows and columns of a component's pixels in a tile."""
        stride, *start = component
        rows, columns = (max(0, -(-(side - at) // stride)) for side, at in zip(self.size, start, strict=True))
        return rows, columns

    def see(self, component: Component) -> Ints:
        stride, row, column = component
        return self.pixels[:, :, row::stride, column::stride]

    def inside(self, maps: Ints) -> Ints:
        """Without the padding of a tile, (B, C, rows, columns)."""
        return maps[:, :, self.edge : self.edge + self.size[0], self.edge : self.edge + self.size[1]]

    def decode(self, before: int, after: int, last: int) -> Ints:
        """The pixels (tiles, C, rows, columns). Stack sizes: of this batch, and the last one of the batch before."""
        groups = [self.pop_latents(index, after) for index in range(len(self.model.groups))]
        self.pop_pixels(before, after)
        self.network.give("image", 2 * self.pixels - self.top)
        parts = []
        for latents, _ in groups:
            gain = -84 if isinstance(latents, FlowLatents) else -72 if self.dense else -36
            parts.append([slice(0, latents.count)] if self.first else slices(latents.count, last, gain))
            last = max(0, last + gain * latents.count // 16)
        for index in reversed(range(len(groups))):
            latents, symbols = groups[index]
            raw = self.network.take(f"posterior.{index}")
            if isinstance(latents, FlowLatents):
                symbols = latents.undo(raw, symbols)
            else:
                latents.set_posterior(raw)
            for at in reversed(parts[index]):
                start = latents.posterior(symbols[at], at)
                frequency = latents.posterior(symbols[at] + 1, at) - start
                self.ans.push(start - latents.rotation(at), frequency, latents.bits)
        return self.inside(self.pixels)

    def pop_latents(self, index: int, after: int) -> tuple[Latents, Ints]:
        group = self.model.groups[index]
        shape = [self.tiles, group["channels"], *(side // group["stride"] for side in self.padded)]
        raw = self.network.take(f"prior.{index}") if group["has_prior"] else None
        if group["flow_bounds"]:
            latents: Latents = FlowLatents(self.model, group, raw, shape, first=self.first, index=index)
        else:
            latents = Latents(self.model, group, raw, shape, first=self.first)
        symbols = self.ans.pop_array(latents.prior, latents.bins, latents.bits, after, 0)
        self.network.give(f"z.{index}", latents.z(symbols))
        return latents, symbols

    def pop_pixels(self, before: int, after: int) -> None:
        counts = [self.tiles * rows * columns for rows, columns in (self.own(c) for c, _, _ in self.model.phases)]
        self.gain = max(0, 8 * (after - before) // (self.tiles * self.coded * self.size[0] * self.size[1]))
        sizes, size = {}, before
        for index in reversed(range(len(counts))):
            for colour in reversed(range(self.coded)):
                sizes[index, colour] = size
                size += counts[index] * self.gain // 16
        for index in range(len(counts)):
            own = [sizes[index, colour] for colour in range(self.coded)]
            if self.of["likelihood"] == "colourwise":
                self.pop_phase(index, own)
            else:
                self.pop_official(own)

    def pop_official(self, sizes: list[int]) -> None:
        """All pixels of a likelihood that has no phases."""
        raw = self.inside(self.network.take("pixels.0")).transpose(1, 0, 2, 3)
        likelihood = LIKELIHOODS[self.of["likelihood"]](self.model, raw.reshape(len(raw), -1))
        counts = np.full(self.tiles * self.size[0] * self.size[1], self.top + 1)
        for colour in range(self.coded):
            x = self.ans.pop_array(likelihood.cdf(colour), counts, self.bits, sizes[colour], self.gain)
            likelihood.observe(colour, x)
            self.inside(self.pixels)[:, colour:] = x.reshape(self.tiles, 1, *self.size)
        if not self.edge:
            self.pixels[:] = pad(self.inside(self.pixels), self.padded)

    def pop_phase(self, index: int, sizes: list[int]) -> None:
        component, known, neighbours = self.model.phases[index]
        rows, columns = self.own(component)
        for other in known:
            self.network.give(".".join(map(str, ("plane", *other))), 2 * self.see(other) - 255)
        raw = self.network.take(f"pixels.{index}")[:, :, :rows, :columns].transpose(1, 0, 2, 3)
        if not rows or not columns:
            self.see(component)[:] = self.see((component[0], 0, 0))
            return
        raw, k = raw.reshape(len(raw), -1), self.of["components"]
        mean, log_scale, logit = raw[: 9 * k].reshape(3, 3, k, -1)
        c = self.model.look_up("tanh", raw[9 * k :]) if self.of["bounded_colour"] else raw[9 * k :]
        prediction = self.predict(known, neighbours, rows, columns)
        residuals: list[Ints] = []
        values = []
        for colour in range(self.coded):
            used = [c[:0], c[:1], c[1:]][colour]
            told = sum((a * b for a, b in zip(used, residuals, strict=True)), np.zeros_like(prediction[0]))
            centre = 16 * prediction[colour] + (16 * told + 512 >> 10)
            mixture = Mixture(self.model, mean[colour] + centre, log_scale[colour], logit[colour])
            x = self.ans.pop_array(mixture.cdf, np.full(len(centre), 256), self.bits, sizes[colour], self.gain)
            residuals.append(4 * x - prediction[colour])
            values.append(x.reshape(self.tiles, rows, columns))
        view = self.see(component)
        view[:] = pad(np.stack(values * (3 // self.coded), 1), view.shape[2:])

    def predict(
        self, known: list[Component], neighbours: list[tuple[int, int, int]], rows: int, columns: int
    ) -> list[Ints]:
        """In quarter levels, (n,) for each colour."""
        if not known:
            return [np.full(self.tiles * rows * columns, 510, np.int64)] * 3
        total = np.zeros((self.tiles, 3, rows, columns), np.int64)
        for which, down, right in neighbours:
            seen = self.see(known[which])
            r = np.clip(np.arange(rows) + down, 0, seen.shape[2] - 1)
            c = np.clip(np.arange(columns) + right, 0, seen.shape[3] - 1)
            total += seen[:, :, r][:, :, :, c]
        return list(total.transpose(1, 0, 2, 3).reshape(3, -1))


def pad(maps: Ints, size: list[int] | tuple[int, ...]) -> Ints:
    """The last row and column repeated up to a size."""
    more = [(0, full - own) for full, own in zip(size, maps.shape[2:], strict=True)]
    return np.pad(maps, [(0, 0), (0, 0), *more], mode="edge")
