"""Groups of latents: of NVAE (section 3), and of the Very Deep VAE (Child 2021, figure 3)."""

from typing import cast

import torch
from torch import Tensor, nn

from nvae_codec.network.cells import ResidualCell, make_activation, make_bottleneck
from nvae_codec.network.convolution import make_convolution, shrink
from nvae_codec.network.flow import FlowPair
from nvae_codec.recipes.recipe import NetworkRecipe


class Group(nn.Module):
    """One group of latents z_l with both ways through it: prior and posterior.

    Raw parameters are what the heads give; :mod:`nvae_codec.network.normal` makes Normals of them. With residual
    normals the posterior's raw parameters are the prior's plus the head's (NVAE, section 3.2). Each kind of group is a
    subclass in :data:`GROUPS`. The exporter traces all three methods, so a kind has layers that it knows
    (nvae_codec/export/trace.py), and nothing else of the code depends on its kind.
    """

    scales_branches = False
    """Whether residual branches start smaller by the root of their number (Very Deep VAE, section 3)."""

    def __init__(self, latents: int, recipe: NetworkRecipe) -> None:
        """``latents`` channels of z."""
        super().__init__()
        self.latents, self.residual = latents, recipe.residual_normal
        # what takes the drawn z to the z that prior and decoder see
        self.flows = nn.Sequential(*[FlowPair(latents) for _ in range(recipe.flows)])

    def prior(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """The state (B, C, H, W) that the posterior sees too, and the raw prior (B, 2L, H, W).

        None stands for N(0, 1.01), the prior of the group at the top.
        """
        raise NotImplementedError

    def posterior(self, state: Tensor, encoded: Tensor, prior: Tensor | None) -> Tensor:
        """The raw posterior (B, 2L, H, W) from the state, the encoder's features and the raw prior."""
        raise NotImplementedError

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """The state (B, C, H, W) once z (B, L, H, W) is known."""
        raise NotImplementedError

    def scale_branches(self, factor: float) -> None:
        """Start the branches beyond its residual cells smaller by a factor; of kinds whose ``scales_branches``."""

    def _add_prior(self, raw: Tensor, prior: Tensor | None) -> Tensor:
        """The posterior's raw parameters from those of its head."""
        return raw + prior if prior is not None and self.residual else raw


class NvaeGroup(Group):
    """Residual cells, then a head for the prior; a head for the posterior; a convolution adds z (NVAE, figure 2)."""

    def __init__(
        self, width: int, latents: int, recipe: NetworkRecipe, *, top: bool, encoded: int | None = None
    ) -> None:
        """``width`` channels of the state, ``encoded`` ones of the encoder's features (as many without it)."""
        super().__init__(latents, recipe)
        cell, weight_norm, encoded = recipe.decoder_cell, recipe.is_official, encoded or width
        count = 0 if top else recipe.decoder_cells
        self.cells = nn.Sequential(*[ResidualCell(width, cell, weight_norm=weight_norm) for _ in range(count)])
        self.prior_head = None
        if not top:
            head = make_convolution(width, 2 * latents, 1, weight_norm=weight_norm)
            self.prior_head = nn.Sequential(make_activation(recipe.head_activation), head)
            if not weight_norm:
                nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(cast(Tensor, head.bias))
            self.merge = make_convolution(width, encoded, 1, weight_norm=weight_norm)
        self.reads_prior = recipe.posterior_reads_prior and not top
        read = encoded + (2 * latents if self.reads_prior else 0)
        # ordinary weights: a posterior that starts near zero has no information for the decoder and soon collapses
        self.posterior_head = make_convolution(read, 2 * latents, 3, weight_norm=weight_norm)
        self.posterior_head.bias = posterior_bias(latents, recipe)
        self.combine = make_convolution(width + latents, width, 1, weight_norm=weight_norm)

    def prior(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """The state (B, C, H, W) after the group's cells, and the raw prior; None stands for N(0, 1.01)."""
        state = self.cells(state)
        return state, self.prior_head(state) if self.prior_head is not None else None

    def posterior(self, state: Tensor, encoded: Tensor, prior: Tensor | None) -> Tensor:
        """The raw posterior (B, 2L, H, W)."""
        if self.prior_head is not None:
            encoded = encoded + self.merge(state)
        if self.reads_prior:
            assert prior is not None
            encoded = torch.cat([encoded, prior], 1)
        return self._add_prior(self.posterior_head(encoded), prior)

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """The state once z (B, L, H, W) is known."""
        combined: Tensor = self.combine(torch.cat([state, z], 1))
        return combined


class VeryDeepGroup(Group):
    """A bottleneck for the prior and a first change of the state, one for the posterior from state and encoder, and a
    residual cell after z was added (Child 2021, figure 3).

    The posterior reads the state after that first change, as in NVAE; the Very Deep VAE's own reads it before.
    """

    scales_branches = True

    def __init__(
        self, width: int, latents: int, recipe: NetworkRecipe, *, top: bool, encoded: int | None = None
    ) -> None:
        """``width`` channels of the state, ``encoded`` ones of the encoder's features (as many without it)."""
        super().__init__(latents, recipe)
        cell, weight_norm, encoded = recipe.decoder_cell, recipe.is_official, encoded or width
        narrow = max(width // cell.expansion, 1)
        self.prior_body = None
        if not top:
            self.prior_body = nn.Sequential(*make_bottleneck(width, narrow, cell.activation, weight_norm))
            self.prior_head = make_convolution(narrow, 2 * latents, 1, weight_norm=weight_norm)
            self.prior_state = make_convolution(narrow, width, 1, weight_norm=weight_norm)
            shrink(self.prior_head, 0.0)
            shrink(self.prior_state, 0.0)
        body = make_bottleneck(width + encoded, narrow, cell.activation, weight_norm)
        head = make_convolution(narrow, 2 * latents, 1, weight_norm=weight_norm)
        head.bias = posterior_bias(latents, recipe)
        self.posterior_head = nn.Sequential(*body, head)
        self.combine = make_convolution(latents, width, 1, weight_norm=weight_norm)
        self.cell = ResidualCell(width, cell, weight_norm=weight_norm)

    def prior(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """The state (B, C, H, W) after its first change, and the raw prior; None stands for N(0, 1.01)."""
        if self.prior_body is None:
            return state, None
        features = self.prior_body(state)
        return state + self.prior_state(features), self.prior_head(features)

    def posterior(self, state: Tensor, encoded: Tensor, prior: Tensor | None) -> Tensor:
        """The raw posterior (B, 2L, H, W)."""
        return self._add_prior(self.posterior_head(torch.cat([state, encoded], 1)), prior)

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """The state once z (B, L, H, W) is known."""
        changed: Tensor = self.cell(state + self.combine(z))
        return changed

    def scale_branches(self, factor: float) -> None:
        """Start with a smaller change of the state by z."""
        shrink(self.combine, factor)


def posterior_bias(latents: int, recipe: NetworkRecipe) -> nn.Parameter:
    """Means of 0 and the recipe's log sigma."""
    bias = torch.zeros(2 * latents)
    bias[latents:] = recipe.posterior_log_sigma
    return nn.Parameter(bias)


GROUPS: dict[str, type[NvaeGroup] | type[VeryDeepGroup]] = {"nvae": NvaeGroup, "very_deep": VeryDeepGroup}
"""By the names that recipes give them (``GROUPS`` in nvae_codec/recipes/recipe.py)."""
