"""Images from a float network: samples of its prior, and what it keeps of images that it is shown.

Every image has its own streams of random numbers. It depends on the seed and its number, but not on the other images or
on the size of a batch.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.likelihood import Look, Predict, phase_pixels
from nvae_codec.network.normal import Normal, normal_of_raw
from nvae_codec.network.nvae import Nvae
from nvae_codec.polyphase import Plane
from nvae_codec.recipes.recipe import Recipe

Images = NDArray[np.uint8]
"""(N, H, W, C), C of 1 or 3."""
Pixels = Literal["auto", "draw", "mean"]
"""How pixels follow from the latents; auto, as official, draws them but takes the mean of a Bernoulli."""
BATCH = 8
LEAST_UNIFORM = 1e-5
"""The distance of uniform numbers from 0 and 1, as in the official code."""
OFFICIAL_PASSES, OFFICIAL_BATCH = 500, 16
"""The official re-adjustment of batch norms: batches, and samples per batch."""
STREAMS = 6
"""Streams of random numbers of a phase: for each of three colours its component and its position."""
LARGEST_SIDE = 256
"""Of crops to be reconstructed, where no size is given."""


class ImageNoise:
    """The random numbers of a batch of images, each from the streams of its own number."""

    def __init__(self, seed: int, images: list[int], device: torch.device) -> None:
        self.seed, self.images, self.device = seed, images, device

    def normal(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1), (B, *shape)."""
        return self._draw(stream, lambda generator: torch.randn(shape, generator=generator))

    def uniform(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        """Uniform in (0, 1), (B, *shape)."""
        drawn = self._draw(stream, lambda generator: torch.rand(shape, generator=generator))
        return drawn.clamp(LEAST_UNIFORM, 1 - LEAST_UNIFORM)

    def _draw(self, stream: int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        drawn = []
        for image in self.images:
            state = np.random.SeedSequence([self.seed, image, stream]).generate_state(1, np.uint64)
            drawn.append(draw(torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))))
        return torch.stack(drawn).to(self.device)


@torch.inference_mode()
def sample(
    network: Nvae,
    count: int,
    size: tuple[int, int] | None = None,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    pixels: Pixels = "auto",
    fixed_groups: int = 0,
    columns: int = 1,
    on_images: Callable[[int], object] = lambda count: None,
) -> Images:
    """``count`` images from the prior, uint8 (count, H, W, C).

    size: (H, W) in pixels, by default that of the training's crops. temperature: factor of every prior sigma (NVAE,
    Qualitative Results); at 0 each z is its prior's mean. fixed_groups: every ``columns`` images in turn share the z of
    so many groups from the top, as in the paper's figure of its scales. Raises NvaeCodecError for a size that the model
    does not have.
    """
    side = network.recipe.training.crop
    rows_columns = network_size(network.recipe, *(size or (side, side)))
    made = []
    for start in range(0, count, BATCH):
        numbers = list(range(start, min(start + BATCH, count)))
        own, shared = (
            image_noise(network, seed, numbers),
            image_noise(network, seed, [n // columns * columns for n in numbers]),
        )
        features = _from_prior(network, len(numbers), rows_columns, own, shared, temperature, fixed_groups)
        made.append(images_of(network, features, own, pixels, rows_columns))
        on_images(len(numbers))
    return np.concatenate(made)


@torch.inference_mode()
def reconstruct(
    network: Nvae,
    images: Images,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    pixels: Pixels = "auto",
    on_images: Callable[[int], object] = lambda count: None,
) -> Images:
    """What the latents keep of images, uint8 (N, H, W, C) to the same: z from the posterior, pixels only from z.

    temperature: factor of every posterior sigma; at 0 each z is its posterior's mean. Phases see the pixels that
    earlier phases made, never those of the image. Raises NvaeCodecError for images whose size the model does not have.
    """
    rows_columns = network_size(network.recipe, *images.shape[1:3])
    device, made = _device(network), []
    for start in range(0, len(images), BATCH):
        shown = images[start : start + BATCH]
        noise = image_noise(network, seed, list(range(start, start + len(shown))))
        torch.manual_seed(seed)  # binary pixels are drawn
        x = network.normalize(torch.from_numpy(shown.transpose(0, 3, 1, 2).copy()).to(device))

        def choose(group: int, raw_prior: Tensor | None, raw: Tensor, noise: ImageNoise = noise) -> Tensor:
            drawn = noise.normal(group, (raw.shape[1] // 2, *raw.shape[2:]))
            return network.draw(group, raw_prior, raw, temperature * drawn).z

        features = network.hierarchy(x, network.blank(x), choose)
        made.append(images_of(network, features, noise, pixels, rows_columns))
        on_images(len(shown))
    return np.concatenate(made)


@torch.inference_mode()
def readjust_batch_norm(
    network: Nvae, temperature: float, passes: int = OFFICIAL_PASSES, size: tuple[int, int] | None = None, seed: int = 0
) -> None:
    """Re-adjust the statistics of the decoder's batch norms to samples of a temperature (NVAE, Qualitative Results).

    At a low temperature features are not what training saw. ``passes`` batches of 16 samples move the statistics, as
    the official --readjust_bn does. The network's statistics change, its weights do not.
    """
    side = network.recipe.training.crop
    rows_columns = network_size(network.recipe, *(size or (side, side)))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    modes = [norm.training for norm in norms]
    for norm in norms:
        norm.train()
    for index in range(passes):
        first = OFFICIAL_BATCH * index
        noise = image_noise(network, seed, list(range(first, first + OFFICIAL_BATCH)))
        _from_prior(network, OFFICIAL_BATCH, rows_columns, noise, noise, temperature, 0)
    for norm, mode in zip(norms, modes, strict=True):
        norm.train(mode)


def groups_of_scales(recipe: Recipe, scales: int) -> int:
    """Groups on the ``scales`` coarsest scales. Raises NvaeCodecError where the model has fewer scales."""
    groups = recipe.network.groups
    if scales > len(groups):
        raise NvaeCodecError(f"{scales} scales cannot be held fixed: the model {recipe.name} has {len(groups)}")
    return sum(groups[len(groups) - scales :])


def network_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """The rows and columns that the network sees of such images. Raises NvaeCodecError where it cannot see them."""
    stride, padding, top = recipe.stride, 2 * recipe.image.padding, recipe.network.top_size
    rows, columns = height + padding, width + padding
    if top and (rows, columns) != (top * stride, top * stride):
        side = top * stride - padding
        raise NvaeCodecError(f"the model {recipe.name} knows images of {side}x{side} alone, not {width}x{height}")
    if rows % stride or columns % stride or not height or not width:
        around = f" (with {padding} around them)" if padding else ""
        raise NvaeCodecError(
            f"the sides of images of the model {recipe.name} are multiples of {stride}{around}; {width}x{height} is not"
        )
    return rows, columns


def crop_middles(images: Sequence[NDArray[np.uint8]], recipe: Recipe, size: tuple[int, int] | None = None) -> Images:
    """The middle of each image, uint8 (H, W, 3), in the colours and one size (H, W) that a model can see.

    Without a size the only one that it has, or the largest that all images have, at most 256. Raises NvaeCodecError
    where an image is too small or has colours that the model does not.
    """
    if size is None:
        stride, padding, top = recipe.stride, 2 * recipe.image.padding, recipe.network.top_size
        least = [min(LARGEST_SIDE, *(image.shape[axis] for image in images)) for axis in (0, 1)]
        sides = [top * stride - padding if top else (n + padding) // stride * stride - padding for n in least]
        size = (max(sides[0], stride - padding), max(sides[1], stride - padding))
    network_size(recipe, *size)
    middles = []
    for image in images:
        (height, width), channels = image.shape[:2], recipe.image.channels
        if height < size[0] or width < size[1]:
            raise NvaeCodecError(f"an image of {width}x{height} is smaller than {size[1]}x{size[0]}")
        if channels == 1 and (image != image[:, :, :1]).any():
            raise NvaeCodecError(f"the model {recipe.name} knows gray images alone")
        y, x = (height - size[0]) // 2, (width - size[1]) // 2
        middles.append(image[y : y + size[0], x : x + size[1], :channels])
    return np.stack(middles)


def make_grid(images: Images, columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Images in rows of ``columns`` on white, uint8 (H, W) or (H, W, 3)."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, min(columns, count) * (width + gap) - gap, channels)
    grid = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        grid[y : y + height, x : x + width] = image
    return grid[:, :, 0] if channels == 1 else grid


def make_pairs(originals: Images, made: Images, columns: int) -> NDArray[np.uint8]:
    """A grid of originals, each row of ``columns`` above the row of what was made of it."""
    columns = min(columns, len(originals))
    blank = np.full((-len(originals) % columns, *originals.shape[1:]), 255, np.uint8)
    rows = [np.concatenate([images, blank]) for images in (originals, made)]
    paired = [group[at : at + columns] for at in range(0, len(rows[0]), columns) for group in rows]
    return make_grid(np.concatenate(paired), columns)


def image_noise(network: Nvae, seed: int, numbers: list[int]) -> ImageNoise:
    """The random numbers of images by their numbers, on the network's device."""
    return ImageNoise(seed, numbers, _device(network))


def _device(network: Nvae) -> torch.device:
    return next(network.parameters()).device


def _from_prior(
    network: Nvae,
    count: int,
    size: tuple[int, int],
    own: ImageNoise,
    shared: ImageNoise,
    temperature: float,
    fixed_groups: int,
) -> Tensor:
    """Features of ``count`` images whose z come from the priors."""
    stride = network.recipe.stride
    blank = torch.zeros(count, 1, size[0] // stride, size[1] // stride, device=_device(network))

    def choose(group: int, raw_prior: Tensor | None) -> Tensor:
        latents = network.latents[group]
        where = blank.shape[2:] if raw_prior is None else raw_prior.shape[2:]
        noise = (shared if group < fixed_groups else own).normal(group, (latents, *where))
        prior: Normal = normal_of_raw(raw_prior, noise.repeat(1, 2, 1, 1))
        return prior.mean + temperature * prior.sigma * noise

    return network.hierarchy.generate(blank, choose)


def images_of(network: Nvae, features: Tensor, noise: ImageNoise, how: Pixels, size: tuple[int, int]) -> Images:
    """Pixels of features, phase after phase: uint8 (B, H, W, C), RGB, without padding."""
    recipe, phases = network.recipe, network.likelihood.phases
    draws = how == "draw" or (how == "auto" and not recipe.is_binary)
    x = features.new_zeros(len(features), recipe.image.channels, *size)
    first_stream = len(network.latents)

    def look(plane: Plane) -> Tensor:
        return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

    def fill(index: int, raw: Tensor) -> None:
        streams = itertools.count(first_stream + STREAMS * index)

        def uniform(channels: int) -> Tensor:
            return noise.uniform(next(streams), (channels, *raw.shape[2:]))

        phase = phases[index]
        look(phase.plane).copy_(phase_pixels(raw, phase, cast(Look, look), recipe, uniform if draws else None))

    network.likelihood(features, cast(Look, look), cast(Predict, fill))
    edge = recipe.image.padding
    inner = F.pad(x, [-edge] * 4)[:, np.argsort(network.colour_order).tolist()]
    levels = torch.round((inner.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
