"""What each part of the model photo is worth: variants of its recipe, each trained on one thread for the same time.

    python -m tools.ablation --data PHOTOS --valid HELD_OUT --minutes-each 6 \\
        --json docs/results/ablation.json --page docs/ablation.md

The budget is processor time. Variants that the JSON holds already, of the same budget, are not trained again.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvae_codec.network.nvae import Draw, Nvae
from nvae_codec.recipes.files import format_recipe, parse_recipe, read_recipe
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.data import Crops, held_out_crops
from nvae_codec.training.sources import open_source
from tools.experiment import make_parser, run_variants, train_within

SIDE = 256
"""Of the held-out crops."""


@dataclass(frozen=True)
class Variant:
    """A recipe, what is done to its network, and what that asks."""

    recipe: Recipe
    question: str
    change: Callable[[Nvae], None] = lambda network: None


def base_recipe() -> Recipe:
    """Photo's without experts, trained as at the start of a training, some of the time for the hierarchy alone."""
    photo = read_recipe("photo")
    training = dataclasses.replace(
        photo.training, batch=4, crop=96, learning_rate=1.2e-3, decay_fraction=0.5, ema=0.999,
        kl_start=0.8, base_first_fraction=0.2, seed=1, histories=None,
    )  # fmt: skip
    likelihood = dataclasses.replace(photo.likelihood, experts=1)
    return dataclasses.replace(photo, name="ablation", likelihood=likelihood, training=training)


def without_latents(network: Nvae) -> None:
    """Put z at the mean of its prior: the same layers, of which no image reaches the decoder."""
    draw = network.draw

    def draw_nothing(index: int, raw_prior: Tensor | None, raw_posterior: Tensor, noise: Tensor | None = None) -> Draw:
        drawn = draw(index, raw_prior, raw_posterior, noise)
        return dataclasses.replace(drawn, z=drawn.prior.mean, kl=torch.zeros_like(drawn.kl))

    network.draw = draw_nothing  # type: ignore[method-assign]


def list_variants() -> dict[str, Variant]:
    """Every variant by name."""
    base = base_recipe()

    def change(question: str, *changes: str) -> Variant:
        return Variant(parse_recipe(format_recipe(base), changes), question)

    return {
        "photo": Variant(base, "the base of all others"),
        "without latents": Variant(base, "do the latents earn their place?", without_latents),
        "learned latents": change(
            "the photo before: random weights, 4 groups, KL annealed", "network.width=64",
            "network.preprocess_blocks=0", "network.preprocess_cells=3", "network.postprocess_cells=0",
            "network.groups=[1, 2, 1]", "network.latents=[4, 8, 16]", "network.scale_cells=[]",
            "network.encoder_cells=2", "network.posterior_log_sigma=-2.0", "network.pyramid_start=false",
            "network.posterior_reads_prior=false", "training.kl_start=0.02", "training.kl_hold_fraction=0.0",
            "training.kl_warmup_fraction=0.3", "training.kl_balancing=true",
        ),
        "random start": change(
            "the same layers with random weights", "network.pyramid_start=false", "network.posterior_log_sigma=-2.0"
        ),
        "KL at its full weight": change("the KL's weight is 1 from the first step", "training.kl_start=1.0"),
        "three levels of phases": change(
            "phases down to 1/64 of the pixels, the hierarchy from 1/16", "likelihood.scales=3", "network.patch=8",
            "training.batch=2", "training.crop=128",  # a multiple of the stride, which is twice as large
        ),
        "one scale": change("all latents on 1/8", "network.groups=[4]", "network.scale_cells=[1]"),
        "photo, seed 2": change("what is chance?", "training.seed=2"),
        "from red": change("red, green, blue in the place of green, red, blue", "image.colour_order=rgb"),
        "3 logistics": change("of 5", "likelihood.components=3"),
        "all at once": change("the hierarchy and the base are not trained first", "training.base_first_fraction=0.0"),
    }  # fmt: skip


def main() -> None:
    """Train what is missing, and write the page at the end."""
    parser = make_parser(__doc__, "photographs", 6)
    parser.add_argument("--valid", type=Path, required=True, metavar="SOURCE", help="photographs to measure on")
    given = parser.parse_args()
    data = Crops(open_source(given.data), base_recipe().training)
    held_out = held_out_crops(open_source(given.valid), SIDE, 64)
    train = {
        name: partial(train_within, recipe=each.recipe, data=data, held_out=held_out, change=each.change, compiled=True)
        for name, each in list_variants().items()
    }
    images = {"trained_on": len(data.loaders), "held_out": len(held_out)}
    described = {"images": images, "recipe": format_recipe(base_recipe())}
    given.page.write_text(format_page(run_variants(given, train, described)), encoding="utf-8")


def format_page(result: dict[str, Any]) -> str:
    """The table as Markdown, of the variants that there are results for."""
    rows, base = [], result["variants"]["photo"]
    for name, variant in list_variants().items():
        if found := result["variants"].get(name):
            kl = " ".join(f"{group:.4f}" for group in found["held_out_kl"])
            worse = f"{found['held_out'] - base['held_out']:+.3f}"
            rows.append(
                f"| {name} | {variant.question} | {found['parameters']:,} | {found['steps']:,} "
                f"| {found['held_out']:.3f} | {worse} | {found['held_out_pixels'][0]:.3f} | {kl} |"
            )
    machine, images = result["machine"], result["images"]
    table = "\n".join(rows)
    return f"""# What the parts of photo are worth

Variants of [`photo`](models/photo.md), each trained from scratch for {result["minutes_each"]:g} minutes of one thread
({machine["processor"]}, torch {machine["torch"]}), on {images["trained_on"]} photographs; measured in float on the
middle {SIDE}x{SIDE} of {images["held_out"]} others. Bits/dim; *base* is what every fourth pixel of each axis takes of
it (of the variant with three levels, every eighth). The model that ships was trained far longer: these say what is
worth how much at the start, and *photo, seed 2* what is chance. How many steps fit into the time depends on what else
the machine does.

| variant | what it asks | parameters | steps | held out | against photo | base | KL a group, from the top |
|---|---|---|---|---|---|---|---|
{table}

`tools/ablation.py` runs it; [`docs/results/ablation.json`](results/ablation.json) has the numbers.
"""


if __name__ == "__main__":
    main()
