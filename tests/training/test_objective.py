"""Schedules, balance, and the loss."""

import dataclasses
import itertools
import math

import pytest
import torch

from nvae_codec.network.nvae import Elbo
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.objective import balance_weights, kl_weight, learning_rate, weigh

TRAINING = TrainingRecipe(
    steps=1000,
    learning_rate=0.01,
    warmup_steps=100,
    decay_fraction=0.5,
    final_learning_rate=0.001,
    kl_start=0.1,
    kl_warmup_fraction=0.3,
)


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(TRAINING, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01 / 100)
    assert rates[49] == pytest.approx(0.005)
    assert rates[99:501] == pytest.approx([0.01] * 402)
    assert rates[750] == pytest.approx((0.01 + 0.001) / 2)
    assert rates[1000] == pytest.approx(0.001)
    assert all(a >= b for a, b in itertools.pairwise(rates[500:]))


@pytest.mark.parametrize(
    "change", [{"warmup_steps": 0}, {"decay_fraction": 0.0}, {"decay_fraction": 1.0}, {"steps": 1}]
)
def test_the_rate_is_possible_at_the_ends_of_its_settings(change: dict[str, float]) -> None:
    training = dataclasses.replace(TRAINING, **change)  # type: ignore[arg-type]
    for step in range(training.steps + 1):
        assert 0 < learning_rate(training, step) < training.learning_rate * 1.000001


def test_the_weight_of_the_divergence_rises_to_one() -> None:
    assert kl_weight(TRAINING, 0) == pytest.approx(0.1)
    assert kl_weight(TRAINING, 0.15) == pytest.approx(0.55)
    assert kl_weight(TRAINING, 0.3) == pytest.approx(1)
    assert kl_weight(TRAINING, 1) == 1
    assert kl_weight(dataclasses.replace(TRAINING, kl_warmup_fraction=0), 0) == 1


def test_balance_weights_follow_the_size_of_the_maps() -> None:
    recipe = parse_recipe("[network]\ngroups = [4, 2, 1]\n[training]\ncrop = 64")
    # from the top: one group on the coarsest scale, then two of four times as many places, then four
    expected = torch.tensor([1.0] + [4 / 2] * 2 + [16 / 4] * 4)
    torch.testing.assert_close(balance_weights(recipe), expected)


def test_the_loss_is_in_bits_per_dim() -> None:
    elbo = Elbo([torch.full((2, 3), 6.0), torch.full((2, 1), 2.0)], [torch.tensor(100.0), torch.tensor(20.0)])
    bits = weigh(elbo, 0.5, None, dims=10)
    unit = 1 / (10 * math.log(2))
    torch.testing.assert_close(bits.pixels, torch.tensor([100.0, 20.0]) * unit)
    torch.testing.assert_close(bits.kl, torch.tensor([36.0, 4.0]) * unit)
    torch.testing.assert_close(bits.total, torch.tensor(160.0 * unit))
    torch.testing.assert_close(bits.loss, torch.tensor(140.0 * unit))


def test_balancing_weighs_groups_by_what_they_spend() -> None:
    elbo = Elbo([torch.full((2, 3), 6.0), torch.full((2, 3), 2.0)], [torch.tensor(0.0)])
    alpha = torch.tensor([1.0, 1.0])
    balanced = weigh(elbo, 1.0, alpha, dims=10)
    plain = weigh(elbo, 1.0, None, dims=10)
    torch.testing.assert_close(balanced.kl, plain.kl)
    share = torch.tensor([18.01, 6.01])
    torch.testing.assert_close(balanced.loss, (plain.kl * share / share.mean()).sum())
    even = Elbo([torch.full((2, 3), 3.0)] * 2, [torch.tensor(0.0)])
    torch.testing.assert_close(weigh(even, 1.0, alpha, 10).loss, weigh(even, 1.0, None, 10).loss)
