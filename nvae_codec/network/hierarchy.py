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

from nvae_codec.network.cells import Constant, ConstantMap, ResidualCell, make_activation
from nvae_codec.network.convolution import make_convolution
from nvae_codec.network.flow import FlowPair
from nvae_codec.network.steps import make_step_down, make_step_up
from nvae_codec.recipe import NetworkRecipe

Choose = Callable[[int, Tensor | None, Tensor], Tensor]
"""(group, raw prior or None, raw posterior) to z. Raw parameters are (B, 2L, H, W): means, then log sigmas."""

ChoosePrior = Callable[[int, Tensor | None], Tensor]
"""(group, raw prior or None) to z; None for the top prior, whose z has the shape of the blank map."""


class Encoder(nn.Module):
    """Bottom-up: an image (B, C, H, W) in [-1, 1] to what each group's posterior reads, top group first."""

    def __init__(self, recipe: NetworkRecipe, channels: int = 3) -> None:
        super().__init__()
        cell, width, weight_norm = recipe.encoder_cell, recipe.width, recipe.weight_normalization
        below = recipe.preprocess_cell or cell
        self.patch = recipe.patch
        self.stem = make_convolution(channels * recipe.patch**2, width, 3, weight_norm=weight_norm)
        before: list[nn.Module] = [make_activation(below.activation)] if recipe.stem_activation else []
        for _ in range(recipe.preprocess_blocks):
            before += [ResidualCell(width, below, weight_norm=weight_norm) for _ in range(recipe.preprocess_cells - 1)]
            before.append(make_step_down(width, recipe, below))
            width *= recipe.width_growth
        self.preprocess = nn.Sequential(*before)
        self.towers, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale, groups in enumerate(recipe.groups):
            if scale:
                self.steps.append(make_step_down(width, recipe, cell))
                width *= recipe.width_growth
            for _ in range(groups):
                tower = [ResidualCell(width, cell, weight_norm=weight_norm) for _ in range(recipe.encoder_cells)]
                self.towers.append(nn.Sequential(*tower))
        self.groups = list(recipe.groups)
        self.top = None
        if recipe.top_convolution:
            self.top = nn.Sequential(nn.ELU(), make_convolution(width, width, 1, weight_norm=weight_norm), nn.ELU())

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
        if self.top is not None:
            features[-1] = self.top(x)
        return features[::-1]


class Group(nn.Module):
    """One group of latents z_l with both ways through it: prior and posterior.

    Raw parameters are what the heads give; :mod:`nvae_codec.network.normal` makes Normals of them. With residual
    normals the posterior's raw parameters are the prior's plus the head's (NVAE, section 3.2).
    """

    def __init__(
        self, width: int, latents: int, recipe: NetworkRecipe, *, top: bool, encoded: int | None = None
    ) -> None:
        """``width`` channels of the state, ``encoded`` ones of the encoder's features (as many without it)."""
        super().__init__()
        cell, weight_norm, encoded = recipe.decoder_cell, recipe.weight_normalization, encoded or width
        count = 0 if top else recipe.decoder_cells
        self.residual = recipe.residual_normal
        self.cells = nn.Sequential(*[ResidualCell(width, cell, weight_norm=weight_norm) for _ in range(count)])
        self.prior_head = None
        if not top:
            head = make_convolution(width, 2 * latents, 1, weight_norm=weight_norm)
            self.prior_head = nn.Sequential(make_activation(recipe.head_activation or cell.activation), head)
            if not weight_norm:
                nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(cast(Tensor, head.bias))
            self.merge = make_convolution(width, encoded, 1, weight_norm=weight_norm)
        # ordinary weights: a posterior that starts near zero tells the decoder nothing and dies within a hundred steps
        self.posterior_head = make_convolution(encoded, 2 * latents, 3, weight_norm=weight_norm)
        bias = torch.zeros(2 * latents)
        bias[latents:] = recipe.posterior_log_sigma
        self.posterior_head.bias = nn.Parameter(bias)
        self.combine = make_convolution(width + latents, width, 1, weight_norm=weight_norm)
        self.flows = nn.ModuleList(FlowPair(latents) for _ in range(recipe.flows))

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

    def flow(self, z: Tensor) -> Tensor:
        """The drawn z after the group's flows: what prior and decoder see."""
        for pair in self.flows:
            z = pair(z)
        return z

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """The state once z (B, L, H, W) is known."""
        combined: Tensor = self.combine(torch.cat([state, z], 1))
        return combined


class Hierarchy(nn.Module):
    """Encoder and top-down decoder: an image to features at the stem's resolution, by way of all the z_l."""

    def __init__(self, recipe: NetworkRecipe, channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(recipe, channels)
        cell, growth, weight_norm = recipe.decoder_cell, recipe.width_growth, recipe.weight_normalization
        halvings = recipe.preprocess_blocks + len(recipe.groups) - 1
        width, encoded = recipe.decoder_channels * growth**halvings, recipe.width * growth**halvings
        self.stride = recipe.stride
        self.start = ConstantMap(width, recipe.top_side) if recipe.top_side else Constant(width)
        self.groups, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale in reversed(range(len(recipe.groups))):
            for _ in range(recipe.groups[scale]):
                latents, top = recipe.latents_of_scale(scale), not len(self.groups)
                self.groups.append(Group(width, latents, recipe, top=top, encoded=encoded))
                self.steps.append(nn.Identity())
            if scale:
                self.steps[-1] = make_step_up(width, recipe, cell)
                width, encoded = width // growth, encoded // growth
        above, count = recipe.postprocess_cell or cell, (recipe.postprocess_cells or recipe.preprocess_cells) - 1
        after: list[nn.Module] = []
        for _ in range(recipe.preprocess_blocks):
            after.append(make_step_up(width, recipe, above))
            width //= growth
            after += [ResidualCell(width, above, weight_norm=weight_norm) for _ in range(count)]
        if not recipe.preprocess_blocks and recipe.steps != "residual":
            after += [ResidualCell(width, above, weight_norm=weight_norm) for _ in range(count)]
        self.postprocess = nn.Sequential(*after)

    def forward(self, image: Tensor, blank: Tensor, choose: Choose) -> Tensor:
        """Walk down the groups; ``choose`` draws (training) or names (freezing) each z.

        image: (B, C, H, W) in [-1, 1], sides multiples of the stride; blank: (B, 1, H/stride, W/stride), any values.
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

    def generate(self, blank: Tensor, choose: ChoosePrior) -> Tensor:
        """The same from the priors alone: features of a picture that was never seen."""
        state = self.start(blank)
        for index, (group, step) in enumerate(zip(self.groups, self.steps, strict=True)):
            group = cast(Group, group)
            state, prior = group.prior(state)
            state = step(group(state, choose(index, prior)))
        features: Tensor = self.postprocess(state)
        return features
