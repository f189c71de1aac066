"""A training run in floating point: posteriors, priors and latents of images, and images from chosen latents.

run = nvae_codec.open_run("photo")
groups = run.infer(images)
groups[-1].kl.sum((2, 3))  # bits per image and channel
images = run.generate([group.z for group in groups])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.nvae import Draw, Nvae
from nvae_codec.network.sampling import Images, Pixels, image_noise, images_of, network_size
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.checkpoint import FILE, load_average
from nvae_codec.zoo.library import MODELS_FOLDER

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class GroupLatents:
    """The latents of one group, float32 (N, L, h, w) each.

    prior and posterior of z (NVAE, section 3.2) as means and standard deviations, z as drawn, and the KL divergence in
    bits. With flows, the posterior is that before the flows, and the KL is log2 q - log2 p of the draw.
    """

    prior_mean: Float32
    prior_sigma: Float32
    posterior_mean: Float32
    posterior_sigma: Float32
    z: Float32
    kl: Float32

    @classmethod
    def of(cls, draw: Draw) -> GroupLatents:
        """The numbers of a draw, whose KL is in nats."""
        values = (*draw.prior, *draw.posterior, draw.z, draw.kl / math.log(2))
        return cls(*(value.float().cpu().numpy() for value in values))


class Run:
    """A training run: its recipe, and its network with averaged weights in evaluation mode."""

    def __init__(self, recipe: Recipe, network: Nvae, step: int) -> None:
        self.recipe, self.network, self.step = recipe, network, step

    def __repr__(self) -> str:
        return f"<Run {self.recipe.name}, step {self.step}, {len(self.network.latents)} groups>"

    @torch.inference_mode()
    def infer(self, images: Images, *, temperature: float = 1.0, seed: int = 0) -> list[GroupLatents]:
        """The groups of latents of images, uint8 (N, H, W, C), from the top, with z drawn from the posteriors.

        temperature: factor of every posterior sigma; at 0 each z is its posterior's mean. Raises NvaeCodecError for
        images whose size or colours the network does not take.
        """
        if images.ndim != 4 or images.shape[3] != self.recipe.image.channels:
            raise NvaeCodecError(f"images must be (N, H, W, {self.recipe.image.channels}), not {images.shape}")
        network_size(self.recipe, *images.shape[1:3])
        noise, groups = image_noise(self.network, seed, list(range(len(images)))), list[GroupLatents]()
        x = self.network.normalize(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(noise.device))

        def choose(group: int, raw_prior: Tensor | None, raw: Tensor) -> Tensor:
            drawn = temperature * noise.normal(group, (raw.shape[1] // 2, *raw.shape[2:]))
            draw = self.network.draw(group, raw_prior, raw, drawn)
            groups.append(GroupLatents.of(draw))
            return draw.z

        self.network.hierarchy(x, self.network.blank(x), choose)
        return groups

    @torch.inference_mode()
    def generate(self, z: Sequence[Float32], *, seed: int = 0, pixels: Pixels = "auto") -> Images:
        """Images, uint8 (N, H, W, C), whose groups have these z, (N, L, h, w) each from the top.

        pixels: ``"draw"`` from the likelihood, ``"mean"``, or ``"auto"``, which draws unless pixels are binary. Raises
        NvaeCodecError if there are not as many z as groups.
        """
        strides = self.recipe.network.latent_strides
        if len(z) != len(strides):
            raise NvaeCodecError(f"the network has {len(strides)} groups of latents, not {len(z)}")
        size = (z[0].shape[2] * strides[0], z[0].shape[3] * strides[0])
        noise = image_noise(self.network, seed, list(range(len(z[0]))))
        stride = self.recipe.stride
        blank = torch.zeros(len(z[0]), 1, size[0] // stride, size[1] // stride, device=noise.device)
        chosen = [torch.from_numpy(np.ascontiguousarray(each, np.float32)).to(noise.device) for each in z]
        features = self.network.hierarchy.generate(blank, lambda group, _: chosen[group])
        return images_of(self.network, features, noise, pixels, size)


def open_run(run: str | Path) -> Run:
    """A run's folder, a checkpoint file, or the name of a model that was installed with its checkpoint.

    Raises NvaeCodecError for what is no run, OSError.
    """
    named = MODELS_FOLDER / str(run) / FILE
    recipe, network, done = load_average(named if not Path(run).exists() and named.is_file() else run)
    return Run(recipe, network, done["step"])
