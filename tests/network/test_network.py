"""Networks of many recipes: shapes, and a step of training with finite gradients."""

import itertools

import pytest
import torch
from torch import nn

from nvae_codec.network.cells import Downsample, ResidualCell, Upsample
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import CellRecipe
from tests.models import OFFICIAL, PHASED, RECIPES, change, make_recipe, random_crops

KINDS, NORMS = ("regular", "separable", "depthwise"), ("batch", "none")


@pytest.mark.parametrize("activation", ["swish", "hard_swish", "elu", "relu", "gelu"])
@pytest.mark.parametrize(("kind", "normalization"), list(itertools.product(KINDS, NORMS)))
def test_cells_keep_shapes_and_pass_gradients(kind: str, normalization: str, activation: str) -> None:
    torch.manual_seed(0)
    cell = ResidualCell(8, CellRecipe(kind, 5, 2, normalization, activation, residual_scale=0.1))
    x = torch.randn(2, 8, 6, 10, requires_grad=True)
    out = cell(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    for parameter in cell.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_a_depthwise_cell_begins_as_identity() -> None:
    cell = ResidualCell(8, CellRecipe("depthwise", 3, 2, "none", "relu", squeeze_excitation=False, residual_scale=1.0))
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(cell(x), x)


def test_steps_between_scales() -> None:
    x = torch.randn(2, 8, 6, 10)
    assert Downsample(8, 16, "relu")(x).shape == (2, 16, 3, 5)
    assert Upsample(8, 4)(x).shape == (2, 4, 12, 20)
    assert Upsample(8, 4, 4)(x).shape == (2, 4, 24, 40)


def one_step(text: str) -> Nvae:
    recipe = parse_recipe(text)
    torch.manual_seed(0)
    network = Nvae(recipe)
    elbo = network(random_crops(2, 4 * recipe.stride))
    groups = sum(recipe.network.groups)
    assert len(elbo.kl) == groups
    assert [kl.shape for kl in elbo.kl] == [(2, latents) for latents in network.latents]
    assert len(elbo.pixels) == 1 + 3 * recipe.likelihood.scales
    loss = torch.stack(elbo.pixels).sum() + torch.cat(elbo.kl, 1).sum()
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        used = not name.startswith("likelihood.experts.")  # a step trains one expert, here the first
        assert (parameter.grad is not None) == used, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    torch.optim.SGD(network.parameters(), 1e-6).step()
    again = network(random_crops(2, 4 * recipe.stride))
    assert all(torch.isfinite(part) for part in again.pixels)
    return network


@pytest.mark.parametrize("which", RECIPES)
def test_recipes_train_a_step(which: str) -> None:
    one_step(RECIPES[which])


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("blocks", [0, 1])
def test_patches_of_pixels(patch: int, blocks: int) -> None:
    one_step(change(OFFICIAL, f"network.patch = {patch}", f"network.preprocess_blocks = {blocks}"))
    if patch > 1:
        levels = patch.bit_length() - 1
        phased = change(PHASED, f"network.patch = {patch}", f"likelihood.scales = {levels}")
        one_step(change(phased, f"network.preprocess_blocks = {blocks}"))


def test_three_scales_of_several_groups() -> None:
    network = one_step(
        change(
            OFFICIAL, "network.groups = [2, 1, 2]", "network.latents = [1, 2, 3]", "network.decoder_cells = 0",
            "training.crop = 16",
        )
    )  # fmt: skip
    assert network.latents == [3, 3, 2, 1, 1]


def test_colours_are_taken_in_the_order_of_the_recipe() -> None:
    network = Nvae(make_recipe("phases of two levels"))  # grb
    pixels = torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1) * 100
    torch.testing.assert_close(network.normalize(pixels).flatten(), torch.tensor([100, 0, 200]) / 127.5 - 1)


def test_the_first_phase_can_be_trained_alone() -> None:
    torch.manual_seed(0)
    network = Nvae(make_recipe("phases of two levels"))
    elbo = network(random_crops(1, 16), base_only=True)
    assert len(elbo.pixels) == 1
    assert len(elbo.kl) == 2


def test_batch_norm_is_not_where_it_was_not_asked_for() -> None:
    network = Nvae(make_recipe("official, patch 2, hard swish, no norm"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
