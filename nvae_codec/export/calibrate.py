"""Calibration: the range of every value and the width of the posteriors, measured on images in floating point."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from nvae_codec import ports
from nvae_codec.network.flow import list_halves
from nvae_codec.network.groups import Group
from nvae_codec.network.normal import prior_units
from nvae_codec.network.nvae import Nvae
from nvae_codec.polyphase import Plane


@dataclass
class LatentStatistics:
    """Statistics of one group per channel, float64 (L,).

    kl: mean KL in nats per position. sigma: a low percentile of the posterior's sigma, in prior sigmas.
    """

    kl: Tensor
    sigma: Tensor


@dataclass
class Calibration:
    """ranges: the largest absolute value of each channel, (C,), by fx node. latents: per group, from the top."""

    ranges: dict[str, Tensor]
    latents: list[LatentStatistics]


SIGMA_PERCENTILE = 0.15
"""The percentile of a channel's sigmas that sets the bin width of its grid."""


class _Runner(fx.Interpreter):
    """Runs a traced network in floating point, with z drawn from the posteriors, and records every value's range."""

    def __init__(self, traced: fx.GraphModule, network: Nvae) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.network = network
        self.outputs = cast(dict[str, fx.Node], traced.graph.output_node().args[0])
        self.ranges: dict[str, Tensor] = {}
        self.stages: dict[str, Tensor] = {}
        self.kl: list[list[Tensor]] = [[] for _ in network.latents]
        self.sigma: list[list[Tensor]] = [[] for _ in network.latents]

    def watch(self, pixels: Tensor) -> None:
        """Run a batch, uint8 (B, C, H, W)."""
        self.image = self.network.normalize(pixels)
        self.run(self.image, enable_io_processing=False)

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "output":
            return None
        value = self._input(n.meta["input"]) if n.op == "placeholder" else super().run_node(n)
        largest = value.abs().amax((0, 2, 3))
        seen = self.ranges.get(n.name)
        self.ranges[n.name] = largest if seen is None else torch.maximum(seen, largest)
        return value

    def _input(self, name: str) -> Tensor:
        kind, numbers = ports.parse(name)
        if kind == ports.IMAGE:
            return self.image
        if kind == ports.BLANK:
            return self.network.blank(self.image)
        if kind == "plane":
            plane = Plane(*numbers)
            return self.image[:, :, plane.row :: plane.stride, plane.column :: plane.stride]
        if kind == "z":
            return self._draw(numbers[0])
        return self.stages.pop(name)

    def _draw(self, group: int) -> Tensor:
        raw = cast(Tensor, self.env[self.outputs[ports.posterior(group)]])
        prior = self.outputs.get(ports.prior(group))
        drawn = self.network.draw(group, None if prior is None else cast(Tensor, self.env[prior]), raw)
        self.kl[group].append(drawn.kl.transpose(0, 1).flatten(1))
        sigma = prior_units(drawn.posterior, drawn.prior).sigma
        self.sigma[group].append(sigma.transpose(0, 1).flatten(1))
        z = drawn.before
        for half, shift in enumerate(list_halves(cast(Group, self.network.hierarchy.groups[group]).flows)):
            self.stages[ports.flow(group, half)] = z
            z = shift(z)
        return drawn.z


@torch.inference_mode()
def calibrate(traced: fx.GraphModule, network: Nvae, batches: Iterable[Tensor], seed: int = 0) -> Calibration:
    """Run the float network on batches of pixels, uint8 (B, C, H, W), sides multiples of the stride.

    seed: of the draws of z.
    """
    torch.manual_seed(seed)
    runner = _Runner(traced, network)
    for pixels in batches:
        runner.watch(pixels)
    latents = []
    for kl, sigma in zip(runner.kl, runner.sigma, strict=True):
        # sorted, since torch.quantile takes at most 2^24 values
        ordered = torch.cat(sigma, 1).sort(1).values
        low = ordered[:, int(SIGMA_PERCENTILE * (ordered.shape[1] - 1))]
        latents.append(LatentStatistics(torch.cat(kl, 1).double().mean(1), low.double()))
    return Calibration(runner.ranges, latents)
