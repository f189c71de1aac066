"""Tables 2, 3, 4 and 5 of the NVAE paper on a small model: every variant trained on one thread for the same time.

    python -m tools.paper_tables --data cifar10/train.npz --minutes-each 1 \\
        --json docs/results/paper_tables.json --page docs/paper-tables.md

The base is the official CIFAR-10 recipe without flows, made narrower and shallower. The budget is processor time, so a
busy machine changes nothing but the wait. Variants that the JSON holds already, of the same budget, are
not trained again.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from nvae_codec.recipes.files import read_recipe
from nvae_codec.recipes.recipe import CellRecipe, Recipe
from nvae_codec.training.data import Crops, held_out_crops
from nvae_codec.training.sources import open_source
from tools.experiment import make_parser, run_variants, train_within
from tools.paper_tables_page import format_page

WIDTH, BATCH = 8, 16
DEPTHS, DEPTH = (2, 4, 8), 4
"""Groups in table 2, and in the others."""
HELD_OUT = 10
"""Every tenth image is held out."""
Change = Callable[[Recipe], Recipe]


def base_recipe(depth: int, seed: int) -> Recipe:
    """The official recipe with narrow layers and ``depth`` groups; its schedule is set when its speed is known."""
    official = read_recipe("cifar10", ["network.flows=0"])
    network = dataclasses.replace(official.network, width=WIDTH, groups=[depth], preprocess_cell=None)
    training = dataclasses.replace(official.training, batch=BATCH, steps_per_epoch=0, seed=seed)
    return dataclasses.replace(official, name="paper-tables", network=network, training=training)


def with_network(**values: Any) -> Change:
    """A change of the network."""
    return lambda recipe: dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, **values))


def with_cells(encoder: CellRecipe, decoder: CellRecipe) -> Change:
    """Other cells on either side; those beyond the finest latents are half as wide inside, as officially."""
    outer = [dataclasses.replace(cell, expansion=3) for cell in (encoder, decoder)]
    return with_network(encoder_cell=encoder, decoder_cell=decoder, preprocess_cell=outer[0], postprocess_cell=outer[1])


def with_training(**values: Any) -> Change:
    """A change of the training."""
    return lambda recipe: dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **values))


def list_variants() -> dict[str, Recipe]:
    """Every variant by name; tables share those that are the same."""
    regular, separable = CellRecipe(kind="regular"), CellRecipe(kind="separable")
    variants: dict[str, Recipe] = {}
    kinds: dict[str, dict[str, Any]] = {
        "WN + ELU": {"normalization": "none", "activation": "elu"},
        "BN + ELU": {"activation": "elu"},
        "BN + Swish": {},
    }
    for name, values in kinds.items():
        cell = dataclasses.replace(regular, **values)
        for depth in DEPTHS:
            variants[f"{name}, L = {depth}"] = with_cells(cell, cell)(base_recipe(depth, 1))
    base = base_recipe(DEPTH, 1)
    no_gate = [dataclasses.replace(cell, squeeze_excitation=False) for cell in (regular, separable)]
    return variants | {
        "NVAE": base,
        "separable, regular": with_cells(separable, regular)(base),
        "separable, separable": with_cells(separable, separable)(base),
        "without residual distributions": with_network(residual_normal=False)(base),
        "without SR": with_training(spectral_weight=0.0)(base),
        "without SE": with_cells(*no_gate)(base),
        "NVAE, seed 2": base_recipe(DEPTH, 2),
        "NVAE, seed 3": base_recipe(DEPTH, 3),
    }


def main() -> None:
    """Train what is missing, and write the page at the end."""
    given = make_parser(__doc__, "images of 32x32", 1).parse_args()
    images = open_source(given.data)
    data = Crops([load for at, load in enumerate(images) if at % HELD_OUT], base_recipe(1, 1).training)
    held_out = held_out_crops(images[::HELD_OUT], data.training.crop, base_recipe(1, 1).stride)
    train = {
        name: partial(train_within, recipe=recipe, data=data, held_out=held_out)
        for name, recipe in list_variants().items()
    }
    described = {
        "images": {"trained_on": len(data.loaders), "held_out": len(held_out)},
        "model": {"width": WIDTH, "batch": BATCH, "depths": list(DEPTHS), "depth": DEPTH},
    }
    given.page.write_text(format_page(run_variants(given, train, described)), encoding="utf-8")


if __name__ == "__main__":
    main()
