"""Runs that tests start, stop and resume."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.data import Crops
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.objective import BitsPerDim


def everything(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, average and optimizer state."""
    tensors = {f"network.{name}": value for name, value in trainer.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in trainer.average.state.items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    return {name: value.clone() for name, value in tensors.items()}


def check_same(one: Trainer, other: Trainer) -> None:
    """Bit for bit."""
    states = everything(one), everything(other)
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def check_resumed(
    recipe: Recipe,
    data: Crops,
    folder: Path,
    options: Options = Options(),  # noqa: B008 (frozen)
    *,
    steps: tuple[int, int] = (4, 4),
    prepare: Callable[[Trainer], None] = lambda trainer: None,
) -> tuple[Trainer, Trainer]:
    """A run and one that was saved and resumed after the first of its steps, which end in the same state."""
    straight, broken = (Trainer(recipe, folder, options, resume=False) for _ in range(2))
    for trainer, count in ((straight, sum(steps)), (broken, steps[0])):
        prepare(trainer)
        for _ in range(count):
            trainer.take_step(data)
    broken.save()
    resumed = Trainer(recipe, folder, options, resume=True)
    assert resumed.step == steps[0]
    torch.rand(7)  # whatever was drawn in between
    for _ in range(steps[1]):
        resumed.take_step(data)
    check_same(straight, resumed)
    return straight, resumed


def act_at_step(trainer: Trainer, step: int, act: Callable[[], object]) -> None:
    """Do something before a step is taken."""
    take_step = trainer.take_step

    def take(data: Crops) -> BitsPerDim:
        if trainer.step == step:
            act()
        return take_step(data)

    trainer.take_step = take  # type: ignore[method-assign]
