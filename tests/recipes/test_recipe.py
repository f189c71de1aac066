"""Recipes: read, written, and refused with every fault named."""

from pathlib import Path

import pytest

from nvae_codec.errors import RecipeError
from nvae_codec.recipes.files import (
    find_recipe,
    format_recipe,
    list_recipes,
    parse_recipe,
    read_recipe,
    summarize_recipe,
)
from nvae_codec.recipes.recipe import Recipe
from tests.models import PHASED, RECIPES, make_recipe


@pytest.mark.parametrize("which", RECIPES)
def test_what_is_written_reads_back_equal(which: str) -> None:
    recipe = make_recipe(which)
    assert parse_recipe(format_recipe(recipe)) == recipe


def test_the_default_recipe_is_possible() -> None:
    assert parse_recipe("") == Recipe()


def test_strides_follow_from_patch_blocks_and_scales() -> None:
    for which, stride, strides in (
        ("phases of two levels", 8, [8, 4]),
        ("official: batch norm, gates, swish", 4, [4, 2, 2]),
        ("phases, batch norm, gates", 16, [16, 8]),
    ):
        recipe = make_recipe(which)
        assert (recipe.stride, recipe.network.latent_strides) == (stride, strides)
    skipping = make_recipe("phases of two levels", "network.groups = [1, 0, 2]", "network.latents = [3]")
    assert skipping.network.latent_strides == [16, 16, 4]


def test_latents_are_given_once_or_per_scale() -> None:
    for which, latents in (("phases of two levels", [2, 3]), ("official: batch norm, gates, swish", [3, 3])):
        network = make_recipe(which).network
        assert [network.latents_of_scale(scale) for scale in range(2)] == latents


def test_integers_serve_as_floats() -> None:
    recipe = parse_recipe(PHASED, ["training.clip = 3"])
    assert isinstance(recipe.training.clip, float)


FAULTS = [
    ("widht = 8", "unknown key widht (did you mean network.width?)"),
    ("network.widht = 8", "unknown key network.widht (did you mean network.width?)"),
    ("network.decoder_cell.kernels = 3", "unknown key network.decoder_cell.kernels (did you mean network.decoder_cell"),
    ("network.scales = 1", "unknown key network.scales (did you mean likelihood.scales?)"),
    ("name = 3", "name = 3 has the wrong type: the model's name"),
    ("network.width = 8.0", "network.width = 8.0 has the wrong type: channels at the stem"),
    ("network.width = true", "network.width = True has the wrong type"),
    ("network.groups = 2", "network.groups = 2 has the wrong type"),
    ("network.groups = [1, 1.5]", "network.groups = [1, 1.5] has the wrong type"),
    ("network.groups = [true]", "network.groups = [True] has the wrong type"),
    ("network.residual_normal = 1", "network.residual_normal"),
    ("network.decoder_cell.activation = 1", "network.decoder_cell.activation"),
    ("training.learning_rate = '0.1'", "training.learning_rate"),
    ("name = 'a b'", "name = 'a b' is not"),
    ("name = ''", "name = ''"),
    ("image.bits = 16", "image.bits = 16 is not in [1, 8]: bits of a colour value"),
    ("image.channels = 1", "image.channels = 1 does not fit likelihood.kind = 'colourwise'"),
    ("image.bits = 5", "image.bits = 5 does not fit likelihood.kind = 'colourwise'"),
    ("image.colour_order = 'rgg'", "image.colour_order = 'rgg' is not one of rgb, rbg"),
    ("network.patch = 3", "network.patch = 3 is not one of 1, 2, 4, 8: size of the squares"),
    ("network.width = 2", "network.width = 2 is not in [4, 1024]"),
    ("network.groups = []", "network.groups = [] has a length outside [1, 12]"),
    ("network.groups = [1, 0]", "network.groups = [1, 0] has no group on the coarsest scale"),
    ("network.group = 'deep'", "network.group = 'deep' is not one of nvae, very_deep"),
    ("network.scale_cells = [1]", "network.scale_cells = [1] does not have 2 numbers"),
    ("network.scale_widths = [9, 8]", "network.scale_widths = [9, 8] needs"),
    ("network.latents = [1, 2, 3]", "network.latents = [1, 2, 3] does not have 2 numbers"),
    ("network.latents = [0]", "network.latents = [0] is not in [1, 256]"),
    ("network.encoder_cell.residual_scale = nan", "network.encoder_cell.residual_scale = nan is not in (0, 1]"),
    ("network.resampling = 'residual'", "network.resampling = 'residual' needs encoder_cell.kind"),
    (
        "network.decoder_cell = { kind = 'separable', expansion = 2, kernel_groups = 3 }",
        "network.decoder_cell.kernel_groups = 3",
    ),
    ("training.learning_rate = nan", "training.learning_rate = nan is not in (0, 1): highest learning rate"),
    ("training.final_learning_rate = 0.5", "training.final_learning_rate = 0.5 is above"),
    ("training.ema = 1", "training.ema = 1.0 is not in [0, 1)"),
    ("training.clip = " + "9" * 400, "training.clip = 99999"),
    ("training.seed = -1", "training.seed = -1"),
    ("training.crop = 20", "training.crop = 20 is not a multiple of 8, the network's stride"),
    ("network.patch = 2", "likelihood.scales = 2 needs network.patch = 4"),
]


@pytest.mark.parametrize(("line", "said"), FAULTS, ids=[line[:40] for line, _ in FAULTS])
def test_a_fault_names_its_field(line: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe(PHASED, [line])
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_all_faults_are_named_together() -> None:
    text = "network = 3\n[likelihood]\nlevels = 2\nkind = 'joined'\n[training]\nlearning_rate = 2\nsteps = 0\n"
    with pytest.raises(RecipeError) as error:
        parse_recipe(text)
    starts = ["network is a table", "unknown key likelihood.levels", "likelihood.kind", "training.learning_rate"]
    faults = str(error.value).split("; ")
    assert [fault.startswith(start) for fault, start in zip(faults, [*starts, "training.steps"], strict=True)] == [
        True
    ] * 5


HOSTILE = {
    "nested arrays": "a = " + "[" * 900,
    "nested arrays over lines": "a = " + "[\n" * 30_000,
    "nested tables": "a = " + "{a = " * 150,
    "a long integer": "training.steps = " + "9" * 900,
    "an integer of 100,000 digits": "training.steps = " + "9" * 100_000,
    "integers over lines": "[training]\nseed = 1\n" + "\n".join(f"a{i} = {'9' * 900}" for i in range(50)),
    "a key of 20,000 parts": "a." * 20_000 + "b = 1",
    "20,000 dotted keys": "\n".join(f"a.b{i} = 1" for i in range(20_000)),
    "keys of 400 parts": "\n".join(f"x{i}." + "a." * 400 + "b = 1" for i in range(70)),
    "many unknown keys": "\n".join(f"k{i} = 1" for i in range(6000)),
    "not a string": "extends = 3",
    "nobody": "extends = 'nobody'",
    "a folder": "extends = '.'",
    "a long name": f"extends = '{300 * 'x'}'",
    "no text": f"extends = '{Path(__file__).parents[1] / 'golden' / 'tiny.nvae'}'",
}


@pytest.mark.parametrize("which", HOSTILE)
def test_hostile_recipes_are_refused_in_one_line(which: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(HOSTILE[which])
    with pytest.raises(RecipeError) as error:
        read_recipe(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 4000


@pytest.mark.parametrize("content", [b"width: 8", b"\xff\xfe", b"network = 1", b"[network]\nextends = 'cifar10'"])
def test_a_file_that_is_no_recipe_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"recipe\.toml: "):
        read_recipe(path)


def test_a_recipe_extends_another_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text("extends = 'cifar10'\nname = 'first'\n[network]\nflows = 0\n")
    (tmp_path / "second.toml").write_text("extends = 'first.toml'\n[network.decoder_cell]\nexpansion = 2\n")
    base, second = read_recipe("cifar10").network, read_recipe(tmp_path / "second.toml")
    assert (second.name, second.network.flows, second.network.decoder_cell.expansion) == ("first", 0, 2)
    assert (second.network.groups, second.network.decoder_cell.kernel) == (base.groups, base.decoder_cell.kernel)
    (tmp_path / "first.toml").write_text("extends = 'second.toml'")
    with pytest.raises(RecipeError, match="more than 8 recipes"):
        read_recipe(tmp_path / "second.toml")


def test_changes_are_dotted_keys() -> None:
    changes = ["network.flows=0", "training.optimizer = adamw", "network.groups=[3]", "training.histories.clean=1"]
    recipe = read_recipe("cifar10", changes)
    assert (recipe.network.flows, recipe.training.optimizer, recipe.network.groups) == (0, "adamw", [3])
    assert recipe.training.histories is not None
    for wrong, said in (
        ("network.flow=0", "did you mean network.flows"),
        ("flows", "KEY=VALUE"),
        ("=1", "unknown key"),
    ):
        with pytest.raises(RecipeError, match=said):
            read_recipe("cifar10", [wrong])


def test_recipes_are_found_by_name() -> None:
    known = list_recipes()
    assert {"small-photo", "cifar10", "photo", "natural32"} <= known.keys()
    assert all(find_recipe(name) == path and summarize_recipe(path) for name, path in known.items())
    with pytest.raises(RecipeError, match=r"small-foto: no such recipe; did you mean small-photo\?"):
        read_recipe("small-foto")
