"""Samples and reconstructions: what they depend on, what they do not, and that pixels follow their likelihood."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nvae_codec.errors import NvaeCodecError
from nvae_codec.likelihoods.colourwise import mixture_nats
from nvae_codec.likelihoods.likelihood import find_likelihood
from nvae_codec.network.likelihood import phase_pixels
from nvae_codec.network.normal import normal_of_raw
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.sampling import (
    ImageNoise,
    crop_middles,
    groups_of_scales,
    make_grid,
    make_pairs,
    network_size,
    readjust_batch_norm,
    reconstruct,
    sample,
)
from nvae_codec.polyphase import list_phases
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import LikelihoodRecipe, Recipe
from tests.models import OFFICIAL, change, make_image, make_network, make_recipe
from tests.network.test_components import PAPER

DIGITS = change(
    PAPER, "image.channels = 1", "image.padding = 2",
    "likelihood.kind = 'bernoulli'", "training.crop = 12",
)  # fmt: skip
RECIPES = {
    "phases": make_recipe(),
    "colourwise": parse_recipe(OFFICIAL),
    "joint, flows": parse_recipe(PAPER),
    "normal": parse_recipe(change(PAPER, "likelihood.kind = 'normal'")),
    "binary": parse_recipe(DIGITS),
}


def images_of(recipe: Recipe, count: int = 3) -> np.ndarray:
    side = recipe.training.crop
    return np.stack([make_image(side, side, seed)[:, :, : recipe.image.channels] for seed in range(count)])


@pytest.mark.parametrize("which", RECIPES)
def test_images_depend_only_on_the_seed(which: str) -> None:
    recipe = RECIPES[which]
    network = make_network(recipe)
    side = recipe.training.crop
    first = sample(network, 5, seed=3, temperature=0.7)
    assert first.shape == (5, side, side, recipe.image.channels)
    assert first.dtype == np.uint8
    assert np.array_equal(first, sample(network, 5, seed=3, temperature=0.7))
    assert not np.array_equal(first, sample(network, 5, seed=4, temperature=0.7))
    assert len(np.unique(first.reshape(5, -1), axis=0)) == 5
    # in batches of other sizes; a network may change its last bits with them, and then now and then a level
    assert (first == sample(network, 9, seed=3, temperature=0.7)[:5]).mean() > 0.99
    shown = images_of(recipe)
    made = reconstruct(network, shown, seed=3)
    assert made.shape == shown.shape
    assert np.array_equal(made, reconstruct(network, shown, seed=3))
    assert not np.array_equal(made, reconstruct(network, shown, seed=4))


@pytest.mark.parametrize("which", ["phases", "colourwise", "joint, flows", "normal"])
def test_at_temperature_zero_the_means_are_left(which: str) -> None:
    recipe = RECIPES[which]
    network = make_network(recipe)
    cold = sample(network, 2, temperature=0, pixels="mean", seed=1)
    assert np.array_equal(cold[0], cold[1])
    assert np.array_equal(cold, sample(network, 2, temperature=0, pixels="mean", seed=2))
    assert not np.array_equal(cold, sample(network, 2, temperature=0, pixels="draw"))
    shown = images_of(recipe)
    kept = reconstruct(network, shown, temperature=0, pixels="mean", seed=1)
    assert np.array_equal(kept, reconstruct(network, shown, temperature=0, pixels="mean", seed=2))
    assert not np.array_equal(kept[0], kept[1])


def test_a_sample_is_ancestral() -> None:
    recipe = RECIPES["joint, flows"]
    network = make_network(recipe)
    noise = ImageNoise(5, [0, 1], torch.device("cpu"))

    def choose(group: int, raw: Tensor | None) -> Tensor:
        drawn = noise.normal(group, (3, 4 << (group > 0), 4 << (group > 0)))
        prior = normal_of_raw(raw, drawn.repeat(1, 2, 1, 1))
        return prior.mean + 0.6 * drawn * prior.sigma

    raw: list[Tensor] = []
    with torch.no_grad():
        features = network.hierarchy.generate(torch.zeros(2, 1, 4, 4), choose)
        network.likelihood(features, lambda _: features, lambda _, found: raw.append(found))
        mean = find_likelihood(recipe.likelihood.kind).pixels(raw[0], raw[0], recipe, None)
        expected = (mean + 1) * 127.5
    found = sample(network, 2, temperature=0.6, seed=5, pixels="mean")
    assert np.abs(found - expected.permute(0, 2, 3, 1).numpy()).max() <= 0.5 + 1e-3


def test_a_row_shares_what_is_fixed() -> None:
    network = make_network(RECIPES["colourwise"])
    everything = groups_of_scales(network.recipe, 2)
    assert (groups_of_scales(network.recipe, 0), groups_of_scales(network.recipe, 1), everything) == (0, 1, 3)
    held = sample(network, 5, pixels="mean", fixed_groups=everything, columns=2)
    assert np.array_equal(held[0], held[1])
    assert np.array_equal(held[2], held[3])
    assert len(np.unique(held.reshape(5, -1), axis=0)) == 3
    free = sample(network, 5, pixels="mean", fixed_groups=1, columns=2)
    assert len(np.unique(free.reshape(5, -1), axis=0)) == 5
    assert np.array_equal(sample(network, 5, pixels="mean", fixed_groups=1, columns=2)[::2], free[::2])
    with pytest.raises(NvaeCodecError, match="3 scales cannot be held fixed: the model official has 2"):
        groups_of_scales(network.recipe, 3)


def test_a_reconstruction_depends_only_on_the_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(RECIPES["phases"])
    draw = Nvae.draw

    def forget(self: Nvae, index: int, prior: Tensor | None, posterior: Tensor, noise: Tensor | None = None) -> object:
        return draw(self, index, prior, torch.zeros_like(posterior), noise)

    monkeypatch.setattr(Nvae, "draw", forget)
    made = reconstruct(network, images_of(network.recipe), temperature=0, pixels="mean")
    assert np.array_equal(made[0], made[1])


def test_binary_images_are_means_unless_drawn() -> None:
    network = make_network(RECIPES["binary"])
    assert len(np.unique(sample(network, 2))) > 2
    assert set(np.unique(sample(network, 2, pixels="draw"))) == {0, 255}


def test_colours_come_back_in_their_order() -> None:
    recipe = parse_recipe(change(OFFICIAL + "\n[image]\n", "image.colour_order = 'grb'"))
    network = make_network(recipe)
    head = network.likelihood.out
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[:2] = 0.6  # both components of the colour that is coded first: green
        head.bias[4:6] = -0.6  # and of the last: blue
    assert sample(network, 1, pixels="mean").mean((0, 1, 2)).round().tolist() == [128, 204, 51]


def test_drawn_pixels_follow_the_mixture() -> None:
    """Their mean cost is the entropy, colour by colour given those before, within five standard errors."""
    recipe = Recipe(likelihood=LikelihoodRecipe(components=3, mean_scale=0.5))
    generator = torch.Generator().manual_seed(0)
    raw = 0.5 * torch.randn(1, 30, 24, 24, generator=generator)
    raw[:, 9:18] -= 2
    drawn = phase_pixels(
        raw, list_phases(0)[0], lambda plane: raw, recipe, lambda n: torch.rand(1, n, 24, 24, generator=generator)
    )
    levels = (drawn + 1) * 127.5
    assert float((levels - levels.round()).abs().max()) < 1e-3
    guess = torch.zeros_like(drawn)
    cost = mixture_nats(raw, guess, drawn, recipe.likelihood)
    for colour in range(3):
        tried = drawn.repeat(256, 1, 1, 1)
        tried[:, colour] = (torch.arange(256.0) / 127.5 - 1)[:, None, None]
        each = mixture_nats(raw.expand(256, -1, -1, -1), guess, tried, recipe.likelihood)[:, colour]
        chance = torch.exp(-each)
        assert torch.allclose(chance.sum(0), torch.ones(24, 24), atol=1e-3)
        entropy = (chance * each).sum(0)
        surplus = cost[0, colour] - entropy
        assert abs(float(surplus.mean())) < 5 * float(surplus.std()) / math.sqrt(surplus.numel())


def test_batch_norms_are_readjusted_to_a_temperature() -> None:
    network = make_network(RECIPES["joint, flows"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    readjust_batch_norm(network, 0.5, passes=3)
    after = network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)
    assert not any(name.startswith("hierarchy.encoder") for name in changed)
    assert not any(module.training for module in network.modules())
    again = make_network(RECIPES["joint, flows"])
    readjust_batch_norm(again, 0.5, passes=3)
    assert all(torch.equal(value, after[name]) for name, value in again.state_dict().items())


def test_sizes_that_a_model_does_not_have() -> None:
    network = make_network(RECIPES["colourwise"])
    assert sample(network, 1, (8, 24)).shape == (1, 8, 24, 3)
    with pytest.raises(NvaeCodecError, match="multiples of 4; 24x10 is not"):
        sample(network, 1, (10, 24))
    with pytest.raises(NvaeCodecError, match="knows images of 16x16 alone, not 32x32"):
        network_size(RECIPES["joint, flows"], 32, 32)
    assert network_size(RECIPES["binary"], 12, 12) == (16, 16)


def test_middles_of_images() -> None:
    recipe, images = RECIPES["colourwise"], [make_image(20, 41), make_image(23, 38)]
    assert crop_middles(images, recipe).shape == (2, 20, 36, 3)
    assert np.array_equal(crop_middles(images, recipe, (8, 4))[0], images[0][6:14, 18:22])
    assert crop_middles(images, RECIPES["joint, flows"]).shape == (2, 16, 16, 3)
    with pytest.raises(NvaeCodecError, match="an image of 41x20 is smaller than 24x24"):
        crop_middles(images, recipe, (24, 24))
    with pytest.raises(NvaeCodecError, match="knows gray images alone"):
        crop_middles(images, RECIPES["binary"])
    assert crop_middles([np.full((12, 14, 3), 9, np.uint8)], RECIPES["binary"]).shape == (1, 12, 12, 1)


def test_grids() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 3), np.uint8)
    grid = make_grid(images, 2, gap=1)
    assert grid.shape == (5, 9, 3)
    assert grid[0, 0, 0] == 0
    assert grid[0, 5, 0] == 1
    assert grid[3, 0, 0] == 2
    assert grid[3, 5, 0] == grid[2, 0, 0] == 255
    pairs = make_pairs(images[..., :1], images[..., :1] + 10, 2)
    assert pairs.shape == (14, 10)
    assert pairs[::4, 0].tolist() == [0, 10, 2, 12]
    assert pairs[::4, 6].tolist() == [1, 11, 255, 255]
