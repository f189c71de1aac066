"""A compact checkpoint: the same weights, a run that goes on, half the moments."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.checkpoint import load_average
from nvae_codec.training.data import Crops
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.sources import file_source
from tests.models import RECIPES
from tools.compact import compact_checkpoint


@pytest.mark.parametrize("average_only", [False, True])
def test_a_compact_checkpoint_has_the_same_weights_and_resumes(tmp_path: Path, *, average_only: bool) -> None:
    image = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(image)
    base = parse_recipe(next(iter(RECIPES.values())))
    training = TrainingRecipe(steps=4, batch=2, crop=2 * base.stride, optimizer="adamw", learning_rate=1e-3)
    recipe = dataclasses.replace(base, training=training)
    data = Crops(file_source([image]), training)
    run, small = tmp_path / "run", tmp_path / "small"
    run.mkdir()
    small.mkdir()
    trainer = Trainer(recipe, run, Options(), resume=False)
    trainer.take_step(data)
    trainer.take_step(data)
    trainer.save()
    compact_checkpoint(run, small / "checkpoint.safetensors", average_only=average_only)
    sizes = [(folder / "checkpoint.safetensors").stat().st_size for folder in (small, run)]
    assert sizes[0] < sizes[1] / (3 if average_only else 1)
    before, after = load_average(run)[1].state_dict(), load_average(small)[1].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    resumed = Trainer(recipe, small, Options(), resume=True)
    assert resumed.step == 2
    assert torch.isfinite(resumed.take_step(data).total)
