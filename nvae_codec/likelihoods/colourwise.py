"""A mixture of logistics for each colour: its centre follows from the colours before, and from neighbours.

The mixture is PixelCNN++'s (Salimans et al. 2017, section 2.1), which NVAE uses; docs/likelihood.md describes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.coding.ans import Distribution, Int32
from nvae_codec.coding.canvas import Canvas, plane_size
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.device_mixture import DeviceMixture
from nvae_codec.likelihoods.likelihood import BLOCK, CodedLikelihood, Float64, PixelCoder, Uniform
from nvae_codec.likelihoods.mixture import (
    COLOUR_UNIT,
    LEVEL_UNIT,
    LOG_SCALE_RANGE,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    PIXEL_RAW_BOUND,
    Mixture,
    MixtureTables,
    component_masses,
    half_range,
    make_mixture_tables,
    mixture_bits,
    mixture_faults,
)
from nvae_codec.likelihoods.tables import LatentTables
from nvae_codec.polyphase import Phase

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import LikelihoodRecipe, Recipe


class ColourMixture(NamedTuple):
    """mean, log_scale, logit (B, 3, K, h, w): a mixture a colour; coefficients (B, 3, h, w), red to green first.

    Means are relative to the prediction and to what the colours before add.
    """

    mean: Tensor
    log_scale: Tensor
    logit: Tensor
    coefficients: Tensor


def split_mixture(raw: Tensor, recipe: LikelihoodRecipe) -> ColourMixture:
    """The mixtures of raw parameters (B, 9K + 3, h, w)."""
    k = recipe.components
    b, (h, w) = len(raw), raw.shape[2:]
    mean, log_scale, logit = raw[:, : 9 * k].view(b, 3, 3, k, h, w).unbind(1)
    return ColourMixture(recipe.mean_scale * mean, log_scale.clamp(*LOG_SCALE_RANGE), logit, raw[:, 9 * k :])


def mixture_nats(raw: Tensor, prediction: Tensor, x: Tensor, recipe: LikelihoodRecipe) -> Tensor:
    """-log p(x) of a discretised mixture of logistics, nats, (B, 3, h, w).

    raw: (B, 9K + 3, h, w); prediction and x: (B, 3, h, w) in [-1, 1]. A colour's mean is its prediction, plus the
    scaled raw mean, plus the coefficients times the differences between the colours before and their predictions.
    """
    mean, log_scale, logit, c = split_mixture(raw, recipe)
    r = x - prediction
    colour = torch.stack([torch.zeros_like(r[:, 0]), c[:, 0] * r[:, 0], c[:, 1] * r[:, 0] + c[:, 2] * r[:, 1]], 1)
    d = x[:, :, None] - mean - (prediction + colour)[:, :, None]
    inverse = torch.exp(-log_scale)
    upper, lower = inverse * (d + 1 / 255), inverse * (d - 1 / 255)
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    first, last = x[:, :, None] < -0.999, x[:, :, None] > 0.999
    # where the difference of sigmoids loses all its digits, the density at the middle times the bin's width
    density = -F.softplus(inverse * d) - F.softplus(-inverse * d) - log_scale - math.log(127.5)
    inner = torch.where(mass > 1e-5, mass.clamp_min(1e-10).log(), density)
    log_p = torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inner))
    return -torch.logsumexp(log_p + F.log_softmax(logit, 2), 2)


def mixture_pixels(raw: Tensor, prediction: Tensor, recipe: LikelihoodRecipe, uniform: Uniform | None) -> Tensor:
    """Colours one after another, each rounded to a level before the next and later phases see it."""
    mixture = split_mixture(raw, recipe)
    residuals: list[Tensor] = []
    for colour in range(3):
        centre = prediction[:, colour]
        # coefficients: red to green; red to blue, green to blue
        for index, before in enumerate(residuals):
            centre = centre + mixture.coefficients[:, colour * (colour - 1) // 2 + index] * before
        mean, logit = mixture.mean[:, colour], mixture.logit[:, colour]
        if uniform is None:
            offset = (F.softmax(logit, 1) * mean).sum(1)
        else:
            gumbel = -torch.log(-torch.log(uniform(recipe.components)))
            chosen = (logit + gumbel).argmax(1, keepdim=True)
            scale = torch.exp(mixture.log_scale[:, colour].gather(1, chosen)[:, 0])
            offset = mean.gather(1, chosen)[:, 0] + scale * torch.logit(uniform(1)[:, 0])
        level = torch.round(((centre + offset).clamp(-1, 1) + 1) * 127.5)
        residuals.append(level / 127.5 - 1 - prediction[:, colour])
    return torch.stack(residuals, 1) + prediction


class ColourwiseCoder(PixelCoder):
    """Every colour of a pixel has its own mixture; the raw parameters stay on the device that computed them."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        *self.raw, coefficients = split_raw(parameters, self.model.components)
        self.coefficients: Int32 = coefficients.cpu().numpy()
        self.prediction = predict(self.phase, canvas)
        self.is_here = parameters.device.type == "cpu"
        self.block = BLOCK if self.is_here else max(1, self.count)

    def distribution(self, colour: int) -> Distribution:
        """Distributions of the next colour, one for each pixel."""
        if self.is_here:
            return Mixture(self.model, *self.parameters(colour), self.centre(colour))
        mean, log_scale, logit = (part[colour] for part in self.raw)
        return DeviceMixture(self.model, mean, log_scale, logit, self.centre(colour))

    def parameters(self, colour: int) -> tuple[Int32, Int32, Int32]:
        """Raw means, log scales and logits of a colour, (K, n) each."""
        mean, log_scale, logit = (part[colour].cpu().numpy() for part in self.raw)
        return mean, log_scale, logit

    def real_bits(self, colour: int, values: Int32, at: slice) -> Float64:
        """-log2 p of values, (n,)."""
        mean, log_scale, logit = (part[:, at] for part in self.parameters(colour))
        mass = component_masses(self.model, values, mean + self.centre(colour, at), log_scale)
        return mixture_bits(logit / LOGIT_UNIT, mass)

    def centre(self, colour: int, at: slice = slice(None)) -> Int32:
        """Of the next colour in 1/64 level: its prediction, and what the colours before add."""
        known = zip(self.values[:colour], self.prediction, strict=False)
        residuals = [4 * values[at] - prediction[at] for values, prediction in known]
        return colour_centre(self.model, self.coefficients[:, at], self.prediction[colour][at], residuals)


def predict(phase: Phase, canvas: Canvas) -> list[Int32]:
    """Four times the mean of the neighbours, in levels, a colour each (n,); the middle level without any."""
    tiles, (rows, columns) = len(canvas.pixels), plane_size(canvas.size, phase.plane)
    if not phase.neighbours:
        return [np.full(tiles * rows * columns, 510, np.int32)] * 3
    total = np.zeros((3, tiles, rows, columns), np.int32)
    for index, down, right in phase.neighbours:
        known = np.pad(canvas.read(phase.known[index]), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        at = known[:, :, 1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        total += at.transpose(1, 0, 2, 3)
    return list(total.reshape(3, -1))


def colour_centre(model: IntegerModel, coefficients: Int32, prediction: Int32, residual: list[Int32]) -> Int32:
    """The centre of the next colour in 1/64 level: its prediction, and what the colours before add.

    coefficients (3, n) in 1/1024; prediction (n,) in quarter levels; residual: the difference between each colour
    before and its prediction, in quarter levels.
    """
    centre = prediction * (LEVEL_UNIT // 4)
    if not residual:
        return centre
    used: Int32 = coefficients[:1] if len(residual) == 1 else coefficients[1:]
    if model.bounded_colour:
        used = cast(MixtureTables, model.tables).tanh.take(used + PIXEL_RAW_BOUND)
    total = sum((c * r for c, r in zip(used, residual, strict=True)), np.zeros_like(centre))
    return centre + ((total * (LEVEL_UNIT // 4) + COLOUR_UNIT // 2) >> COLOUR_UNIT.bit_length() - 1)


def split_raw(raw: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw parameters (9K + 3, n) as means, log scales and logits (3, K, n) and colour coefficients (3, n)."""
    mean, log_scale, logit = raw[: 9 * components].reshape(3, 3, components, -1)
    return mean, log_scale, logit, raw[9 * components :]


class Kind(CodedLikelihood):
    """Raw parameters are means, log scales and logits of three colours, then three colour coefficients: 9K + 3."""

    pixel_bits, raw_bound = 18, PIXEL_RAW_BOUND  # each of 256 values has a slot, which must cost next to nothing
    tables, coder = MixtureTables, ColourwiseCoder

    def raw_channels(self, channels: int, components: int) -> int:
        """9K + 3."""
        return 9 * components + 3

    def nats(self, raw: Tensor, prediction: Tensor, x: Tensor, recipe: Recipe) -> Tensor:
        """-log p(x), (B, 3, h, w)."""
        return mixture_nats(raw, prediction, x, recipe.likelihood)

    def pixels(self, raw: Tensor, prediction: Tensor, recipe: Recipe, uniform: Uniform | None) -> Tensor:
        """Pixels, or their mean."""
        return mixture_pixels(raw, prediction, recipe.likelihood, uniform)

    def first_bias(self, recipe: LikelihoodRecipe, *, base: bool) -> Tensor:
        """Wide scales and means spread over the range for the base; narrow scales for pixels that see neighbours."""
        k = recipe.components
        raw = torch.zeros(9 * k + 3)
        if base:  # wide scales, means spread over the range
            raw[: 3 * k] = (torch.linspace(-0.6, 0.6, k) / recipe.mean_scale).repeat(3)
            raw[3 * k : 6 * k] = torch.linspace(-2.5, 1.0, k).clamp(-2.5, -1.0).repeat(3)
        else:
            raw[3 * k : 6 * k] = torch.linspace(-5, -1.5, k).repeat(3)
        raw[9 * k :] = torch.tensor([0.8, 0.4, 0.4])  # colours start as residuals of one another
        return raw

    def raw_scale(self, recipe: Recipe) -> list[float]:
        """Units of means, log scales and logits, and of coefficients."""
        k, mean = recipe.likelihood.components, 1 / half_range(8) / recipe.likelihood.mean_scale
        parts = [mean] * 3 * k + [1 / LOG_SCALE_UNIT] * 3 * k + [1 / LOGIT_UNIT] * 3 * k
        return parts + [1 / COLOUR_UNIT] * 3

    def make_tables(self, latents: LatentTables, value_bits: int) -> MixtureTables:
        """The tables of a new model."""
        return MixtureTables(**vars(latents), **make_mixture_tables(self.pixel_bits, value_bits))

    def table_faults(self, model: IntegerModel) -> Iterator[str]:
        """The names of tables that are impossible."""
        return mixture_faults(model)
