"""The example that asks what the parts of photo are worth: its variants, one of them trained for a moment, its page."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import format_recipe, parse_recipe
from nvae_codec.training.data import Crops
from tests.models import make_network, make_recipe
from tools import ablation
from tools.experiment import make_parser, run_variants, train_within


def test_variants_are_built_and_differ() -> None:
    variants = ablation.list_variants()
    for variant in variants.values():
        with torch.device("meta"):
            Nvae(variant.recipe)
        assert parse_recipe(format_recipe(variant.recipe)) == variant.recipe
    told = {
        (format_recipe(v.recipe), v.recipe.training.seed, v.change is ablation.without_latents)
        for v in variants.values()
    }
    assert len(told) == len(variants)


def test_without_latents_no_image_reaches_the_decoder() -> None:
    network = make_network(make_recipe()).eval()
    ablation.without_latents(network)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    network.likelihood.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        kls = [network(images[at : at + 1]).kl for at in (0, 1)]
    assert torch.equal(seen[0], seen[1])
    assert all((kl == 0).all() for group in kls for kl in group)


def test_results_of_the_same_budget_are_reused(tmp_path: Path) -> None:
    found, page = tmp_path / "found.json", tmp_path / "page.md"
    asked: list[tuple[str, float]] = []

    def run(minutes: str, *names: str) -> dict[str, Any]:
        given = make_parser("", "", 1).parse_args(
            ["--data", "none", "--minutes-each", minutes, "--json", str(found), "--page", str(page)]
        )

        def train(name: str, seconds: float) -> dict[str, Any]:
            asked.append((name, seconds))
            return {"name": name}

        result: dict[str, Any] = run_variants(given, {n: partial(train, n) for n in names}, {"images": 3})
        assert json.loads(found.read_text()) == result
        return result

    assert run("2", "a")["images"] == 3
    assert list(run("2", "a", "b")["variants"]) == ["a", "b"]
    assert list(run("3", "b")["variants"]) == ["b"]
    assert asked == [("a", 120), ("b", 120), ("b", 180)]


def test_a_variant_is_trained_and_measured() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 96, 96), dtype=np.uint8)
    variant = ablation.list_variants()["without latents"]
    data = Crops([lambda: images[0].transpose(1, 2, 0)], variant.recipe.training)
    found = train_within(1e-3, variant.recipe, data, images[:2], variant.change)
    assert found["steps"] == 10
    assert 2 < found["held_out"] < 100
    assert found["active_latents"] == 0
    one: dict[str, Any] = {
        "machine": {"processor": "P", "torch": "T"},
        "minutes_each": 1.0,
        "images": {"trained_on": 9, "held_out": 1},
    }
    worse = found | {"held_out": found["held_out"] + 0.5}
    page = ablation.format_page(one | {"variants": {"photo": found, "without latents": worse}})
    assert "| +0.500 |" in page
    assert "three levels of phases |" not in page
