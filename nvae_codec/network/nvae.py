"""The whole float network: hierarchy and likelihood, and the ELBO of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nvae_codec.network.hierarchy import Group, Hierarchy
from nvae_codec.network.likelihood import Look, PhasedHeads, PlainHead, Predict, mixture_nats, neighbour_mean
from nvae_codec.network.normal import kl_divergence, normal_of_raw
from nvae_codec.phases import Plane
from nvae_codec.recipe import Recipe


@dataclass
class Elbo:
    """A batch's negative ELBO by part, in nats summed over the batch.

    kl: an entry a group (from the top), each (B, L): summed over space. pixels: a scalar a phase.
    """

    kl: list[Tensor]
    pixels: list[Tensor]


class Nvae(nn.Module):
    """NVAE of a recipe: float weights, as trained."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.hierarchy = Hierarchy(recipe.network)
        heads = PhasedHeads if recipe.likelihood.levels else PlainHead
        self.likelihood: PhasedHeads | PlainHead = heads(recipe.network, recipe.likelihood)
        self.colour_order = ["rgb".index(colour) for colour in recipe.image.colour_order]

    @property
    def latents(self) -> list[int]:
        """Channels of latents a group, from the top."""
        return [
            cast(Group, group).combine.in_channels - cast(Group, group).combine.out_channels
            for group in self.hierarchy.groups
        ]

    def normalize(self, pixels: Tensor) -> Tensor:
        """Uint8 (B, 3, H, W), RGB, to float in [-1, 1], colours in coding order."""
        return (pixels.float() / 127.5 - 1)[:, self.colour_order]

    def blank(self, image: Tensor) -> Tensor:
        """The empty map on which the top-down network starts."""
        stride = self.recipe.stride
        return image.new_zeros(image.shape[0], 1, image.shape[2] // stride, image.shape[3] // stride)

    def forward(self, pixels: Tensor, *, base_only: bool = False) -> Elbo:
        """Negative ELBO with one draw of z from the posterior (NVAE, equation 1).

        pixels: uint8 (B, 3, H, W), sides multiples of the stride. With ``base_only`` the first phase's pixels alone.
        """
        x = self.normalize(pixels)
        kls: list[Tensor] = []
        nats: list[Tensor] = []

        def draw(group: int, raw_prior: Tensor | None, raw_posterior: Tensor) -> Tensor:
            posterior = normal_of_raw(raw_posterior.float(), raw_posterior)
            prior = normal_of_raw(None if raw_prior is None else raw_prior.float(), posterior.mean.repeat(1, 2, 1, 1))
            kls.append(kl_divergence(posterior, prior).sum((2, 3)))
            return posterior.mean + posterior.sigma * torch.randn_like(posterior.mean)

        def look(plane: Plane) -> Tensor:
            return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

        def score(phase: int, raw: Tensor) -> None:
            what = self.likelihood.phases[phase]
            seen = look(what.plane)
            nats.append(mixture_nats(raw, neighbour_mean(what, look, seen), seen, self.recipe.likelihood).sum())

        features = self.hierarchy(x, self.blank(x), draw)
        self.likelihood(features, cast(Look, look), cast(Predict, score), 1 if base_only else None)
        return Elbo(kls, nats)
