"""The whole float network: hierarchy and likelihood, and the ELBO of a batch."""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.groups import Group
from nvae_codec.network.hierarchy import Hierarchy
from nvae_codec.network.likelihood import Look, PhasedHeads, PlainHead, Predict, pixel_nats
from nvae_codec.network.noise import Noise
from nvae_codec.network.normal import Normal, kl_divergence, log_density, normal_of_raw, widen
from nvae_codec.network.pyramid import start_as_pyramid
from nvae_codec.polyphase import Plane
from nvae_codec.recipes.recipe import Recipe


@dataclass
class Elbo:
    """A batch's negative ELBO by part, in nats summed over the batch.

    kl: one entry per group (from the top), each (B, L), summed over space. pixels: one scalar per phase.
    """

    kl: list[Tensor]
    pixels: list[Tensor]


@dataclass
class Draw:
    """One group's latents, (B, L, h, w) each: distributions, z before and after the flows, and the KL in nats."""

    posterior: Normal
    prior: Normal
    before: Tensor
    z: Tensor
    kl: Tensor


class Nvae(nn.Module):
    """NVAE of a recipe: float weights, as trained."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.noise = Noise()
        self.hierarchy = Hierarchy(recipe.network, recipe.image.channels)
        self.likelihood: PhasedHeads | PlainHead = (
            PhasedHeads(recipe.network, recipe.likelihood)
            if recipe.likelihood.scales
            else PlainHead(recipe.network, recipe.likelihood, recipe.image)
        )
        if recipe.network.pyramid_start:
            start_as_pyramid(self.hierarchy, self.likelihood)
        self.colour_order = ["rgb".index(colour) for colour in recipe.image.colour_order][: recipe.image.channels]

    @property
    def latents(self) -> list[int]:
        """Channels of latents per group, from the top."""
        return [cast(Group, group).latents for group in self.hierarchy.groups]

    def normalize(self, pixels: Tensor) -> Tensor:
        """Uint8 (B, C, H, W), RGB, to float in [-1, 1], colours in coding order, padded as the recipe says."""
        image = self.recipe.image
        if self.recipe.is_binary:
            x = (self.noise.uniform(pixels) < pixels / 255).float() * 2 - 1
        elif image.bits < 8:
            x = (pixels >> (8 - image.bits)).float() * (2 / (2**image.bits - 1)) - 1
        else:
            x = pixels.float() / 127.5 - 1
        x = x[:, self.colour_order]
        return F.pad(x, [image.padding] * 4, value=-1.0) if image.padding else x

    def blank(self, image: Tensor) -> Tensor:
        """The empty map on which the top-down network starts."""
        stride = self.recipe.stride
        return image.new_zeros(image.shape[0], 1, image.shape[2] // stride, image.shape[3] // stride)

    def draw(self, index: int, raw_prior: Tensor | None, raw_posterior: Tensor, noise: Tensor | None = None) -> Draw:
        """z of a group from its posterior, with noise (B, L, h, w) of N(0, 1) where it is given.

        The KL is the closed form, and with flows, where there is none, one draw's log q - log p.
        """
        posterior = normal_of_raw(widen(raw_posterior), raw_posterior)
        prior = normal_of_raw(None if raw_prior is None else widen(raw_prior), posterior.mean.repeat(1, 2, 1, 1))
        kl = kl_divergence(posterior, prior)
        before = posterior.mean + posterior.sigma * (self.noise.normal(posterior.mean) if noise is None else noise)
        group = cast(Group, self.hierarchy.groups[index])
        if not len(group.flows):
            return Draw(posterior, prior, before, before, kl)
        z = group.flows(before)
        return Draw(posterior, prior, before, z, log_density(before, posterior) - log_density(z, prior))

    def forward(self, pixels: Tensor, *, base_only: bool = False, expert: int = 0) -> Elbo:
        """Negative ELBO with one draw of z from the posterior (NVAE, equation 1).

        pixels: uint8 (B, C, H, W), sides (with padding) multiples of the stride. With ``base_only`` the first phase's
        pixels alone; the others are predicted by an expert's heads.
        """
        return self.elbo(self.normalize(pixels), base_only=base_only, expert=expert)

    def elbo(self, x: Tensor, *, base_only: bool = False, expert: int = 0) -> Elbo:
        """The same of what the network sees: x (B, C, H, W) in [-1, 1], as :meth:`normalize` gives it."""
        kls: list[Tensor] = []
        nats: list[Tensor] = []

        def draw(group: int, raw_prior: Tensor | None, raw_posterior: Tensor) -> Tensor:
            drawn = self.draw(group, raw_prior, raw_posterior)
            kls.append(drawn.kl.sum((2, 3)))
            return drawn.z

        def look(plane: Plane) -> Tensor:
            return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

        def score(phase: int, raw: Tensor) -> None:
            nats.append(pixel_nats(raw, self.likelihood.phases[phase], cast(Look, look), self.recipe).sum())

        features = self.hierarchy(x, self.blank(x), draw)
        self.likelihood(features, cast(Look, look), cast(Predict, score), 1 if base_only else None, expert)
        return Elbo(kls, nats)
