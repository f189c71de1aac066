"""The discretised mixture of logistics is a distribution over the 256 values of each colour."""

import dataclasses

import pytest
import torch
from torch import Tensor

from nvae_codec.likelihoods.colourwise import mixture_nats
from nvae_codec.recipes.recipe import LikelihoodRecipe

LEVELS = torch.arange(256) / 127.5 - 1


def random_raw(recipe: LikelihoodRecipe, places: int, seed: int, wide: float = 1.0) -> Tensor:
    torch.manual_seed(seed)
    k = recipe.components
    raw = torch.randn(1, 9 * k + 3, places, 1) * wide
    raw[:, 3 * k : 6 * k] -= 2.5
    return raw


def probabilities(raw: Tensor, guess: Tensor, x: Tensor, colour: int, recipe: LikelihoodRecipe) -> Tensor:
    """p(every level) of one colour at each place, the colours before as they are in x: (256, places)."""
    all_levels = []
    for level in LEVELS:
        trial = x.clone()
        trial[:, colour] = level
        all_levels.append(mixture_nats(raw, guess, trial, recipe)[0, colour, :, 0])
    return torch.exp(-torch.stack(all_levels).double())


def reference(raw: Tensor, guess: Tensor, x: Tensor, colour: int, recipe: LikelihoodRecipe) -> Tensor:
    """The same from the definition, in float64."""
    k = recipe.components
    raw, guess, x = raw[0, :, :, 0].double(), guess[0, :, :, 0].double(), x[0, :, :, 0].double()
    mean, log_scale, logit = raw[: 9 * k].view(3, 3, k, -1)[:, colour]
    coefficients = raw[9 * k :]
    residual = x - guess
    mean = recipe.mean_scale * mean + guess[colour]
    if colour == 1:
        mean = mean + coefficients[0] * residual[0]
    if colour == 2:
        mean = mean + coefficients[1] * residual[0] + coefficients[2] * residual[1]
    scale, weight = log_scale.clamp(-7, 2.5).exp(), logit.softmax(0)
    edges = (torch.arange(1, 256).double() - 0.5) / 127.5 - 1
    below = (weight[None] * torch.sigmoid((edges[:, None, None] - mean) / scale)).sum(1)
    whole = torch.cat([torch.zeros(1, below.shape[1]), below, torch.ones(1, below.shape[1])])
    return whole.diff(dim=0)


@pytest.mark.parametrize("components", [1, 3, 10])
@pytest.mark.parametrize("wide", [0.3, 1.0, 4.0])
def test_the_values_of_a_colour_have_all_the_probability(components: int, wide: float) -> None:
    recipe = LikelihoodRecipe(components=components, mean_scale=0.5)
    raw = random_raw(recipe, 40, components, wide)
    x = LEVELS[torch.randint(256, (1, 3, 40, 1))]
    x[:, :, :2], x[:, :, 2:4] = -1, 1
    guess = LEVELS[torch.randint(256, (1, 3, 40, 1))]
    for colour in range(3):
        found, expected = (f(raw, guess, x, colour, recipe) for f in (probabilities, reference))
        torch.testing.assert_close(expected.sum(0), torch.ones(40, dtype=torch.double))
        torch.testing.assert_close(found.sum(0), torch.ones(40, dtype=torch.double), atol=2e-3, rtol=0)
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-2)


def test_far_values_are_improbable_but_finite_and_have_gradients() -> None:
    recipe = LikelihoodRecipe(components=2)
    raw = random_raw(recipe, 8, 0, 30.0).requires_grad_()
    x = torch.ones(1, 3, 8, 1)
    x[:, :, ::2] = -1
    nats = mixture_nats(raw, torch.zeros_like(x), x, recipe)
    assert torch.isfinite(nats).all()
    nats.sum().backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_the_scale_of_the_means_scales_them() -> None:
    recipe = LikelihoodRecipe(components=2, mean_scale=0.1)
    raw = random_raw(recipe, 8, 1)
    scaled = raw.clone()
    scaled[:, :6] *= 0.1
    x = LEVELS[torch.randint(256, (1, 3, 8, 1))]
    plain = dataclasses.replace(recipe, mean_scale=1.0)
    torch.testing.assert_close(
        mixture_nats(raw, torch.zeros_like(x), x, recipe), mixture_nats(scaled, torch.zeros_like(x), x, plain)
    )
