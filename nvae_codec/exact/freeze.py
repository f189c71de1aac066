"""Freezing: from a trained float network and calibration images to the exact network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.exact.calibrate import Calibration, LatentStatistics, calibrate
from nvae_codec.exact.graph import Graph
from nvae_codec.exact.lower import Step, lower
from nvae_codec.exact.model import FrozenModel, LatentGroup
from nvae_codec.exact.model_file import seal
from nvae_codec.exact.quantize import LayerReport, Width, quantize
from nvae_codec.exact.tables import (
    COLOUR_UNIT,
    FIXED,
    LEVEL_UNIT,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    PIXEL_RAW_BOUND,
    RAW_BOUND,
    RAW_UNIT,
    make_tables,
)
from nvae_codec.exact.trace import plane_name, trace
from nvae_codec.network.nvae import Nvae
from nvae_codec.phases import list_phases
from nvae_codec.recipe import Recipe
from nvae_codec.training.loop import latent_strides

LEAST_KL = 0.01
"""Channels that spend fewer nats a place are cut: they sit at the prior's mean and nothing is coded."""
PIXEL_BITS, LATENT_BITS = 16, 16


@dataclass
class Frozen:
    """A sealed model and what freezing it took."""

    model: FrozenModel
    layers: list[LayerReport]


def freeze(network: Nvae, batches: Iterable[Tensor]) -> Frozen:
    """The exact network of a float one, calibrated on batches of pixels, uint8 (B, 3, H, W).

    The network is in evaluation mode; sides are multiples of its stride. Raises ModelFileError where a layer cannot be
    made exact.
    """
    recipe = network.recipe
    _refuse_unknown(recipe)
    traced = trace(network)
    calibration = calibrate(traced, network, batches)
    steps, outputs, watched = lower(traced)
    inputs = _input_strides(recipe)
    for step in steps:
        if step.kind == "Input":
            step.stride = inputs[step.name]
    ranges = {name: calibration.ranges[node] for name, node in watched.items()}
    operations, widths, layers = quantize(steps, ranges, _fixed_widths(recipe, network, outputs, steps))
    groups = _freeze_groups(recipe, calibration, widths, outputs)
    draft = FrozenModel(
        name=recipe.name, graph=Graph(operations, outputs), groups=tuple(groups),
        tables=make_tables(PIXEL_BITS, LATENT_BITS), stride=recipe.stride, levels=recipe.likelihood.levels,
        components=recipe.likelihood.components, colour_order=tuple(network.colour_order),
        bounded_colour=recipe.likelihood.bounded_colour, pixel_bits=PIXEL_BITS, latent_bits=LATENT_BITS,
        identity=b"", canary="",
    )  # fmt: skip
    return Frozen(seal(draft), layers)


def _refuse_unknown(recipe: Recipe) -> None:
    """Raise ModelFileError for parts that are not coded yet, rather than leave them out."""
    found = {
        f"likelihood.kind = '{recipe.likelihood.kind}'": recipe.likelihood.kind != "colourwise",
        f"network.flows = {recipe.network.flows}": recipe.network.flows > 0,
        f"image.padding = {recipe.image.padding}": recipe.image.padding > 0,
    }
    for part, unknown in found.items():
        if unknown:
            raise ModelFileError(f"freezing does not know {part} yet")


def _input_strides(recipe: Recipe) -> dict[str, int]:
    """Pixels a place of every graph input."""
    strides = {"image": 1, "blank": recipe.stride}
    strides |= {f"z.{group}": stride for group, stride in enumerate(latent_strides(recipe))}
    for phase in list_phases(recipe.likelihood.levels):
        strides |= {plane_name(plane): plane.stride for plane in phase.known}
    return strides


def _fixed_widths(recipe: Recipe, network: Nvae, outputs: dict[str, str], steps: list[Step]) -> dict[str, Width]:
    """Widths that do not come from calibration: pixels are what they are, raw parameters what the tables expect."""
    pixel = Width(torch.full((3,), 1 / 255, dtype=torch.double), 255)
    widths = {"blank": Width(torch.ones(1, dtype=torch.double), 0)}
    widths |= {step.name: pixel for step in steps if step.name == "image" or step.name.startswith("plane.")}
    for group, latents in enumerate(network.latents):
        raw = Width(torch.full((2 * latents,), 1 / RAW_UNIT, dtype=torch.double), RAW_BOUND)
        widths[outputs[f"posterior.{group}"]] = raw
        if f"prior.{group}" in outputs:
            widths[outputs[f"prior.{group}"]] = raw
    k = recipe.likelihood.components
    scale = torch.empty(9 * k + 3, dtype=torch.double)
    scale[: 3 * k] = 1 / (LEVEL_UNIT * 127.5 * recipe.likelihood.mean_scale)
    scale[3 * k : 6 * k], scale[6 * k : 9 * k], scale[9 * k :] = 1 / LOG_SCALE_UNIT, 1 / LOGIT_UNIT, 1 / COLOUR_UNIT
    widths |= {node: Width(scale, PIXEL_RAW_BOUND) for name, node in outputs.items() if name.startswith("pixels.")}
    return widths


def _freeze_groups(
    recipe: Recipe, calibration: Calibration, widths: dict[str, Width], outputs: dict[str, str]
) -> list[LatentGroup]:
    groups = []
    for index, (statistics, stride) in enumerate(zip(calibration.latents, latent_strides(recipe), strict=True)):
        width = widths[f"z.{index}"]
        kept = [channel for channel, kl in enumerate(statistics.kl.tolist()) if kl >= LEAST_KL]
        multiplier = (2.0**-FIXED / width.scale).numpy()
        groups.append(
            LatentGroup(
                stride,
                len(width.scale),
                tuple(kept),
                tuple(_grid_step(statistics, channel) for channel in kept),
                multiplier,
                width.bound,
                f"prior.{index}" in outputs,
            )
        )
    return groups


def _grid_step(statistics: LatentStatistics, channel: int) -> int:
    """The grid's spacing in 2^-12: the narrow posteriors' sigma, at most one prior sigma, at least a 64th of it."""
    whole = round(float(statistics.sigma[channel]) * (1 << FIXED))
    return max((1 << FIXED) // 64, min(1 << FIXED, whole))
