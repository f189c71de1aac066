"""One batch of tiles on its way through the integer network: the distributions that the coding pass asks for.

This is the only part of the coding pass that uses torch. A batch gives the graph what becomes known, and takes raw
parameters as integers. ``chunk`` tiles are evaluated together; this changes speed and memory, never a number.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec import ports
from nvae_codec.coding.ans import Int32
from nvae_codec.coding.canvas import Canvas, plane_size
from nvae_codec.coding.flows import FlowPosterior
from nvae_codec.coding.latents import Grid, Posterior, Prior, decode_raw
from nvae_codec.integer.graph import Evaluation
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.likelihood import PixelCoder, find_coded
from nvae_codec.progress import advance


class Batch:
    """Tiles of one size, coded in lockstep."""

    def __init__(
        self,
        model: IntegerModel,
        canvas: Canvas,
        *,
        first: bool,
        dense: bool = False,
        chunk: int | None,
        device: torch.device,
        gray: bool = False,
        experts: Sequence[int] = (),
    ) -> None:
        """``first``: whether the segment's stack is empty below this batch. ``dense``: see tiles.Growth.

        ``gray``: whether all colours of a pixel are equal, so that only the first one is coded. ``experts``: whose
        outputs :meth:`network_output` will be asked for; by default those of the model's own.
        """
        self.model, self.canvas, self.device, self.dense = model, canvas, device, dense
        self.coded = 1 if gray else model.channels
        """Colours that are coded."""
        self.tiles = len(canvas.pixels)
        self.padded: tuple[int, ...] = canvas.pixels.shape[2:]
        size = chunk or self.tiles
        self.chunks = [slice(at, min(at + size, self.tiles)) for at in range(0, self.tiles, size)]
        wanted = model.outputs_of(*(experts or [model.expert]))
        self.evaluations = [model.graph.evaluate(wanted) for _ in self.chunks]
        self.grids = [Grid(model, group, first) for group in model.groups]
        blank = np.zeros((self.tiles, 1, *(side // model.stride for side in self.padded)))
        self._give(self.evaluations, ports.BLANK, blank)

    @property
    def values(self) -> int:
        """Coded pixel values of the batch."""
        height, width = self.canvas.size
        return self.coded * self.tiles * height * width

    @property
    def latent_counts(self) -> list[int]:
        """Coded latents of each group."""
        height, width = self.padded
        return [self.tiles * len(g.active) * (height // g.stride) * (width // g.stride) for g in self.model.groups]

    @property
    def pixel_counts(self) -> list[int]:
        """Values of one colour in each phase."""
        sizes = [plane_size(self.canvas.size, phase.plane) for phase in self.model.phases]
        return [self.tiles * rows * columns for rows, columns in sizes]

    def known_values(self, phase: int) -> list[Int32]:
        """The values of a phase on the canvas, (n,) for each coded colour."""
        pixels = self.canvas.known(self.model.phases[phase].plane)
        return [np.ascontiguousarray(pixels[:, colour]).ravel() for colour in range(self.coded)]

    def write_values(self, phase: int, values: list[Int32]) -> None:
        """Write the values of a phase, (n,) for each coded colour, on the canvas."""
        plane = self.model.phases[phase].plane
        shape = (self.tiles, *plane_size(self.canvas.size, plane))
        colours = np.stack([colour.reshape(shape) for colour in values], 1)
        self.canvas.write(plane, np.broadcast_to(colours, (self.tiles, self.model.channels, *shape[1:])))

    def prior(self, index: int) -> Prior:
        """The prior of group ``index``. The latents of the groups before it must be set."""
        group = self.model.groups[index]
        raw = self._take(ports.prior(index)) if group.has_prior else None
        shape = (self.tiles, group.channels, *(side // group.stride for side in self.padded))
        return Prior(self.grids[index], decode_raw(self.model, raw, shape))

    def posterior(self, index: int, prior: Prior) -> Posterior:
        """The posterior of group ``index``. The network must have seen the image."""
        normals = decode_raw(self.model, self._take(ports.posterior(index)), prior.normals.mean.shape)
        if prior.group.flow_bounds and prior.active:
            return FlowPosterior(prior, normals, partial(self._shift, index))
        return Posterior(prior, normals)

    def set_latents(self, index: int, z: NDArray[np.float32]) -> None:
        """Give the network the z of a group."""
        self._give(self.evaluations, ports.z(index), z)

    def show_image(self) -> None:
        """Give the network the whole canvas, which posteriors depend on."""
        self._give(self.evaluations, ports.IMAGE, self._normalized(self.canvas.pixels))

    def likelihood(self, index: int) -> PixelCoder:
        """The distribution of the pixels of a phase. Earlier phases must be on the canvas."""
        phase = self.model.phases[index]
        raw = self.raw(index)
        advance(self.pixel_counts[index])
        return find_coded(self.model.likelihood).coder(self.model, phase, self.canvas, raw)

    def raw(self, index: int) -> Tensor:
        """The network's output for the pixels of a phase, int32 (B, R, h, w). Earlier phases must be on the canvas."""
        self.show_known(index)
        return self.network_output(ports.pixels(index, self.model.expert)).to(torch.int32).contiguous()

    def show_known(self, index: int) -> None:
        """Give the network the pixels that the head of a phase sees, from the canvas."""
        for plane in self.model.phases[index].known:
            self._give(self.evaluations, plane.name, self._normalized(self.canvas.read(plane)))

    def network_output(self, port: str) -> Tensor:
        """An output for the pixels of a phase, float32 (B, R, h, w), once, after :meth:`show_known`."""
        parts = [each.take(port) for each in self.evaluations]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _normalized(self, pixels: NDArray[np.int32]) -> NDArray[np.float32]:
        """Values 0 to top as odd integers from -top to top."""
        return (2 * pixels - self.model.top_value).astype(np.float32)

    def _shift(self, index: int, half: int, z: NDArray[np.float32]) -> Int32:
        """The mean that half a flow subtracts from z, in a new evaluation each time, since it is needed repeatedly."""
        output = ports.shift(index, half)
        evaluations = [self.model.graph.evaluate([output]) for _ in self.chunks]
        self._give(evaluations, ports.flow(index, half), z)
        return self._take(output, evaluations)

    def _give(self, evaluations: list[Evaluation], name: str, value: NDArray[np.generic]) -> None:
        for evaluation, chunk in zip(evaluations, self.chunks, strict=True):
            part = torch.from_numpy(np.ascontiguousarray(value[chunk], np.float32))
            evaluation.give(name, part.to(self.device))

    def _take(self, output: str, evaluations: list[Evaluation] | None = None) -> Int32:
        taken = [evaluation.take(output) for evaluation in evaluations or self.evaluations]
        parts = [part.to(torch.int32).contiguous().cpu().numpy() for part in taken]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def order_colours(pixels: NDArray[np.uint8], order: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB to (C, H, W) in coding order, and (H, W) gray to C equal colours."""
    if pixels.ndim == 2:
        return np.broadcast_to(pixels, (len(order), *pixels.shape))
    planes: NDArray[np.uint8] = pixels[:, :, list(order)].transpose(2, 0, 1)
    return planes


def restore_colours(planes: NDArray[np.uint8], order: Sequence[int], *, gray: bool) -> NDArray[np.uint8]:
    """(C, H, W) in coding order to (H, W, 3) RGB, or (H, W) gray."""
    if gray:
        first: NDArray[np.uint8] = planes[0]
        return first
    pixels = np.empty((*planes.shape[1:], len(planes)), np.uint8)
    pixels[:, :, list(order)] = planes.transpose(1, 2, 0)
    return pixels
