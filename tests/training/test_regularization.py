"""Spectral regularisation finds the largest singular values, spares gates, and is part of a run's state."""

from pathlib import Path

import pytest
import torch
from torch import nn

from nvae_codec.network.cells import ResidualCell, SqueezeExcitation
from nvae_codec.network.convolution import applied_weight
from nvae_codec.recipes.recipe import CellRecipe, TrainingRecipe
from nvae_codec.training.data import Crops
from nvae_codec.training.objective import kl_weight, learning_rate
from nvae_codec.training.regularization import SpectralNorms, list_convolutions, scale_total, spectral_weight
from nvae_codec.training.sources import open_source
from tests.models import make_recipe, save_images
from tests.training.runs import check_resumed


def make_cells() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        ResidualCell(8, CellRecipe("regular"), weight_norm=True), ResidualCell(8, CellRecipe("separable", 5, 2))
    )


def test_the_sum_of_largest_singular_values() -> None:
    cells = make_cells()
    convolutions = list_convolutions(cells)
    gates = sum(isinstance(module, SqueezeExcitation) for module in cells.modules())
    assert len(convolutions) == sum(isinstance(module, nn.Conv2d) for module in cells.modules()) - 2 * gates
    expected = sum(float(torch.linalg.matrix_norm(applied_weight(c).detach().flatten(1), 2)) for c in convolutions)
    norms = SpectralNorms(cells)
    for _ in range(50):
        total = norms.total()
    assert total.item() == pytest.approx(expected, rel=1e-3)
    assert total.item() <= expected * (1 + 1e-6)
    total.backward()  # type: ignore[no-untyped-call]
    assert all(convolution.weight.grad is not None for convolution in convolutions)


def test_a_weight_that_moves_is_followed() -> None:
    cells = make_cells()
    norms, other = SpectralNorms(cells), SpectralNorms(cells, seed=1)
    assert norms.state() == {}
    norms.total()
    restored = SpectralNorms(cells, seed=2)
    restored.restore(norms.state())
    assert restored.total().item() == norms.total().item()
    assert other.total().item() == pytest.approx(norms.total().item(), rel=1e-2)


def test_largest_scales_of_batch_norms() -> None:
    first = nn.BatchNorm2d(3)
    network = nn.Sequential(first, nn.BatchNorm2d(2), nn.ReLU())
    with torch.no_grad():
        first.weight.copy_(torch.tensor([0.1, -3.0, 1.0]))
    assert scale_total(network).item() == 4.0
    assert scale_total(nn.ReLU()).item() == 0.0


def test_the_weight_falls_with_the_kl() -> None:
    training = TrainingRecipe(spectral_weight=0.01, spectral_start=1.0)
    assert [spectral_weight(training, kl) for kl in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.1, 0.01])
    assert spectral_weight(TrainingRecipe(spectral_weight=0.01), 0.0) == 0.01


def test_official_schedules() -> None:
    training = TrainingRecipe(steps=60, kl_ramp="floor", kl_hold_fraction=0.1, kl_warmup_fraction=0.4, kl_start=0.01)
    assert [kl_weight(training, share) for share in (0, 0.1, 0.3, 0.5, 1)] == pytest.approx([0.01, 0.01, 0.5, 1, 1])
    training = TrainingRecipe(
        steps=60, warmup_steps=20, steps_per_epoch=10, learning_rate=0.01, final_learning_rate=1e-4
    )
    rates = [learning_rate(training, step) for step in range(60)]
    assert rates[0] == 0
    assert rates[:20] == pytest.approx([0.01 * step / 20 for step in range(20)])
    assert rates[20:30] == pytest.approx([rates[19]] * 10)
    assert rates[50:] == pytest.approx([1e-4] * 10)
    assert rates[20:] == sorted(rates[20:], reverse=True)


@pytest.mark.parametrize("unit", ["bits", "nats"])
def test_a_regularised_run_resumes_exactly(tmp_path: Path, unit: str) -> None:
    folder = Crops(open_source(save_images(tmp_path / "images")), TrainingRecipe(crop=16))
    recipe = make_recipe(
        "official: batch norm, gates, swish", "training.spectral_weight = 0.1", "training.spectral_start = 1.0",
        f"training.loss_unit = '{unit}'", "training.clip = inf",
    )  # fmt: skip
    straight, resumed = check_resumed(recipe, folder, tmp_path, steps=(3, 2))
    assert straight.spectral is not None
    assert resumed.spectral is not None
    estimates = resumed.spectral.state()
    assert estimates
    assert all(torch.equal(value, estimates[name]) for name, value in straight.spectral.state().items())
