"""Pixels from the raw parameters of a likelihood: drawn, or their mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.network.likelihood import Look, neighbour_mean, split_mixture
from nvae_codec.network.normal import normal_of_raw, widen
from nvae_codec.network.official_likelihoods import image_mean, joint_sample
from nvae_codec.polyphase import Phase
from nvae_codec.recipes.recipe import LikelihoodRecipe, Recipe

Uniform = Callable[[int], Tensor]
"""Gives (B, channels, h, w) of independent numbers, uniform in (0, 1), for the number of channels."""


def phase_pixels(raw: Tensor, phase: Phase, look: Look, recipe: Recipe, uniform: Uniform | None) -> Tensor:
    """A phase's pixels in [-1, 1], (B, C, h, w), colours in coding order: drawn, or without ``uniform`` their mean.

    A mean of several colours that condition one another is that of each given the mean of those before.
    """
    raw, likelihood = widen(raw), recipe.likelihood
    if likelihood.kind == "colourwise":
        return _mixture_pixels(raw, neighbour_mean(phase, look, raw[:, :3]), likelihood, uniform)
    if uniform is None:
        return image_mean(raw, likelihood)
    if likelihood.kind == "joint":
        return joint_sample(raw, uniform(likelihood.components), uniform(3))
    if likelihood.kind == "normal":
        normal = normal_of_raw(raw, raw)
        noise = torch.special.ndtri(uniform(raw.shape[1] // 2))
        drawn: Tensor = normal.mean + normal.sigma * noise
        return drawn.clamp(-1, 1)
    return (uniform(raw.shape[1]) < torch.sigmoid(raw)).to(raw) * 2 - 1


def _mixture_pixels(raw: Tensor, guess: Tensor, recipe: LikelihoodRecipe, uniform: Uniform | None) -> Tensor:
    """Colours one after another, each a whole level before the next and later phases see it."""
    mixture = split_mixture(raw, recipe)
    residuals: list[Tensor] = []
    for colour in range(3):
        centre = guess[:, colour]
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
        residuals.append(level / 127.5 - 1 - guess[:, colour])
    return torch.stack(residuals, 1) + guess
