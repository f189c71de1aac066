"""The official mixture of logistics: its components hold all three colours of a pixel.

It is PixelCNN++'s (Salimans et al. 2017) with the rules of NVAE's code (distributions.py). The probability of a pixel,
Σ_j π_j p_j(red) p_j(green | red) p_j(blue | red, green), is coded one colour after another. A colour has the mixture of
its logistics, and then multiplies each component's weight by that component's probability of the value:

    logit_j  <-  logit_j + ln p_j(value)        integers throughout, from tables
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.canvas import Canvas
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.likelihood import CodedLikelihood, Float64, PixelCoder, Uniform
from nvae_codec.likelihoods.mixture import (
    COLOUR_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOG_SCALE_RANGE,
    LOG_SCALE_UNIT,
    LOGISTIC_REACH,
    LOGISTIC_UNIT,
    LOGIT_UNIT,
    PIXEL_RAW_BOUND,
    SCALES,
    Mixture,
    MixtureTables,
    component_masses,
    half_range,
    level_unit,
    log_scales,
    make_mixture_tables,
    mixture_bits,
    mixture_faults,
)
from nvae_codec.likelihoods.tables import LatentTables, is_table, round_table

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import Recipe

NATS_UNIT = 2048
"""Logarithms of a component's probability: units of 1/2048 nat."""
FURTHEST = 1 << 22
"""Steps of the logistic table, beyond which a value is improbable enough: 4096 scales."""
NATS_SHIFT = (NATS_UNIT // LOGIT_UNIT).bit_length() - 1


@dataclass(frozen=True, eq=False)
class JointTables(MixtureTables):
    """Components gain or lose weight with each colour.

    The logistic mass between a and b is 2 sinh(h) / (4 cosh(a / 2) cosh(b / 2)), h = (b - a) / 2 half a value in
    scales. log_sinh: ln(2 sinh h) by log scale from -896, 1/2048. softplus: ln(1 + exp(-i / 1024)), 1/2048, i from 0
    to the logistic table's reach.
    """

    log_sinh: Int32
    softplus: Int32


class JointMixture(NamedTuple):
    """logit (B, M, H, W); mean, log_scale, colour (B, 3, M, H, W): a mixture whose components hold all three colours.

    colour has the coefficients that colours before add to the means: red to green, red to blue, green to blue.
    """

    logit: Tensor
    mean: Tensor
    log_scale: Tensor
    colour: Tensor


def joint_mixture(raw: Tensor) -> JointMixture:
    """The mixture of raw parameters (B, 10 M, H, W)."""
    b, channels, h, w = raw.shape
    count = channels // 10
    mean, log_scale, colour = raw[:, count:].view(b, 3, 3, count, h, w).unbind(2)
    return JointMixture(raw[:, :count], mean, log_scale.clamp_min(LOG_SCALE_RANGE[0]), torch.tanh(colour))


def joint_nats(raw: Tensor, x: Tensor, bits: int, tail_edge: float) -> Tensor:
    """-log p(x) of a discretised joint mixture, (B, H, W); raw (B, 10 M, H, W).

    Values above ``tail_edge`` take the whole upper tail. The official 0.99 makes 254 of 255 one of them, so that the
    values of 8 bits have a little more than all the probability.
    """
    mixture, half = joint_mixture(raw), 1 / (2**bits - 1)
    seen = x[:, :, None]
    d = seen - shifted_mean(mixture, seen)
    inverse = torch.exp(-mixture.log_scale)
    upper, lower = inverse * (d + half), inverse * (d - half)
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    middle = inverse * d
    # where the difference of sigmoids loses its digits, the density at the middle times the bin's width
    density = middle - mixture.log_scale - 2 * F.softplus(middle) + math.log(2 * half)
    inner = torch.where(mass > 1e-5, mass.clamp_min(1e-10).log(), density)
    last = torch.where(seen > tail_edge, -F.softplus(lower), inner)
    log_p = torch.where(seen < -0.999, upper - F.softplus(upper), last)
    return -torch.logsumexp(log_p.sum(1) + F.log_softmax(mixture.logit, 1), 1)


def shifted_mean(mixture: JointMixture, x: Tensor) -> Tensor:
    """Means once the colours before are known, (B, 3, M, H, W); x (B, 3, 1, H, W)."""
    red, green = x[:, 0], x[:, 1]
    mean, colour = mixture.mean, mixture.colour
    blue = mean[:, 2] + colour[:, 1] * red + colour[:, 2] * green
    return torch.stack([mean[:, 0], mean[:, 1] + colour[:, 0] * red, blue], 1)


def joint_sample(raw: Tensor, u_component: Tensor, u_logistic: Tensor, temperature: float = 1.0) -> Tensor:
    """An image in [-1, 1] (B, 3, H, W) from uniform numbers (B, M, H, W) and (B, 3, H, W) in (0, 1)."""
    mixture = joint_mixture(raw)
    gumbel = -torch.log(-torch.log(u_component))
    chosen = (mixture.logit / temperature + gumbel).argmax(1, keepdim=True)[:, None].expand(-1, 3, 1, -1, -1)
    mean, log_scale, colour = (part.gather(2, chosen)[:, :, 0] for part in mixture[1:])
    noise = (torch.log(u_logistic) - torch.log(1 - u_logistic)) / temperature
    return _autoregress(mean + torch.exp(log_scale) * noise, colour)


def joint_mean(raw: Tensor) -> Tensor:
    """The image of mean parameters, in [-1, 1], (B, 3, H, W)."""
    mixture = joint_mixture(raw)
    weight = F.softmax(mixture.logit, 1)[:, None]
    return _autoregress((mixture.mean * weight).sum(2), (mixture.colour * weight).sum(2))


def _autoregress(own: Tensor, colour: Tensor) -> Tensor:
    """Colours one after another, each clamped to [-1, 1] before the next sees it."""
    red = own[:, 0].clamp(-1, 1)
    green = (own[:, 1] + colour[:, 0] * red).clamp(-1, 1)
    blue = (own[:, 2] + colour[:, 1] * red + colour[:, 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], 1)


class JointCoder(PixelCoder):
    """The colours of a pixel share their component."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        k, host = self.model.components, parameters.cpu().numpy()
        self.first_logit = self.logit = host[:k]
        self.mean, self.log_scale, raw = host[k:].reshape(3, 3, k, -1).swapaxes(0, 1)
        self.tables = cast(JointTables, self.model.tables)
        # red to green, red to blue, green to blue, each a component
        self.coefficients = self.tables.tanh.take(raw + PIXEL_RAW_BOUND)
        self.unit, self.middle = level_unit(self.model.value_bits), int(half_range(self.model.value_bits))

    def distribution(self, colour: int) -> Mixture:
        """Of the next colour."""
        return Mixture(self.model, self.mean[colour], self.log_scale[colour], self.logit, self.centre(colour))

    def real_bits(self, colour: int, values: Int32, at: slice) -> Float64:
        """-log2 p of values, (n,)."""
        logit = self.first_logit[:, at] / LOGIT_UNIT
        known = [before[at] for before in self.values[:colour]]
        for index, seen in enumerate([*known, values]):
            centre = self.mean[index][:, at] + self.centre(index, at)
            mass = component_masses(self.model, seen, centre, self.log_scale[index][:, at])
            if index < colour:
                logit = logit + np.log(mass)
        return mixture_bits(logit, mass)

    def centre(self, colour: int, at: slice = slice(None)) -> Int32:
        """What is added to the means of the next colour (K, n): the middle, and what earlier colours contribute."""
        total = np.zeros((self.model.components, len(self.values[0][at]) if colour else 1), np.int32)
        for before in range(colour):
            coefficient = self.coefficients[colour - 1 + before][:, at]
            total += coefficient * (self.unit * self.values[before][at] - self.middle)
        return self.middle + (total + COLOUR_UNIT // 2 >> COLOUR_UNIT.bit_length() - 1)

    def observe(self, values: Int32) -> None:
        """Weigh the components by what each says of the values (n,) of the next colour."""
        colour = len(self.values)
        if colour < 2:
            self.logit = self.logit + self._log_probability(colour, values)
        super().observe(values)

    def _log_probability(self, colour: int, values: Int32) -> Int32:
        """ln p_j of values under each component, (K, n), in units of logits; :class:`JointTables` has the formula."""
        scale = np.clip(self.log_scale[colour], LOG_SCALE_LOW, LOG_SCALE_HIGH) - LOG_SCALE_LOW
        middle = (self.unit * values - self.mean[colour] - self.centre(colour)).astype(np.float32)
        inverse = self.tables.inverse_scale.take(scale)
        below = _steps(middle - self.unit // 2, inverse)
        above = _steps(middle + self.unit // 2, inverse)
        below_cost, above_cost = self._log_cosh(below), self._log_cosh(above)
        nats: Int32 = self.tables.log_sinh.take(scale) - below_cost - above_cost
        # the values at both ends also take the mass beyond them
        nats = np.where(values == 0, above - above_cost, nats)
        nats = np.where(values == self.model.top_value, -below - below_cost, nats)
        return nats >> NATS_SHIFT

    def _log_cosh(self, steps: Int32) -> Int32:
        """ln(2 cosh(t / 2)) = |t| / 2 + ln(1 + exp(-|t|)) in 1/2048 nat; t in steps of 1/1024."""
        size = np.abs(steps)
        return size + self.tables.softplus.take(np.minimum(size, LOGISTIC_REACH * LOGISTIC_UNIT))


def _steps(distance: NDArray[np.float32], inverse: NDArray[np.float32]) -> Int32:
    """Integer steps of the logistic table: one product, one rounding, the same everywhere."""
    whole: Int32 = np.clip(np.rint(distance * inverse), -FURTHEST, FURTHEST).astype(np.int32)
    return whole


class Kind(CodedLikelihood):
    """Raw parameters are logits, then means, log scales and coefficients of three colours: 10K."""

    pixel_bits, raw_bound = 16, PIXEL_RAW_BOUND
    tables, coder = JointTables, JointCoder

    def raw_channels(self, channels: int, components: int) -> int:
        """10K."""
        return 10 * components

    def nats(self, raw: Tensor, prediction: Tensor, x: Tensor, recipe: Recipe) -> Tensor:
        """-log p(x), (B, h, w)."""
        return joint_nats(raw, x, recipe.image.bits, recipe.likelihood.tail_edge)

    def pixels(self, raw: Tensor, prediction: Tensor, recipe: Recipe, uniform: Uniform | None) -> Tensor:
        """Pixels, or their mean."""
        if uniform is None:
            return joint_mean(raw)
        return joint_sample(raw, uniform(recipe.likelihood.components), uniform(3))

    def raw_scale(self, recipe: Recipe) -> list[float]:
        """Units of logits, and of means, log scales and coefficients for each colour."""
        k, mean = recipe.likelihood.components, 1 / half_range(recipe.image.bits)
        return [1 / LOGIT_UNIT] * k + ([mean] * k + [1 / LOG_SCALE_UNIT] * k + [1 / COLOUR_UNIT] * k) * 3

    def make_tables(self, latents: LatentTables, value_bits: int) -> JointTables:
        """The tables of a new model."""
        half_value = np.exp(-log_scales()) / (2**value_bits - 1)
        steps = np.arange(LOGISTIC_REACH * LOGISTIC_UNIT + 1) / LOGISTIC_UNIT
        return JointTables(
            **vars(latents),
            **make_mixture_tables(self.pixel_bits, value_bits),
            log_sinh=round_table(np.log(2 * np.sinh(half_value)) * NATS_UNIT),
            softplus=round_table(np.log1p(np.exp(-steps)) * NATS_UNIT),
        )

    def table_faults(self, model: IntegerModel) -> Iterator[str]:
        """The names of tables that are impossible."""
        yield from mixture_faults(model)
        tables = cast(JointTables, model.tables)
        if (
            not is_table(tables.log_sinh, SCALES)
            or not is_table(tables.softplus, LOGISTIC_REACH * LOGISTIC_UNIT + 1)
            or max(abs(tables.log_sinh).max(), abs(tables.softplus).max()) >= 2**24
        ):
            yield "log_sinh, softplus"
