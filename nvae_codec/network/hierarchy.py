"""The hierarchy of latents: bottom-up encoder, top-down decoder, and the groups between them (NVAE, figure 2).

Groups are numbered from the top: group 0 is on the coarsest scale. The prior p(z_l | z_<l) depends on the top-down
state alone, the posterior q(z_l | z_<l, x) on that state and the encoder's features of the same scale.
"""

from collections.abc import Callable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import Constant, ConstantMap, ResidualCell, make_activation
from nvae_codec.network.convolution import make_convolution, shrink
from nvae_codec.network.groups import GROUPS, Group
from nvae_codec.network.resample import make_downsample, make_upsample
from nvae_codec.recipes.recipe import NetworkRecipe

Choose = Callable[[int, Tensor | None, Tensor], Tensor]
"""(group, raw prior or None, raw posterior) to z. Raw parameters are (B, 2L, H, W): means, then log sigmas."""

ChoosePrior = Callable[[int, Tensor | None], Tensor]
"""(group, raw prior or None) to z; None for the top prior, whose z has the shape of the blank map."""


class Encoder(nn.Module):
    """Bottom-up: an image (B, C, H, W) in [-1, 1] to features for each group's posterior, top group first."""

    def __init__(self, recipe: NetworkRecipe, channels: int = 3) -> None:
        super().__init__()
        cell, width, weight_norm = recipe.encoder_cell, recipe.width, recipe.is_official
        below = recipe.below_latents
        self.patch = recipe.patch
        self.stem = make_convolution(channels * recipe.patch**2, width, 3, weight_norm=weight_norm)
        before: list[nn.Module] = [make_activation(below.activation)] if recipe.stem_activation else []
        for block in range(recipe.preprocess_blocks):
            before += [ResidualCell(width, below, weight_norm=weight_norm) for _ in range(recipe.preprocess_cells - 1)]
            before.append(make_downsample(width, recipe.encoder_width(block + 1), recipe, below))
            width = recipe.encoder_width(block + 1)
        self.preprocess = nn.Sequential(*before)
        self.towers, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale, groups in enumerate(recipe.groups):
            if scale:
                above = recipe.encoder_width(recipe.preprocess_blocks + scale)
                self.steps.append(make_downsample(width, above, recipe, cell))
                width = above
            # a tower per group, or one for all groups of the scale
            counts = recipe.scale_cells[scale : scale + 1] or [recipe.encoder_cells] * groups
            for count in counts:
                tower = [ResidualCell(width, cell, weight_norm=weight_norm) for _ in range(count)]
                self.towers.append(nn.Sequential(*tower))
        self.groups, self.shared = list(recipe.groups), bool(recipe.scale_cells)
        self.top = None
        if recipe.is_official:
            self.top = nn.Sequential(nn.ELU(), make_convolution(width, width, 1, weight_norm=weight_norm), nn.ELU())

    def forward(self, image: Tensor) -> list[Tensor]:
        """One map of features per group."""
        x = self.preprocess(self.stem(F.pixel_unshuffle(image, self.patch) if self.patch > 1 else image))
        features, towers = [], iter(self.towers)
        for scale, groups in enumerate(self.groups):
            if scale:
                x = self.steps[scale - 1](x)
            if self.shared:
                x = next(towers)(x)
                features += [x] * groups
                continue
            for _ in range(groups):
                x = next(towers)(x)
                features.append(x)
        if self.top is not None:
            features[-1] = self.top(x)
        return features[::-1]


class Hierarchy(nn.Module):
    """Encoder and top-down decoder: an image to features at the stem's resolution, through all the z_l."""

    def __init__(self, recipe: NetworkRecipe, channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(recipe, channels)
        cell, weight_norm = recipe.decoder_cell, recipe.is_official
        halvings = recipe.preprocess_blocks + len(recipe.groups) - 1
        width, make_group = recipe.decoder_width_at(halvings), GROUPS[recipe.group]
        self.stride = recipe.stride
        self.start = ConstantMap(width, recipe.top_size) if recipe.top_size else Constant(width)
        self.groups, self.steps = nn.ModuleList(), nn.ModuleList()
        for scale in reversed(range(len(recipe.groups))):
            for _ in range(recipe.groups[scale]):
                latents, top = recipe.latents_of_scale(scale), not len(self.groups)
                encoded = recipe.encoder_width(halvings)
                self.groups.append(make_group(width, latents, recipe, top=top, encoded=encoded))
                self.steps.append(nn.Identity())
            if scale:
                halvings -= 1
                step, before = make_upsample(width, recipe.decoder_width_at(halvings), recipe, cell), self.steps[-1]
                # above a scale without groups the upsampling of the last group goes on
                self.steps[-1] = step if isinstance(before, nn.Identity) else nn.Sequential(before, step)
                width = recipe.decoder_width_at(halvings)
        above, count = recipe.above_latents, (recipe.postprocess_cells or recipe.preprocess_cells) - 1
        after: list[nn.Module] = []
        for _ in range(recipe.preprocess_blocks):
            halvings -= 1
            after.append(make_upsample(width, recipe.decoder_width_at(halvings), recipe, above))
            width = recipe.decoder_width_at(halvings)
            after += [ResidualCell(width, above, weight_norm=weight_norm) for _ in range(count)]
        if not recipe.preprocess_blocks and recipe.resampling != "residual":
            after += [ResidualCell(width, above, weight_norm=weight_norm) for _ in range(count)]
        self.postprocess = nn.Sequential(*after)
        if make_group.scales_branches:
            self._scale_branches()

    def _scale_branches(self) -> None:
        """Start with branches that are smaller the more there are (Child 2021, section 3)."""
        inside = [cell for cell in self.encoder.modules() if isinstance(cell, ResidualCell)]
        cells = [cell for cell in self.modules() if isinstance(cell, ResidualCell) and cell not in set(inside)]
        for half in (inside, cells):
            for cell in half:
                last = [layer for layer in cell.body if isinstance(layer, nn.Conv2d)][-1]
                shrink(last, len(half) ** -0.5)
        for group in self.groups:
            cast(Group, group).scale_branches(len(self.groups) ** -0.5)

    def forward(self, image: Tensor, blank: Tensor, choose: Choose) -> Tensor:
        """Pass down the groups; ``choose`` draws each z (training) or names it (export).

        image: (B, C, H, W) in [-1, 1], H and W multiples of the stride; blank: (B, 1, H/stride, W/stride), any values.
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
        """The same from the priors alone, without an image."""
        state = self.start(blank)
        for index, (group, step) in enumerate(zip(self.groups, self.steps, strict=True)):
            group = cast(Group, group)
            state, prior = group.prior(state)
            state = step(group(state, choose(index, prior)))
        features: Tensor = self.postprocess(state)
        return features
