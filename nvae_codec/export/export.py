"""Export: from a trained float network and calibration images to an integer model."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nvae_codec import ports
from nvae_codec.export.calibrate import Calibration, calibrate
from nvae_codec.export.layers import ConvolveLayer, InputLayer
from nvae_codec.export.lower import Lowered, lower
from nvae_codec.export.quantize import LayerReport, quantize
from nvae_codec.export.trace import trace
from nvae_codec.export.width import Width
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.integer.model_file import finalize
from nvae_codec.likelihoods.likelihood import find_coded
from nvae_codec.likelihoods.tables import FIXED, NORMAL_REACH, RAW_BOUND, RAW_UNIT, SHIFT_BOUND, LatentTables
from nvae_codec.network.cells import ResidualCell
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.pyramid import carrying_parts
from nvae_codec.polyphase import list_phases
from nvae_codec.recipes.recipe import Recipe

LEAST_KL = 0.01
"""Channels with a lower KL, in nats per position, are pruned: they are set to the prior's mean and not coded."""
LATENT_BITS = 16
PHASED_FINE, PLAIN_FINE = 1, 2
"""Bins per sigma of a latent's narrow posteriors, with and without phases. Where latents carry much of an image,
one bin is too few: integer-model / float ELBO is 1.0019 on digits, and 0.989 for an official network of random weights.
With two bins it is 1.0002."""
FLOWS_FINE = 8
"""The same with flows, since the shift of each half is rounded to the grid."""
FIRST_BIN = 4
"""The bin width of the first batch, in those sigmas; half of it with flows."""


@dataclass
class Exported:
    """A finalized model, and a report on each convolution."""

    model: IntegerModel
    layers: list[LayerReport]


def export(network: Nvae, batches: Iterable[Tensor]) -> Exported:
    """The integer model of a float network, calibrated on batches of pixels, uint8 (B, C, H, W).

    The network must be in evaluation mode, and sides, with padding, multiples of its stride. Raises ModelFileError if a
    layer cannot be made exact, or if the likelihood is a density.
    """
    recipe, likelihood = network.recipe, find_coded(network.recipe.likelihood.kind)
    traced = trace(network)
    calibration = calibrate(traced, network, batches)
    lowered = lower(traced)
    _annotate(lowered, _input_strides(recipe), _precise_layers(network))
    ranges = {name: calibration.ranges[node] for name, node in lowered.watched.items()}
    result = quantize(lowered.layers, ranges, _fixed_widths(recipe, network, lowered))
    groups = _export_groups(recipe, calibration, result.widths, lowered.outputs)
    draft = IntegerModel(
        name=recipe.name, graph=Graph(result.operations, lowered.outputs), groups=tuple(groups),
        tables=likelihood.make_tables(LatentTables.make(LATENT_BITS), recipe.value_bits), stride=recipe.stride,
        scales=recipe.likelihood.scales, components=recipe.likelihood.components,
        colour_order=tuple(network.colour_order), bounded_colour=False,
        pixel_bits=likelihood.pixel_bits, latent_bits=LATENT_BITS, identity=b"", canary="",
        likelihood=recipe.likelihood.kind,
        channels=recipe.image.channels, value_bits=recipe.value_bits, padding=recipe.image.padding,
        side=max(0, recipe.network.top_size * recipe.stride - 2 * recipe.image.padding),
    )  # fmt: skip
    return Exported(finalize(draft), result.reports)


def _annotate(lowered: Lowered, strides: dict[str, int], precise: set[str]) -> None:
    """Set what the trace does not contain: strides of inputs, and which convolutions keep all bits of their weights."""
    for layer in lowered.layers.values():
        if isinstance(layer, InputLayer):
            layer.stride = strides[layer.name]
        elif isinstance(layer, ConvolveLayer):
            layer.precise = layer.source in precise


def _precise_layers(network: Nvae) -> set[str]:
    """Names of the convolutions that latents which carry pixels pass: small errors there exceed the latents' sigma.

    Integer-model / float ELBO of a hierarchy whose latents carry all pixels: 1.005 without them, 1.001 with them.
    """
    if not network.recipe.network.pyramid_start:
        return set()
    parts = carrying_parts(network.hierarchy, network.likelihood)
    passed = {module for part in parts for module in part.modules()}
    branches = {module for cell in passed if isinstance(cell, ResidualCell) for module in cell.modules()}
    modules = network.named_modules(prefix="network")
    return {name for name, module in modules if isinstance(module, nn.Conv2d) and module in passed - branches}


def _input_strides(recipe: Recipe) -> dict[str, int]:
    """The stride of every input."""
    strides = {ports.IMAGE: 1, ports.BLANK: recipe.stride}
    for group, stride in enumerate(recipe.network.latent_strides):
        strides[ports.z(group)] = stride
        strides |= {ports.flow(group, half): stride for half in range(2 * recipe.network.flows)}
    for phase in list_phases(recipe.likelihood.scales):
        strides |= {plane.name: plane.stride for plane in phase.known}
    return strides


def _fixed_widths(recipe: Recipe, network: Nvae, lowered: Lowered) -> dict[str, Width]:
    """Widths that calibration does not set: those of pixels, and of raw parameters, which index the tables."""
    top, likelihood = 2**recipe.value_bits - 1, find_coded(recipe.likelihood.kind)
    pixel = Width(torch.full((recipe.image.channels,), 1 / top, dtype=torch.double), top)  # odd integers around zero
    outputs = lowered.outputs
    widths = {ports.BLANK: Width(torch.ones(1, dtype=torch.double), 0)}
    seen = [ports.IMAGE, *(plane.name for phase in list_phases(recipe.likelihood.scales) for plane in phase.known)]
    widths |= {name: pixel for name in seen if name in lowered.layers}
    for group, latents in enumerate(network.latents):
        raw = Width(torch.full((2 * latents,), 1 / RAW_UNIT, dtype=torch.double), RAW_BOUND)
        widths[outputs[ports.posterior(group)]] = raw
        if ports.prior(group) in outputs:
            widths[outputs[ports.prior(group)]] = raw
        shift = Width(torch.full((latents,), 2.0**-FIXED, dtype=torch.double), SHIFT_BOUND)
        halves = range(2 * recipe.network.flows)
        widths |= {outputs[ports.shift(group, half)]: shift for half in halves}
    raw = Width(torch.tensor(likelihood.raw_scale(recipe), dtype=torch.double), likelihood.raw_bound)
    widths |= {node: raw for name, node in outputs.items() if ports.parse(name).kind == "pixels"}
    return widths


def _export_groups(
    recipe: Recipe, calibration: Calibration, widths: dict[str, Width], outputs: dict[str, str]
) -> list[LatentGroup]:
    groups = []
    for index, (statistics, stride) in enumerate(zip(calibration.latents, recipe.network.latent_strides, strict=True)):
        width, halves = widths[ports.z(index)], range(2 * recipe.network.flows)
        # with flows the KL is sampled: a channel's may be negative while another's is higher
        active = [channel for channel, kl in enumerate(statistics.kl.tolist()) if abs(kl) >= LEAST_KL]
        fine = FLOWS_FINE if halves else PHASED_FINE if recipe.likelihood.scales else PLAIN_FINE
        coarse = fine * FIRST_BIN // (2 if halves else 1)
        before = [widths[ports.flow(index, half)] for half in halves]
        multipliers = np.array([_multiplier(stage) for stage in before]).reshape(len(before), len(width.scale))
        groups.append(
            LatentGroup(
                stride=stride,
                channels=len(width.scale),
                active=tuple(active),
                bin_widths=tuple(_bin_width(float(statistics.sigma[channel]) / fine, coarse) for channel in active),
                multiplier=_multiplier(width),
                bound=width.bound,
                has_prior=ports.prior(index) in outputs,
                coarse=coarse,
                flow_bounds=tuple(stage.bound for stage in before),
                flow_multipliers=multipliers,
            )
        )
    return groups


def _multiplier(width: Width) -> NDArray[np.float64]:
    """The factors that convert z from 2^-12 to the network's integers."""
    multiplier: NDArray[np.float64] = (2.0**-FIXED / width.scale).numpy()
    return multiplier


def _bin_width(sigma: float, coarse: int) -> int:
    """A bin width in 2^-12 prior sigmas: from 1/64 to one sigma, with at least three bins in the first batch."""
    most = min(1 << FIXED, (NORMAL_REACH << FIXED) // coarse)
    return max((1 << FIXED) // 64, min(most, round(sigma * (1 << FIXED))))
