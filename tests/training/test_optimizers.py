"""Muon's updates, its state in a checkpoint, and runs that train experts alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.data import Crops
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.optimizers import UPDATE_RMS, Muon, make_optimizer, orthogonalize
from nvae_codec.training.sources import open_source
from tests.models import RECIPES, change, make_recipe, save_images


@pytest.mark.parametrize("shape", [(16, 16), (16, 48), (48, 16)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalize(torch.randn(3, *shape) * 100))
    assert singular.min() > 0.3  # the smallest of a square matrix need more than five iterations
    assert singular.max() < 1.3


def test_muon_has_updates_of_the_size_of_adamw_and_finds_a_minimum() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(32, 16, 3, 3), torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    scale, bias = torch.randn(32), torch.nn.Parameter(torch.zeros(32))
    optimizer = Muon([weight, bias], 0.1)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 400)
        optimizer.zero_grad()
        loss = (weight - target).square().mean() + (bias - scale).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        before = weight.detach().clone()
        optimizer.step()
        if step == 0:
            change = (weight.detach() - before).square().mean().sqrt()
            assert change == pytest.approx(0.1 * UPDATE_RMS, rel=0.3)
    assert loss < 0.05


def test_muon_leaves_parameters_without_gradients_and_decays_weights() -> None:
    used, unused = torch.nn.Parameter(torch.ones(16, 16)), torch.nn.Parameter(torch.ones(16, 16))
    optimizer = make_optimizer(TrainingRecipe(optimizer="muon", learning_rate=0.1, weight_decay=0.5), [used, unused])
    used.grad = torch.zeros(16, 16)
    optimizer.step()
    assert torch.equal(unused, torch.ones(16, 16))
    torch.testing.assert_close(used.detach(), torch.full((16, 16), 0.95))


def test_a_run_with_muon_resumes_exactly(tmp_path: Path) -> None:
    recipe = make_recipe("phases of two levels", "training.optimizer = 'muon'", "training.learning_rate = 1e-3")
    data = Crops(open_source(save_images(tmp_path / "images")), recipe.training)
    whole = Trainer(recipe, tmp_path, Options(), resume=False)
    for _ in range(6):
        whole.take_step(data)
    whole.save()
    resumed = Trainer(recipe, tmp_path, Options(), resume=True)
    for trainer in (whole, resumed):
        trainer.take_step(data)
        trainer.take_step(data)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


HISTORIES = "\n[training.histories]\njpeg_420 = 1\nclean = 0\nexperts = [0, 1, 0, 0, 0]\n"


def test_experts_alone_keep_all_other_weights(tmp_path: Path) -> None:
    text = change(RECIPES["phases, two experts"], "training.experts_alone = true", "training.base_first_fraction = 0")
    recipe = parse_recipe(text + HISTORIES)
    trainer = Trainer(recipe, tmp_path, Options(), resume=False)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.take_step(Crops(open_source(save_images(tmp_path / "images", side=80)), recipe.training))
    changed = {name for name, value in trainer.network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed
    assert all(name.startswith("likelihood.experts.0.") for name in changed)


def test_experts_alone_need_histories_of_experts() -> None:
    text = change(RECIPES["phases, two experts"], "training.experts_alone = true")
    for more in ("", HISTORIES.replace("420 = 1\nclean = 0\n", "420 = 0.9\nclean = 0.1\n")):
        with pytest.raises(NvaeCodecError, match="experts_alone needs"):
            parse_recipe(text + more)
