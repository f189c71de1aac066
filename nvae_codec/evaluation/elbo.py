"""The two bounds that a file is measured against: the float network's ELBO and the exact one (docs/theory.md).

Both are of the whole picture, without tiles, as the mean of several draws of z from a stated seed. The exact one uses
the frozen network's whole-number parameters with real-valued distributions; what a file takes beyond it is overhead of
coding, what it takes beyond the float one is the price of exactness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.coding.batch import Batch, PhaseLikelihood, order_colours
from nvae_codec.coding.codec import ModelCodec, cut_plane
from nvae_codec.coding.latents import GroupLatents
from nvae_codec.coding.pixels import colour_centre
from nvae_codec.coding.tiles import Canvas, Tile, plane_size
from nvae_codec.exact.inference import exact_inference
from nvae_codec.exact.model import FrozenModel
from nvae_codec.exact.tables import (
    FIXED,
    LEVEL_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
)
from nvae_codec.images.limits import check_pixels
from nvae_codec.phases import Phase, Plane, list_phases
from nvae_codec.recipe import Recipe

if TYPE_CHECKING:
    from nvae_codec.network.nvae import Nvae

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class PictureElbo:
    """A negative ELBO in bits, by part. kl: an entry a group from the top; pixels: an entry a phase; dims: H·W·3."""

    kl: tuple[float, ...]
    pixels: tuple[float, ...]
    dims: int

    @property
    def bits(self) -> float:
        """The whole, in bits."""
        return math.fsum(self.kl) + math.fsum(self.pixels)

    @property
    def bits_per_dim(self) -> float:
        """The whole, in bits/dim."""
        return self.bits / self.dims

    def __float__(self) -> float:
        return self.bits_per_dim


def exact_elbo(
    pixels: NDArray[np.uint8], model: FrozenModel | ModelCodec, *, seed: int = 0, samples: int = 4
) -> PictureElbo:
    """The exact network's negative ELBO of a picture, uint8 (H, W, 3).

    Latents are drawn on the fine grid with numpy's PCG64(seed); Φ and the logistic function are real-valued, float64.
    """
    return mean_of(exact_draws(pixels, model, seed=seed, samples=samples))


def mean_of(draws: Sequence[PictureElbo]) -> PictureElbo:
    """The mean of draws of one picture, part by part. Raises ValueError where there are none."""
    if not draws:
        raise ValueError("a mean needs one sample at least")
    kl = np.sum([np.array(draw.kl) / len(draws) for draw in draws], axis=0)
    pixels = np.sum([np.array(draw.pixels) / len(draws) for draw in draws], axis=0)
    return PictureElbo(tuple(kl.tolist()), tuple(pixels.tolist()), draws[0].dims)


def exact_draws(
    pixels: NDArray[np.uint8], model: FrozenModel | ModelCodec, *, seed: int = 0, samples: int = 4
) -> list[PictureElbo]:
    """The draws that :func:`exact_elbo` is the mean of: each -log2 p(x, z) / q(z|x) of one z, by part."""
    device = model.device if isinstance(model, ModelCodec) else torch.device("cpu")
    model = model.model if isinstance(model, ModelCodec) else model
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = []
    with exact_inference(device):
        for _ in range(samples):
            batch = _whole_picture(pixels, model, device)
            costs = measure_costs(batch, lambda _, latents: draw_latents(latents, rng))
            draws.append(PictureElbo(costs.kl, costs.phases, pixels.size))
    return draws


def importance_bound(draws: Sequence[PictureElbo]) -> float:
    """-log2 of the mean of p(x, z) / q(z|x), in bits: the bound of Burda et al. 2016, at most the ELBO's."""
    bits = np.array([draw.bits for draw in draws])
    least = bits.min()
    return float(least - np.log2(np.mean(np.exp2(least - bits))))


@dataclass(frozen=True)
class Costs:
    """Real-valued costs of a batch in bits: of each group's symbols (n,), of each phase's values (3, n)."""

    prior: list[Float64]
    posterior: list[Float64]
    pixels: list[Float64]

    @property
    def kl(self) -> tuple[float, ...]:
        """What is paid for the latents of each group: log2 q / p of the symbols."""
        return tuple(float((p - q).sum()) for p, q in zip(self.prior, self.posterior, strict=True))

    @property
    def phases(self) -> tuple[float, ...]:
        """What is paid for the pixels of each phase."""
        return tuple(float(phase.sum()) for phase in self.pixels)


def measure_costs(batch: Batch, choose: Callable[[int, GroupLatents], NDArray[np.int32]]) -> Costs:
    """-log2 of prior, posterior and likelihood of a batch whose canvas is full, real-valued, in float64.

    ``choose(group, latents)`` gives the group's symbols, which the groups after it and the pixels depend on.
    """
    costs = Costs([], [], [])
    batch.show_image()
    for index in range(len(batch.model.groups)):
        latents = batch.prior(index)
        batch.add_posterior(index, latents)
        symbols = choose(index, latents)
        prior, posterior = _latent_bits(latents, symbols)
        costs.prior.append(prior)
        costs.posterior.append(posterior)
        batch.set_latents(index, latents, symbols)
    for index, phase in enumerate(batch.model.phases):
        costs.pixels.append(_pixel_bits(batch, index, phase))
    return costs


def _whole_picture(pixels: NDArray[np.uint8], model: FrozenModel, device: torch.device) -> Batch:
    canvas = fill_canvas(pixels, model.colour_order, model.stride, model.phases)
    return Batch(model, canvas, first=False, chunk=None, device=device)


def fill_canvas(pixels: NDArray[np.uint8], colour_order: tuple[int, ...], stride: int, phases: list[Phase]) -> Canvas:
    """A whole picture as one tile, padded as the codec pads. Raises TypeError and ValueError as ``compress`` does."""
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    canvas = Canvas(1, (height, width), stride)
    planes = order_colours(pixels, colour_order)
    for phase in phases:
        canvas.write(phase.plane, cut_plane([planes], [Tile(0, 0, height, width)], phase.plane))
    return canvas


def draw_latents(latents: GroupLatents, rng: np.random.Generator) -> NDArray[np.int32]:
    """Symbols drawn from the posterior."""
    mean, sigma = _posterior(latents)
    drawn = np.rint((mean + sigma * rng.standard_normal(latents.count)) / (latents.step / 2**FIXED))
    symbols: NDArray[np.int32] = (np.clip(drawn, -latents.half, latents.half) + latents.half).astype(np.int32)
    return symbols


def _posterior(latents: GroupLatents) -> tuple[Float64, Float64]:
    """Means and sigmas in prior units."""
    return latents.posterior_mean / 2**FIXED, 2.0**16 / np.maximum(latents.posterior_inverse, 1)


def _latent_bits(latents: GroupLatents, symbols: NDArray[np.int32]) -> tuple[Float64, Float64]:
    """-log2 p and -log2 q of the symbols' bins."""
    step, k = latents.step / 2**FIXED, symbols.astype(np.int64) - latents.half
    mean, sigma = _posterior(latents)
    low = np.where(k <= -latents.half, -np.inf, (k - 0.5) * step)
    high = np.where(k >= latents.half, np.inf, (k + 0.5) * step)
    return -np.log2(normal_mass(low, high)), -np.log2(normal_mass((low - mean) / sigma, (high - mean) / sigma))


def normal_mass(low: Float64, high: Float64) -> Float64:
    """Φ(high) - Φ(low), from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    mass: Float64 = (torch.special.ndtr(torch.from_numpy(b)) - torch.special.ndtr(torch.from_numpy(a))).numpy()
    return np.maximum(mass, 1e-300)


def logistic_mass(low: Float64, high: Float64) -> Float64:
    """σ(high) - σ(low), from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    mass: Float64 = (torch.sigmoid(torch.from_numpy(b)) - torch.sigmoid(torch.from_numpy(a))).numpy()
    return mass


def _pixel_bits(batch: Batch, index: int, phase: Phase) -> Float64:
    """-log2 p of a phase's pixels, (3, n)."""
    likelihood = batch.likelihood(index)
    pixels = batch.canvas.known(phase.plane)
    bits = np.empty((3, likelihood.count))
    for colour in range(3):
        values = np.ascontiguousarray(pixels[:, colour]).ravel()
        for start in range(0, len(values), 1 << 16):
            at = slice(start, start + (1 << 16))
            bits[colour, at] = _colour_bits(batch.model, likelihood, colour, values, at)
        likelihood.observe(colour, values)
    return bits


def _colour_bits(
    model: FrozenModel, likelihood: PhaseLikelihood, colour: int, values: NDArray[np.int32], at: slice
) -> Float64:
    residuals = likelihood.residuals(colour, at)
    centre = colour_centre(model, likelihood.coefficients[:, at], likelihood.guess[colour][at], residuals)
    mean = (likelihood.mean[colour][:, at] + centre) / LEVEL_UNIT
    log_scale = np.clip(likelihood.log_scale[colour][:, at], LOG_SCALE_LOW, LOG_SCALE_HIGH) / LOG_SCALE_UNIT
    inverse = np.exp(-log_scale) / 127.5
    logit = likelihood.logit[colour][:, at] / LOGIT_UNIT
    weight = np.exp(logit - logit.max(0))
    x = values[at]
    low = np.where(x == 0, -np.inf, (x - 0.5 - mean) * inverse)
    high = np.where(x == 255, np.inf, (x + 0.5 - mean) * inverse)
    mass = (weight * logistic_mass(low, high)).sum(0) / weight.sum(0)
    bits: Float64 = -np.log2(np.maximum(mass, 1e-300))
    return bits


@torch.inference_mode()
def float_elbo(pixels: NDArray[np.uint8], network: Nvae, *, seed: int = 0, samples: int = 4) -> PictureElbo:
    """The float network's negative ELBO of a picture, uint8 (H, W, 3), with continuous z drawn from a torch seed."""
    from nvae_codec.network.likelihood import mixture_nats, neighbour_mean
    from nvae_codec.network.normal import kl_divergence, normal_of_raw

    recipe: Recipe = network.recipe
    phases = list_phases(recipe.likelihood.levels)
    canvas = fill_canvas(pixels, tuple(network.colour_order), recipe.stride, phases)
    x = torch.from_numpy(canvas.pixels).float() / 127.5 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    kl, nats = np.zeros(len(network.latents)), np.zeros(len(phases))

    def draw(group: int, raw_prior: Tensor | None, raw: Tensor) -> Tensor:
        posterior, prior = normal_of_raw(raw, raw), normal_of_raw(raw_prior, raw)
        kl[group] += float(kl_divergence(posterior, prior).double().sum()) / samples / math.log(2)
        return posterior.mean + posterior.sigma * torch.randn(posterior.mean.shape, generator=generator)

    def look(plane: Plane) -> Tensor:
        return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

    def score(index: int, raw: Tensor) -> None:
        seen = look(phases[index].plane)
        rows, columns = plane_size(canvas.size, phases[index].plane)
        each = mixture_nats(raw, neighbour_mean(phases[index], look, seen), seen, recipe.likelihood)
        nats[index] += float(each[:, :, :rows, :columns].double().sum()) / samples / math.log(2)

    for _ in range(samples):
        network.likelihood(network.hierarchy(x, network.blank(x), draw), look, score)
    return PictureElbo(tuple(kl.tolist()), tuple(nats.tolist()), pixels.size)
