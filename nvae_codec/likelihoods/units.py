"""The likelihoods that freezing knows: how many raw parameters a pixel has, of which units, and its quantiles' bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.width import Width
from nvae_codec.likelihoods.tables import (
    BERNOULLI_BOUND,
    BERNOULLI_UNIT,
    COLOUR_UNIT,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    PIXEL_RAW_BOUND,
    half_range,
)

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import Recipe

PIXEL_BITS = {"colourwise": 18, "joint": 16, "bernoulli": 17}
"""P of pixels (docs/format.md, "Intervals"): many values want fine distributions, and so do bits nearly sure."""


def check_likelihood(recipe: Recipe) -> None:
    """Raise ModelFileError for a likelihood that cannot be coded."""
    if recipe.likelihood.kind == "normal":
        raise ModelFileError(
            "likelihood.kind = 'normal' is a density: it gives pixel values no probabilities to code them with"
        )


def count_raw(kind: str, channels: int, components: int) -> int:
    """Raw parameters of a pixel."""
    return {"colourwise": 9 * components + 3, "joint": 10 * components, "bernoulli": channels}[kind]


def raw_bound(kind: str) -> int:
    """The largest absolute value of a raw parameter."""
    return BERNOULLI_BOUND if kind == "bernoulli" else PIXEL_RAW_BOUND


def count_value_bits(recipe: Recipe) -> int:
    """Bits of a colour value."""
    return 1 if recipe.likelihood.kind == "bernoulli" else recipe.image.bits


def pixel_width(recipe: Recipe) -> Width:
    """What the network sees of pixels: odd integers around zero."""
    top = 2 ** count_value_bits(recipe) - 1
    return Width(torch.full((recipe.image.channels,), 1 / top, dtype=torch.double), top)


def raw_width(recipe: Recipe) -> Width:
    """The raw parameters of a pixel as the tables expect them."""
    kind, k = recipe.likelihood.kind, recipe.likelihood.components
    scale = torch.empty(count_raw(kind, recipe.image.channels, k), dtype=torch.double)
    mean = 1 / half_range(count_value_bits(recipe))
    if kind == "colourwise":
        parts = scale[: 9 * k].view(3, 3 * k)
        parts[0], parts[1], parts[2] = mean / recipe.likelihood.mean_scale, 1 / LOG_SCALE_UNIT, 1 / LOGIT_UNIT
        scale[9 * k :] = 1 / COLOUR_UNIT
    elif kind == "joint":
        colours = scale[k:].view(3, 3, k)
        colours[:, 0], colours[:, 1], colours[:, 2] = mean, 1 / LOG_SCALE_UNIT, 1 / COLOUR_UNIT
        scale[:k] = 1 / LOGIT_UNIT
    else:
        scale[:] = 1 / BERNOULLI_UNIT
    return Width(scale, raw_bound(kind))
