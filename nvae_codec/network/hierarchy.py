"""The hierarchy of latents: bottom-up encoder, top-down decoder, and the groups between them (NVAE, figure 2).

Groups are numbered from the top: group 0 lies on the coarsest scale. z_l has its prior p(z_l | z_<l) from the top-down
state alone and its posterior q(z_l | z_<l, x) from that state and the encoder's features of the same scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import Constant, ResidualCell, StepDown, StepUp, make_activation
from nvae_codec.recipe import NetworkRecipe

Choose = Callable[[int, Tensor | None, Tensor], Tensor]
"""(group, raw prior or None, raw posterior) to z. Raw parameters are (B, 2L, H, W): means, then log sigmas."""


class Encoder(nn.Module):
    """Bottom-up: an image (B, 3, H, W) in [-1, 1] to what each group's posterior reads, top group first."""

    def __init__(self, recipe: NetworkRecipe) -> None:
        super().__init__()
        cell, width = recipe.encoder_cell, recipe.width
        self.patch = recipe.patch
        self.stem = nn.Conv2d(3 * recipe.patch**2, width, 3, padding=1)
        before: list[nn.Module] = [make_activation(cell.activation)]
        for _ in range(recipe.preprocess_blocks):
            before += [ResidualCell(width, cell) for _ in range(recipe.preprocess_cells - 1)]
            before.append(StepDown(width, width * recipe.width_growth, cell.activation))
            width *= recipe.width_growth
        self.preprocess = nn.Sequential(*before)
        self.towers, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale, groups in enumerate(recipe.groups):
            if scale:
                self.steps.append(StepDown(width, width * recipe.width_growth, cell.activation))
                width *= recipe.width_growth
            for _ in range(groups):
                self.towers.append(nn.Sequential(*[ResidualCell(width, cell) for _ in range(recipe.encoder_cells)]))
        self.groups = list(recipe.groups)

    def forward(self, image: Tensor) -> list[Tensor]:
        """One map of features a group."""
        x = self.preprocess(self.stem(F.pixel_unshuffle(image, self.patch) if self.patch > 1 else image))
        features, towers = [], iter(self.towers)
        for scale, groups in enumerate(self.groups):
            if scale:
                x = self.steps[scale - 1](x)
            for _ in range(groups):
                x = next(towers)(x)
                features.append(x)
        return features[::-1]


class Group(nn.Module):
    """One group of latents z_l with both ways through it: prior and posterior.

    Raw parameters are what the heads give; :mod:`nvae_codec.network.normal` makes Normals of them. With residual
    normals the posterior's raw parameters are the prior's plus the head's (NVAE, section 3.2).
    """

    def __init__(self, width: int, latents: int, recipe: NetworkRecipe, *, top: bool) -> None:
        super().__init__()
        cell = recipe.decoder_cell
        self.residual = recipe.residual_normal
        self.cells = nn.Sequential(*[ResidualCell(width, cell) for _ in range(0 if top else recipe.decoder_cells)])
        self.prior_head = None
        if not top:
            self.prior_head = nn.Sequential(make_activation(cell.activation), nn.Conv2d(width, 2 * latents, 1))
            nn.init.normal_(cast(Tensor, self.prior_head[1].weight), std=0.02)
            nn.init.zeros_(cast(Tensor, self.prior_head[1].bias))
            self.merge = nn.Conv2d(width, width, 1)
        # ordinary weights: a posterior that starts near zero tells the decoder nothing and dies within a hundred steps
        self.posterior_head = nn.Conv2d(width, 2 * latents, 3, padding=1)
        bias = torch.zeros(2 * latents)
        bias[latents:] = recipe.posterior_log_sigma
        self.posterior_head.bias = nn.Parameter(bias)
        self.combine = nn.Conv2d(width + latents, width, 1)

    def prior(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """The state (B, C, H, W) after the group's cells, and the raw prior; None stands for N(0, 1.01)."""
        state = self.cells(state)
        return state, self.prior_head(state) if self.prior_head is not None else None

    def posterior(self, state: Tensor, encoded: Tensor, prior: Tensor | None) -> Tensor:
        """The raw posterior (B, 2L, H, W)."""
        if self.prior_head is not None:
            encoded = encoded + self.merge(state)
        raw: Tensor = self.posterior_head(encoded)
        return raw + prior if prior is not None and self.residual else raw

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """The state once z (B, L, H, W) is known."""
        combined: Tensor = self.combine(torch.cat([state, z], 1))
        return combined


class Hierarchy(nn.Module):
    """Encoder and top-down decoder: an image to features at the stem's resolution, by way of all the z_l."""

    def __init__(self, recipe: NetworkRecipe) -> None:
        super().__init__()
        self.encoder = Encoder(recipe)
        cell, growth = recipe.decoder_cell, recipe.width_growth
        width = recipe.width * growth ** (recipe.preprocess_blocks + len(recipe.groups) - 1)
        self.stride = recipe.stride
        self.start = Constant(width)
        self.groups, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale in reversed(range(len(recipe.groups))):
            for _ in range(recipe.groups[scale]):
                top = not len(self.groups)
                self.groups.append(Group(width, recipe.latents_of_scale(scale), recipe, top=top))
                self.steps.append(nn.Identity())
            if scale:
                self.steps[-1] = StepUp(width, width // growth)
                width //= growth
        after: list[nn.Module] = []
        for _ in range(recipe.preprocess_blocks):
            after.append(StepUp(width, width // growth))
            width //= growth
            after += [ResidualCell(width, cell) for _ in range(recipe.preprocess_cells - 1)]
        if not recipe.preprocess_blocks:
            after += [ResidualCell(width, cell) for _ in range(recipe.preprocess_cells - 1)]
        self.postprocess = nn.Sequential(*after)

    def forward(self, image: Tensor, blank: Tensor, choose: Choose) -> Tensor:
        """Walk down the groups; ``choose`` draws (training) or names (freezing) each z.

        image: (B, 3, H, W) in [-1, 1], sides multiples of the stride; blank: (B, 1, H/stride, W/stride), any values.
        Returns features (B, width, H/patch, W/patch).
        """
        encoded = self.encoder(image)
        state = self.start(blank)
        for index, (group, step) in enumerate(zip(self.groups, self.steps, strict=True)):
            group = cast(Group, group)
            state, prior = group.prior(state)
            z = choose(index, prior, group.posterior(state, encoded[index], prior))
            state = step(group(state, z))
        features: Tensor = self.postprocess(state)
        return features
