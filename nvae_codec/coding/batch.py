"""One batch of tiles on its way through the exact network: the numbers that the walk codes with.

All that touches torch in coding is here: a batch gives the graph what becomes known and takes raw parameters as whole
numbers. ``chunk`` tiles are evaluated together; it changes speed and memory, never a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.coding.latents import Grid, GroupLatents, decode_raw
from nvae_codec.coding.pixels import Mixture, colour_centre, split_raw
from nvae_codec.coding.stack import Int32
from nvae_codec.coding.tiles import Canvas, plane_size
from nvae_codec.exact.model import FrozenModel
from nvae_codec.exact.trace import plane_name
from nvae_codec.phases import Phase

BLOCK = 16384
"""Values whose intervals are computed together: component-major blocks of this size stay in a core's cache."""


class Batch:
    """Tiles of one size, walked in lockstep."""

    def __init__(
        self, model: FrozenModel, canvas: Canvas, *, first: bool, chunk: int | None, device: torch.device
    ) -> None:
        """``first``: whether nothing lies on the segment's stack below this batch."""
        self.model, self.canvas, self.device = model, canvas, device
        self.tiles = len(canvas.pixels)
        self.padded: tuple[int, ...] = canvas.pixels.shape[2:]
        size = chunk or self.tiles
        self.chunks = [slice(at, min(at + size, self.tiles)) for at in range(0, self.tiles, size)]
        self.walks = [model.graph.evaluate() for _ in self.chunks]
        self.grids = [Grid(model, group, first) for group in model.groups]
        self._give("blank", np.zeros((self.tiles, 1, *(side // model.stride for side in self.padded))))

    @property
    def values(self) -> int:
        """Pixel values of the batch."""
        height, width = self.canvas.size
        return 3 * self.tiles * height * width

    @property
    def latent_counts(self) -> list[int]:
        """Coded latents of each group."""
        height, width = self.padded
        return [self.tiles * len(g.kept) * (height // g.stride) * (width // g.stride) for g in self.model.groups]

    @property
    def pixel_counts(self) -> list[int]:
        """Values of one colour in each phase."""
        sizes = [plane_size(self.canvas.size, phase.plane) for phase in self.model.phases]
        return [self.tiles * rows * columns for rows, columns in sizes]

    def known_values(self, phase: int) -> list[Int32]:
        """The values of a phase that lie on the canvas, (n,) a colour."""
        pixels = self.canvas.known(self.model.phases[phase].plane)
        return [np.ascontiguousarray(pixels[:, colour]).ravel() for colour in range(3)]

    def write_values(self, phase: int, values: list[Int32]) -> None:
        """Put the values of a phase, (n,) a colour, on the canvas."""
        plane = self.model.phases[phase].plane
        shape = (self.tiles, *plane_size(self.canvas.size, plane))
        self.canvas.write(plane, np.stack([colour.reshape(shape) for colour in values], 1))

    def prior(self, index: int) -> GroupLatents:
        """The latents of group ``index`` with their prior."""
        group = self.model.groups[index]
        raw = self._take(f"prior.{index}") if group.has_prior else None
        shape = (self.tiles, group.channels, *(side // group.stride for side in self.padded))
        return GroupLatents(group, self.grids[index], decode_raw(self.model, raw, shape))

    def add_posterior(self, index: int, latents: GroupLatents) -> None:
        """Tell latents their posterior; the image must have been shown."""
        raw = self._take(f"posterior.{index}")
        latents.set_posterior(decode_raw(self.model, raw, latents.normals.mean.shape))

    def set_latents(self, index: int, latents: GroupLatents, symbols: Int32) -> None:
        """Give the network the z of a group."""
        self._give(f"z.{index}", latents.z(symbols))

    def show_image(self) -> None:
        """Give the encoder the whole canvas."""
        self._give("image", self._normalized(self.canvas.pixels))

    def likelihood(self, index: int) -> PhaseLikelihood:
        """The distribution of the pixels of a phase; those before it lie on the canvas."""
        phase = self.model.phases[index]
        for plane in phase.known:
            self._give(plane_name(plane), self._normalized(self.canvas.read(plane)))
        return PhaseLikelihood(self.model, phase, self.canvas, self._take(f"pixels.{index}"))

    @staticmethod
    def _normalized(pixels: NDArray[np.int32]) -> NDArray[np.float32]:
        """Levels 0 to 255 as odd whole numbers around zero."""
        return (2 * pixels - 255).astype(np.float32)

    def _give(self, name: str, value: NDArray[np.generic]) -> None:
        for walk, chunk in zip(self.walks, self.chunks, strict=True):
            part = torch.from_numpy(np.ascontiguousarray(value[chunk], np.float32))
            walk.give(name, part.to(self.device))

    def _take(self, output: str) -> Int32:
        parts = [walk.take(output).to(torch.int32).contiguous().cpu().numpy() for walk in self.walks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class PhaseLikelihood:
    """p(pixels of one phase | z, phases before): a mixture a colour, each colour after those before it.

    The ``count`` symbols of a colour run over tiles, rows, columns of the plane's own pixels.
    """

    def __init__(self, model: FrozenModel, phase: Phase, canvas: Canvas, raw: Int32) -> None:
        """``raw`` (B, 9K + 3, h, w) covers the padded plane."""
        self.model = model
        self.rows, self.columns = plane_size(canvas.size, phase.plane)
        self.tiles = raw.shape[0]
        channels_first = raw[:, :, : self.rows, : self.columns].transpose(1, 0, 2, 3)
        parameters = np.ascontiguousarray(channels_first).reshape(raw.shape[1], -1)
        self.mean, self.log_scale, self.logit, self.coefficients = split_raw(parameters, model.components)
        self.count: int = parameters.shape[1]
        self.guess = self._guess(phase, canvas)
        self.values: list[Int32] = []

    def mixture(self, colour: int) -> Mixture:
        """The distribution of the next colour; :meth:`observe` tells the one before."""
        centre = colour_centre(self.model, self.coefficients, self.guess[colour], self.residuals(colour))
        return Mixture(self.model, self.mean[colour], self.log_scale[colour], self.logit[colour], centre)

    def interval(self, colour: int, values: Int32) -> tuple[Int32, Int32]:
        """Left ends and widths of known values (n,) of the next colour, which are observed with it."""
        mixture = self.mixture(colour)
        self.observe(colour, values)
        left, width = np.empty_like(values), np.empty_like(values)
        for start in range(0, len(values), BLOCK):
            at = slice(start, start + BLOCK)
            left[at], width[at] = mixture.interval(values[at], at)
        return left, width

    def observe(self, colour: int, values: Int32) -> None:
        """Tell the values (n,) of a colour."""
        assert len(self.values) == colour
        self.values.append(values)

    def residuals(self, colour: int, at: slice = slice(None)) -> list[Int32]:
        """What the colours before differ from their guesses, in quarter levels."""
        return [4 * values[at] - guess[at] for values, guess in zip(self.values[:colour], self.guess, strict=False)]

    def _guess(self, phase: Phase, canvas: Canvas) -> list[Int32]:
        """Four times the mean of the neighbours, in levels, a colour each (n,); the middle level without any."""
        if not phase.neighbours:
            return [np.full(self.count, 510, np.int32)] * 3
        total = np.zeros((3, self.tiles, self.rows, self.columns), np.int32)
        for index, down, right in phase.neighbours:
            known = np.pad(canvas.read(phase.known[index]), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            at = known[:, :, 1 + down : 1 + down + self.rows, 1 + right : 1 + right + self.columns]
            total += at.transpose(1, 0, 2, 3)
        return list(total.reshape(3, -1))


def order_colours(pixels: NDArray[np.uint8], order: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB to (3, H, W) in coding order."""
    return pixels[:, :, list(order)].transpose(2, 0, 1)


def restore_colours(planes: NDArray[np.uint8], order: Sequence[int]) -> NDArray[np.uint8]:
    """(3, H, W) in coding order to (H, W, 3) RGB."""
    pixels = np.empty((*planes.shape[1:], len(planes)), np.uint8)
    pixels[:, :, list(order)] = planes.transpose(1, 2, 0)
    return pixels
