"""The official density of pixels: an independent Normal for each value. Pixels cannot be coded with a density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvae_codec.likelihoods.likelihood import Likelihood, Uniform
from nvae_codec.network.normal import log_density, normal_of_raw

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import Recipe


class Kind(Likelihood):
    """Raw parameters are means and log sigmas, as those of latents."""

    def raw_channels(self, channels: int, components: int) -> int:
        """A mean and a log sigma for each colour."""
        return 2 * channels

    def nats(self, raw: Tensor, prediction: Tensor, x: Tensor, recipe: Recipe) -> Tensor:
        """-log p(x), (B, C, h, w)."""
        return -log_density(x, normal_of_raw(raw, raw))

    def pixels(self, raw: Tensor, prediction: Tensor, recipe: Recipe, uniform: Uniform | None) -> Tensor:
        """Pixels, or their mean."""
        normal = normal_of_raw(raw, raw)
        if uniform is None:
            return normal.mean.clamp(-1, 1)
        drawn: Tensor = normal.mean + normal.sigma * torch.special.ndtri(uniform(raw.shape[1] // 2))
        return drawn.clamp(-1, 1)
