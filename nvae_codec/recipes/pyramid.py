"""What a recipe must be like for the pyramid start, which sets the weights of certain layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import ImageRecipe, LikelihoodRecipe, NetworkRecipe


def missing_for_pyramid(network: NetworkRecipe, likelihood: LikelihoodRecipe, image: ImageRecipe) -> str:
    """What network.pyramid_start does not find in the layers that it sets; empty where all is well."""
    cell, phases = network.decoder_cell, likelihood.levels > 0
    below, above = network.preprocess_cell or network.encoder_cell, network.postprocess_cell or cell
    plain = cell.residual_scale == 1 and not cell.squeeze_excitation
    conditions = {
        "network.group = 'nvae'": network.group == "nvae",
        "network.steps = 'plain'": network.steps == "plain",
        "network.patch = 2, or with phases theirs": phases or network.patch == 2,
        "network.preprocess_blocks = 0, with phases 1": network.preprocess_blocks == int(phases),
        "network.preprocess_cells = 1": not phases or network.preprocess_cells == 1,
        "network.groups = [3, ..., 3, 4]": network.groups == [3] * (len(network.groups) - 1) + [4],
        "network.latents = [3]": set(network.latents) == {3},
        "network.width = 30 or more": network.width >= 30,
        "likelihood.head_width = 30 or more": not phases or likelihood.head_width >= 30,
        "network.width_growth = 1": network.width_growth == 1,
        "network.scale_widths = []": not network.scale_widths,
        "network.decoder_width = 0": network.decoder_channels == network.width,
        "network.weight_normalization = false": not network.weight_normalization,
        "network.flows = 0": network.flows == 0,
        "network.scaled_start = false": not network.scaled_start,
        "network.stem_activation = false": not network.stem_activation,
        "network.top_convolution = false": not network.top_convolution,
        "network.residual_normal = true": network.residual_normal,
        "network.posterior_reads_prior = true": network.posterior_reads_prior,
        "network.head_activation = 'relu'": network.head_activation in ("", "relu"),
        "network.encoder_cell.kind = 'depthwise'": network.encoder_cell.kind == "depthwise",
        "network.encoder_cell.activation = 'relu'": {network.encoder_cell.activation, below.activation} == {"relu"},
        "network.decoder_cells = 1 or more": network.decoder_cells > 0,
        "network.decoder_cell.kind = 'depthwise'": {cell.kind, above.kind} == {"depthwise"},
        "network.decoder_cell.activation = 'relu'": cell.activation == "relu",
        "network.decoder_cell.kernel = 3 or more": cell.kernel >= 3,
        "network.decoder_cell without gates or scale": plain,
        "likelihood.kind = 'colourwise'": likelihood.kind == "colourwise",
        "image.padding = 0": image.padding == 0,
    }
    return next((wanted for wanted, found in conditions.items() if not found), "")
