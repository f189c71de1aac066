"""What a process of several does in the test: trains recipes from a folder of images and keeps what came of it.

``torchrun --nproc-per-node 2 -m tests.training.two_processes FOLDER``, where FOLDER has images/.
"""

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from nvae_codec.cli.main import end_at_once
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.data import Crops, held_out_crops
from nvae_codec.training.loop import Options, Trainer, train
from nvae_codec.training.sources import open_source
from tests.models import OFFICIAL, change, make_recipe
from tests.training.runs import act_at_step

STEPS = 6
RECIPES = {
    # in its first two steps parts have no gradient
    "phases": make_recipe("phases of two levels", "training.batch = 4", "training.base_first_fraction = 0.05"),
    # binary values are drawn, too, and weights regularised
    "binary": parse_recipe(change(
        OFFICIAL + "[image]", "image.channels = 1", "likelihood.kind = 'bernoulli'", "training.batch = 4",
        "training.spectral_weight = 0.1", "network.encoder_cell.normalization = 'none'",
        "network.decoder_cell.normalization = 'none'",
    )),
    "batch norm": make_recipe("official: batch norm, gates, swish", "training.batch = 4"),
}  # fmt: skip


def open_images(folder: Path, recipe: Recipe) -> Crops:
    return Crops(open_source(folder / "images", recipe.image.channels), recipe.training)


def take_steps(folder: Path, name: str, run: Path) -> list[float]:
    """The bits/dim of each step; saves a checkpoint."""
    recipe = RECIPES[name]
    data, trainer = open_images(folder, recipe), Trainer(recipe, run, Options(), resume=False)
    losses = [float(trainer.take_step(data).total) for _ in range(STEPS)]
    run.mkdir(parents=True)
    trainer.save(losses=losses)
    return losses


def stop_one(folder: Path, run: Path) -> None:
    """A run that ends where the second process gets a signal in its fourth step."""
    recipe = RECIPES["phases"]
    data, trainer = open_images(folder, recipe), Trainer(recipe, run, Options(), resume=False)
    if not trainer.processes.first:
        act_at_step(trainer, 3, lambda: signal.raise_signal(signal.SIGTERM))
    lines: list[dict[str, Any]] = []
    train(trainer, data, held_out_crops(data.loaders, 32, 8), lines.append)
    assert trainer.step == 4
    assert len(lines) == trainer.processes.first


def need_ended_group() -> None:
    """Fail where the group is still there; an exception at a process's exit would only be printed."""
    if torch.distributed.is_initialized():
        os._exit(1)


def main() -> None:
    codes: list[int] = []
    atexit.register(end_at_once, codes)  # as the command ends
    atexit.register(need_ended_group)  # before the trainer's own, so it runs after
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    for name in RECIPES:
        take_steps(folder, name, folder / rank / name)
    stop_one(folder, folder / rank / "stopped")
    codes.append(0)


if __name__ == "__main__":
    main()
