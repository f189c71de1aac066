"""Recipes: read, written, and refused with the name of the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvae_codec.errors import RecipeError
from nvae_codec.recipes.recipe import Recipe, format_recipe, parse_recipe, read_recipe
from tests.models import PHASED, RECIPES, change, make_recipe

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("which", RECIPES)
def test_what_is_written_reads_back_equal(which: str) -> None:
    recipe = make_recipe(which)
    assert parse_recipe(format_recipe(recipe)) == recipe


def test_the_default_recipe_is_possible() -> None:
    assert parse_recipe("") == Recipe()
    assert parse_recipe(format_recipe(Recipe())) == Recipe()


def test_strides_of_latents_from_the_top() -> None:
    assert make_recipe("phases of two levels").network.latent_strides == [8, 4]
    assert make_recipe("official: batch norm, gates, swish").network.latent_strides == [4, 2, 2]
    skipping = make_recipe("phases of two levels", "network.groups = [1, 0, 2]", "network.latents = [3]")
    assert skipping.network.latent_strides == [16, 16, 4]


def test_whole_numbers_serve_as_real_ones() -> None:
    recipe = parse_recipe(change(PHASED, "training.clip = 3"))
    assert recipe.training.clip == 3.0
    assert isinstance(recipe.training.clip, float)


@pytest.mark.parametrize("path", sorted(MODELS.rglob("recipe.toml")), ids=lambda path: str(path.parent.name))
def test_the_recipes_of_our_models_parse(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.parent.name
    assert parse_recipe(format_recipe(recipe)) == recipe


UNKNOWN = [
    ("widht = 8", "unknown key widht"),
    ("network.widht = 8", "unknown key network.widht"),
    ("network.decoder_cell.kernels = 3", "unknown key network.decoder_cell.kernels"),
]
WRONG_TYPES = [
    ("name = 3", "name = 3 has the wrong type"),
    ("network = 3", "network is a table"),
    ("network.width = 8.0", "network.width = 8.0 has the wrong type: channels at the stem"),
    ("network.width = true", "network.width"),
    ("network.groups = 2", "network.groups"),
    ("network.groups = [1, 1.5]", "network.groups"),
    ("network.groups = [true]", "network.groups"),
    ("network.residual_normal = 1", "network.residual_normal"),
    ("network.decoder_cell.activation = 1", "network.decoder_cell.activation"),
    ("training.rate = '0.1'", "training.rate"),
]
IMPOSSIBLE = [
    ("name = 'a b'", "name = 'a b' is not possible"),
    ("name = ''", "name"),
    ("image.bits = 16", "image.bits"),
    ("image.channels = 1", "image.channels"),
    ("image.colour_order = 'rgg'", "image.colour_order"),
    ("network.patch = 3", "network.patch"),
    ("network.width = 2", "network.width"),
    ("network.width_growth = 3", "network.width_growth"),
    ("network.groups = []", "network.groups"),
    ("network.groups = [1, 0]", "network.groups"),
    ("network.group = 'deep'", "network.group"),
    ("network.scale_cells = [1]", "network.scale_cells"),
    ("network.scale_widths = [8]", "network.scale_widths"),
    ("network.scale_widths = [9, 8]", "network.scale_widths"),
    ("network.latents = [1, 2, 3]", "network.latents"),
    ("network.latents = [0]", "network.latents"),
    ("network.encoder_cells = 0", "network.encoder_cells"),
    ("network.posterior_log_sigma = 3", "network.posterior_log_sigma"),
    ("network.encoder_cell.kernel = 4", "network.encoder_cell.kernel = 4 is not possible: side of the depthwise"),
    ("network.encoder_cell.kind = 'dense'", "network.encoder_cell.kind"),
    ("network.encoder_cell.activation = 'mish'", "network.encoder_cell.activation"),
    ("network.encoder_cell.normalization = 'group'", "network.encoder_cell.normalization"),
    ("network.encoder_cell.expansion = 9", "network.encoder_cell.expansion"),
    ("network.encoder_cell.residual_scale = nan", "network.encoder_cell.residual_scale"),
    ("likelihood.components = 17", "likelihood.components"),
    ("likelihood.mean_scale = 0", "likelihood.mean_scale"),
    ("training.optimizer = 'sgd'", "training.optimizer"),
    ("training.rate = nan", "training.rate"),
    ("training.final_rate = 0.5", "training.final_rate"),
    ("training.ema = 1", "training.ema"),
    ("training.decay_share = 1.5", "training.decay_share"),
    ("training.steps = 0", "training.steps"),
]
DO_NOT_FIT = [
    ("training.crop = 20", "training.crop = 20 is not possible"),
    ("network.patch = 2", "likelihood.levels = 2 needs network.patch = 4"),
    ("likelihood.levels = 1", "likelihood.levels = 1 needs network.patch = 2"),
]


@pytest.mark.parametrize(("line", "said"), UNKNOWN + WRONG_TYPES + IMPOSSIBLE + DO_NOT_FIT)
def test_an_error_names_its_field(line: str, said: str) -> None:
    text = line if line == "network = 3" else change(PHASED, line)
    with pytest.raises(RecipeError) as error:
        parse_recipe(text)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for content in (b"width: 8", b"\xff\xfe", b"network = 1"):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"recipe\.toml: "):
            read_recipe(path)


def test_the_stride_follows_from_patch_blocks_and_scales() -> None:
    assert make_recipe("phases of two levels").stride == 4 * 2
    assert make_recipe("official: batch norm, gates, swish").stride == 1 * 2 * 2
    assert make_recipe("phases, batch norm, gates").stride == 4 * 2 * 2


def test_latents_are_told_once_or_a_scale() -> None:
    network = make_recipe("phases of two levels").network
    assert [network.latents_of_scale(scale) for scale in range(2)] == [2, 3]
    network = make_recipe("official: batch norm, gates, swish").network
    assert [network.latents_of_scale(scale) for scale in range(2)] == [3, 3]
