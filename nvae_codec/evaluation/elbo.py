"""The two bounds that a file is measured against: the float ELBO and the integer-model ELBO (docs/theory.md).

The integer-model ELBO is that of the integer network: its integer parameters with real-valued distributions. What a
file takes beyond it is the overhead of coding; the difference between the two bounds is the price of exactness. Both
are of the whole image, without tiles, and the mean of several draws of z from a stated seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.coding.batch import Batch, order_colours
from nvae_codec.coding.canvas import Canvas, gather_plane, plane_size
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.latents import Binned, Posterior, Prior
from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.levels import find_levels
from nvae_codec.images.limits import check_pixels
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.tables import FIXED
from nvae_codec.polyphase import Phase, Plane, list_phases
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.schedule.tiles import Tile

if TYPE_CHECKING:
    from nvae_codec.network.nvae import Nvae

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class ImageElbo:
    """A negative ELBO in bits, by part. kl: per group, from the top; pixels: per phase; dims: H * W * C.

    control: of a single draw, the control variate of each group's KL: what the noise of the draw adds to it, zero in
    the mean. Subtracting it reduces the variance and leaves the mean.
    """

    kl: tuple[float, ...]
    pixels: tuple[float, ...]
    dims: int
    control: tuple[float, ...] = ()

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


def noise_of(pixels: NDArray[np.uint8], seed: int) -> np.random.Generator:
    """The noise of the draws for an image: numpy's PCG64 of the seed and of the XXH3-64 of the image's bytes.

    Noise differs between images, so that its effect averages out over them.
    """
    own = xxhash.xxh3_64_intdigest(np.ascontiguousarray(pixels).tobytes())
    return np.random.Generator(np.random.PCG64([seed, own]))


def integer_elbo(
    pixels: NDArray[np.uint8], model: IntegerModel | ModelCodec, *, seed: int = 0, samples: int = 4
) -> ImageElbo:
    """The negative integer-model ELBO of an image, uint8 (H, W, 3), or (H, W) gray: under RGB, of one colour of three.

    Latents are drawn on the fine grid with the :func:`noise_of` the image. Φ and the logistic function are evaluated
    in float64.
    """
    return mean_of(integer_draws(pixels, model, seed=seed, samples=samples))


def mean_of(draws: Sequence[ImageElbo]) -> ImageElbo:
    """The mean of draws of one image, part by part, less their control variates. Raises ValueError without draws."""
    if not draws:
        raise ValueError("a mean needs one sample at least")
    kl = np.sum([(np.array(draw.kl) - (draw.control or 0.0)) / len(draws) for draw in draws], axis=0)
    pixels = np.sum([np.array(draw.pixels) / len(draws) for draw in draws], axis=0)
    return ImageElbo(tuple(kl.tolist()), tuple(pixels.tolist()), draws[0].dims)


def integer_draws(
    pixels: NDArray[np.uint8], model: IntegerModel | ModelCodec, *, seed: int = 0, samples: int = 4
) -> list[ImageElbo]:
    """The draws that :func:`integer_elbo` is the mean of: each -log2 p(x, z) / q(z|x) of one z, by part."""
    device = model.device if isinstance(model, ModelCodec) else torch.device("cpu")
    ready = model.ready() if isinstance(model, ModelCodec) else exact_inference(device)
    model = model.model if isinstance(model, ModelCodec) else model
    rng = noise_of(pixels, seed)
    draws = []
    with ready:
        for _ in range(samples):
            batch, control = _whole_image(pixels, model, device), list[float]()

            def choose(_: int, posterior: Posterior, control: list[float] = control) -> NDArray[np.int32]:
                symbols, variate = draw_latents(posterior, rng)
                control.append(variate)
                return symbols

            costs = measure_costs(batch, choose)
            draws.append(ImageElbo(costs.kl, costs.phases, pixels.size, tuple(control)))
    return draws


def importance_bound(draws: Sequence[ImageElbo]) -> float:
    """-log2 of the mean of p(x, z) / q(z|x), in bits: the bound of Burda et al. 2016, at most ``mean_of`` the draws.

    The mean of their control variates is subtracted here too.
    """
    bits = np.array([draw.bits for draw in draws])
    least = bits.min()
    control = math.fsum(math.fsum(draw.control) for draw in draws) / len(draws)
    return float(least - np.log2(np.mean(np.exp2(least - bits)))) - control


@dataclass(frozen=True)
class Costs:
    """Real-valued costs of a batch in bits: of each group's symbols (n,), of each phase's values (C, n)."""

    prior: list[Float64]
    posterior: list[Float64]
    pixels: list[Float64]

    @property
    def kl(self) -> tuple[float, ...]:
        """The net cost of each group's latents: log2 q / p of the symbols."""
        return tuple(float((p - q).sum()) for p, q in zip(self.prior, self.posterior, strict=True))

    @property
    def phases(self) -> tuple[float, ...]:
        """The cost of the pixels of each phase."""
        return tuple(float(phase.sum()) for phase in self.pixels)


def measure_costs(batch: Batch, choose: Callable[[int, Posterior], NDArray[np.int32]]) -> Costs:
    """-log2 of prior, posterior and likelihood of a batch whose canvas is full, real-valued, in float64.

    ``choose(group, posterior)`` gives the group's symbols under the posterior, which the groups after it and the pixels
    depend on.
    """
    costs = Costs([], [], [])
    batch.show_image()
    for index in range(len(batch.model.groups)):
        prior = batch.prior(index)
        posterior = batch.posterior(index, prior)
        symbols = choose(index, posterior)
        flown = posterior.to_prior(symbols)
        costs.prior.append(_prior_bits(prior, flown))
        costs.posterior.append(_posterior_bits(posterior, symbols))
        batch.set_latents(index, prior.z(flown))
    for index in range(len(batch.model.phases)):
        costs.pixels.append(batch.likelihood(index).measure(batch.known_values(index)))
    return costs


def _whole_image(pixels: NDArray[np.uint8], model: IntegerModel, device: torch.device) -> Batch:
    canvas = fill_canvas(
        pixels, model.colour_order, model.stride, model.phases, value_bits=model.value_bits, edge=model.padding
    )
    return Batch(model, canvas, first=False, chunk=None, device=device, gray=pixels.ndim == 2)


def fill_canvas(
    pixels: NDArray[np.uint8],
    colour_order: tuple[int, ...],
    stride: int,
    phases: list[Phase],
    *,
    value_bits: int = 8,
    edge: int = 0,
) -> Canvas:
    """A whole image as one tile, padded as the codec pads; gray for three colours as three equal ones.

    Raises TypeError, ValueError and UnsupportedImageError as ``compress`` does.
    """
    if np.ndim(pixels) == 2 and len(colour_order) == 3:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    check_pixels(pixels, len(colour_order))
    height, width = pixels.shape[:2]
    canvas = Canvas(1, (height, width), stride, len(colour_order), edge)
    levels = find_levels(pixels, value_bits)
    if levels is None:
        raise UnsupportedImageError(f"values that {value_bits} bits do not show")
    planes = order_colours(levels[1], colour_order)
    for phase in phases:
        canvas.write(phase.plane, gather_plane([planes], [Tile(0, 0, height, width)], phase.plane))
    return canvas


def draw_latents(posterior: Posterior, rng: np.random.Generator) -> tuple[NDArray[np.int32], float]:
    """Symbols drawn from the posterior, and the control variate of the draw: bits of log2 q / p beyond their mean.

    The noise is drawn for pruned channels too, so that it is that of the float bound. The mean of log q / p is known
    for Normal distributions, so the variate's own mean is zero; with flows it is not known, and the variate is 0.
    """
    mean, sigma = _posterior(posterior)
    group, (images, _, rows, columns) = posterior.prior.group, posterior.prior.shape
    noise = rng.standard_normal((images, group.channels, rows, columns))[:, posterior.prior.active]
    noise = noise.ravel()
    u = mean + sigma * noise
    drawn = np.rint(u / (posterior.step / 2**FIXED))
    symbols: NDArray[np.int32] = (np.clip(drawn, -posterior.half, posterior.half) + posterior.half).astype(np.int32)
    nats = 0.0 if group.flow_bounds else float((1 - noise**2 + u**2 - mean**2 - sigma**2).sum()) / 2
    return symbols, nats / math.log(2)


def _posterior(posterior: Posterior) -> tuple[Float64, Float64]:
    """Means and sigmas in prior units."""
    return posterior.mean / 2**FIXED, 2.0**16 / np.maximum(posterior.inverse_sigma, 1)


def _prior_bits(prior: Prior, symbols: NDArray[np.int32]) -> Float64:
    """-log2 p of the symbols' bins."""
    return -np.log2(normal_mass(*_bin_ends(prior, symbols)))


def _posterior_bits(posterior: Posterior, symbols: NDArray[np.int32]) -> Float64:
    """-log2 q of the symbols' bins."""
    mean, sigma = _posterior(posterior)
    low, high = _bin_ends(posterior, symbols)
    return -np.log2(normal_mass((low - mean) / sigma, (high - mean) / sigma))


def _bin_ends(latents: Binned, symbols: NDArray[np.int32]) -> tuple[Float64, Float64]:
    """In prior units; the outermost bins have no outer end."""
    step, k = latents.step / 2**FIXED, symbols.astype(np.int64) - latents.half
    low = np.where(k <= -latents.half, -np.inf, (k - 0.5) * step)
    return low, np.where(k >= latents.half, np.inf, (k + 0.5) * step)


def normal_mass(low: Float64, high: Float64) -> Float64:
    """Φ(high) - Φ(low), from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    mass: Float64 = (torch.special.ndtr(torch.from_numpy(b)) - torch.special.ndtr(torch.from_numpy(a))).numpy()
    return np.maximum(mass, 1e-300)


@torch.inference_mode()
def float_elbo(pixels: NDArray[np.uint8], network: Nvae, *, seed: int = 0, samples: int = 4) -> ImageElbo:
    """The negative float ELBO of an image, uint8 (H, W, 3), or (H, W) gray: under RGB, of one colour of three.

    z is continuous and has the noise of :func:`integer_elbo`, so that the difference of the bounds has little noise.
    With flows the KL is that of the draws. Raises UnsupportedImageError for gray if colours share a mixture component:
    the first colour alone has no density there.
    """
    from nvae_codec.network.likelihood import pixel_nats

    recipe: Recipe = network.recipe
    one_of_three = pixels.ndim == 2 and recipe.image.channels == 3
    if one_of_three and recipe.likelihood.kind != "colourwise":
        raise UnsupportedImageError("gray has no float ELBO under a joint mixture of colours")
    phases, bits = list_phases(recipe.likelihood.scales), recipe.value_bits
    canvas = fill_canvas(
        pixels, tuple(network.colour_order), recipe.stride, phases, value_bits=bits, edge=recipe.image.padding
    )
    x = torch.from_numpy(canvas.pixels).float() * (2 / (2**bits - 1)) - 1
    x = x.contiguous(memory_format=torch.channels_last)
    rng = noise_of(pixels, seed)
    kl, nats = np.zeros(len(network.latents)), np.zeros(len(phases))

    def draw(group: int, raw_prior: Tensor | None, raw: Tensor) -> Tensor:
        shape = (len(raw), raw.shape[1] // 2, *raw.shape[2:])
        drawn = network.draw(group, raw_prior, raw, torch.from_numpy(rng.standard_normal(shape)).float())
        kl[group] += float(drawn.kl.double().sum()) / samples / math.log(2)
        return drawn.z

    def look(plane: Plane) -> Tensor:
        seen: Tensor = x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]
        return seen

    def score(index: int, raw: Tensor) -> None:
        rows, columns = plane_size(canvas.size, phases[index].plane)
        own = pixel_nats(raw, phases[index], look, recipe)[..., :rows, :columns]
        own = own[:, :1] if one_of_three else own  # the codec codes the first colour, and the others equal it
        nats[index] += float(own.double().sum()) / samples / math.log(2)

    for _ in range(samples):
        network.likelihood(network.hierarchy(x, network.blank(x), draw), look, score)
    return ImageElbo(tuple(kl.tolist()), tuple(nats.tolist()), pixels.size)
