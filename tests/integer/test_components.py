"""The paper's components, exported: interpolation in integers, factorised and dilated steps, normalised weights."""

import dataclasses
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.errors import ModelFileError
from nvae_codec.export.export import Exported, export
from nvae_codec.integer.operations import SpreadMap
from nvae_codec.integer.resampling import Interpolate, Pool, Repeat
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import parse_recipe, read_recipe
from nvae_codec.recipes.recipe import Recipe
from tests.integer.test_agreement import NEAR, largest_differences
from tests.models import OFFICIAL, change, make_image, make_network, random_crops, round_trip

PAPER = change(
    OFFICIAL + "\n[network.postprocess_cell]\nexpansion = 3\n", "network.resampling = 'residual'",
    "network.top_size = 8", "network.decoder_width = 12", "network.encoder_cell.dilations = [2, 1]",
)  # fmt: skip


@cache
def exported(which: str) -> tuple[Nvae, Exported]:
    network = make_network(parse_recipe(PAPER) if which == "NVAE" else very_deep())
    return network, export(network, [random_crops(4, 32)])


def very_deep() -> Recipe:
    """The Very Deep VAE of CIFAR-10, narrow and with one group a scale."""
    recipe = read_recipe("vdvae-cifar10")
    groups = [min(1, count) for count in recipe.network.groups]
    network = dataclasses.replace(recipe.network, width=12, latents=[3], groups=groups, scale_cells=[1] * len(groups))
    likelihood = dataclasses.replace(recipe.likelihood, kind="colourwise")  # whose units the comparison knows
    return dataclasses.replace(recipe, network=network, likelihood=likelihood)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (2, 3), (16, 16), (31, 48)])
def test_interpolation_is_the_float_one_rounded_once(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    x = torch.randint(-4095, 4096, (2, 3, rows, columns)).float()
    found = Interpolate("up", ("x",)).run([x])
    real = F.interpolate(x.double(), scale_factor=2, mode="bilinear", align_corners=True)
    assert float((found.double() - real).abs().max()) <= 0.5 + 1e-9
    assert torch.equal(found, found.round())


def test_repeats() -> None:
    x = torch.randint(-9, 9, (2, 3, 2, 5)).float()
    assert torch.equal(Repeat("up", ("x",)).run([x]), F.interpolate(x, scale_factor=2, mode="nearest"))
    value = torch.arange(2 * 3 * 3).float().view(2, 3, 3)
    found = SpreadMap("start", ("x",), value).run([torch.zeros(2, 1, 4, 2)])
    assert torch.equal(found[1], torch.cat([value, value[:, :1]], 1)[:, :, :2])


@pytest.mark.parametrize(("which", "near"), [("NVAE", NEAR), ("Very Deep VAE", 2 * NEAR)])  # five scales round more
def test_the_exact_network_agrees_with_the_float_one(which: str, near: float) -> None:
    network, exact = exported(which)
    differences = largest_differences(network, exact, random_crops(2, 32, seed=7))
    assert differences.keys() == exact.model.graph.outputs.keys()
    assert max(differences.values()) < near


@pytest.mark.parametrize("which", ["NVAE", "Very Deep VAE"])
def test_images_make_the_round_trip(which: str) -> None:
    codec = ModelCodec(exported(which)[1].model)
    for height, width in ((32, 32), (37, 70)):
        pixels = make_image(height, width)
        round_trip(codec, pixels)


def test_a_density_cannot_be_exported() -> None:
    recipe = parse_recipe(change(OFFICIAL, "likelihood.kind = 'normal'"))
    with pytest.raises(ModelFileError, match=r"^likelihood\.kind = 'normal' is a density: it gives"):
        export(make_network(recipe), [random_crops(1, 32)])


def test_pooling_is_the_mean_rounded() -> None:
    x = torch.randint(-9, 9, (2, 3, 4, 6)).float()
    assert torch.equal(Pool("down", ("x",)).run([x]), (F.avg_pool2d(x, 2) + 0.5).floor())
