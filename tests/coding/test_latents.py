"""Latents on their grids, under the prior and the posterior."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvae_codec.coding.latents import Grid, Normals, Posterior, Prior, decode_raw
from nvae_codec.integer.model import LatentGroup
from nvae_codec.likelihoods.tables import RAW_BOUND
from tests.distributions import check_distribution
from tests.models import exported_model

MODEL = "phases of two levels"


def make_group(steps: tuple[int, ...], kept: tuple[int, ...], channels: int) -> LatentGroup:
    return LatentGroup(8, channels, kept, steps, np.full(channels, 1 / 8), 4000, True, 4, (), np.zeros((0, channels)))


def random_normals(rng: np.random.Generator, shape: tuple[int, ...], wide: int) -> Normals:
    b, channels, h, w = shape
    raw = np.clip(rng.normal(0, wide, (b, 2 * channels, h, w)), -RAW_BOUND, RAW_BOUND).astype(np.int32)
    return decode_raw(exported_model(MODEL), raw, shape)


def random_posterior(seed: int, wide: int, *, coarse: bool = False) -> Posterior:
    """Of three channels, two of them active."""
    rng = np.random.default_rng(seed)
    steps = tuple(int(step) for step in rng.choice([64, 65, 100, 1000, 4095, 4096], 2))
    group, shape = make_group(steps, (0, 2), 3), (2, 3, 3, 4)
    prior = Prior(Grid(exported_model(MODEL), group, coarse), random_normals(rng, shape, wide))
    return Posterior(prior, random_normals(rng, shape, wide))


some = settings(deadline=None, max_examples=40)


@some
@given(st.integers(0, 10**6), st.sampled_from([100, 600, 3000, 10**5]), st.booleans())
def test_bins_have_all_slots(seed: int, wide: int, coarse: bool) -> None:
    posterior = random_posterior(seed, wide, coarse=coarse)
    check_distribution(posterior, posterior.bins, seed, least=0)
    check_distribution(posterior.prior, posterior.bins, seed)


@some
@given(st.integers(0, 10**6), st.sampled_from([100, 600, 3000, 10**5]), st.booleans())
def test_an_empty_stack_draws_the_mean(seed: int, wide: int, coarse: bool) -> None:
    """Slot 0 is the start of an interval, so nothing is pushed back; that of the mean's bin where it has one."""
    posterior = random_posterior(seed, wide, coarse=coarse)
    k, start, _ = posterior.find(np.zeros(posterior.count, np.int32))
    assert (start % 2**16 == 0).all()
    mean = np.clip((posterior.mean + posterior.step * posterior.bins / 2) // posterior.step, 0, posterior.bins - 1)
    own = posterior.interval(mean.astype(np.int32))[1]
    assert np.array_equal(k[own > 0], mean[own > 0].astype(np.int32))


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("step", [64, 100, 777, 4095, 4096])
def test_the_prior_is_a_normal_in_which_every_bin_has_a_slot(step: int, coarse: bool) -> None:
    grid = Grid(exported_model(MODEL), make_group((step,), (0,), 1), coarse)
    assert grid.prior[0] == 0
    assert grid.prior[-1] == 2**16
    assert (np.diff(grid.prior) >= 1).all()
    bins, wide = int(grid.bins[0]), step * (4 if coarse else 1) / 4096
    assert len(grid.prior) == bins + 1 == 2 * int(8 / wide) + 2
    for k in range(1, bins, max(1, bins // 40)):
        real = 0.5 * math.erfc(-(k - bins / 2) * wide / math.sqrt(2))
        assert abs(grid.prior[k] / 2**16 - real) < 0.002 + bins / 2**16


def test_the_posterior_is_a_normal_in_prior_units() -> None:
    group = make_group((256,), (0,), 1)
    sigma, shape = 2**16, (1, 1, 1, 1)
    prior = Prior(Grid(exported_model(MODEL), group, False), Normals(np.full(shape, 4096), np.full(shape, 2 * sigma)))
    posterior = Posterior(prior, Normals(np.full(shape, 3 * 4096), np.full(shape, sigma // 2)))
    # u = (z - 1) / 2: mean 1, sigma 1/4
    for k in range(1, int(prior.bins[0])):
        edge = (k - prior.bins[0] / 2) / 16
        real = 0.5 * math.erfc(-(edge - 1) * 4 / math.sqrt(2))
        assert abs(int(posterior.cdf(np.array([k]), slice(0, 1))[0]) / 2**16 - real) < 0.001


def test_z_is_the_point_of_the_grid_and_pruned_channels_are_at_the_mean() -> None:
    group = make_group((1024,), (1,), 2)
    mean, sigma = np.full((1, 2, 1, 2), 4096), np.full((1, 2, 1, 2), 2**17)
    prior = Prior(Grid(exported_model(MODEL), group, False), Normals(mean, sigma))
    z = prior.z(prior.half.astype(np.int32) + np.array([0, 3], np.int32))
    assert z.dtype == np.float32
    # z = 1 + 2 · k / 4, in units of 2^-12, times the multiplier 1/8
    assert z.tolist() == [[[[512, 512]], [[512, 512 + 6 * 128]]]]
    bounded = dataclasses.replace(group, bound=600)
    prior = Prior(Grid(exported_model(MODEL), bounded, False), prior.normals)
    assert prior.z(prior.half.astype(np.int32) + 3).max() == 600


def test_a_group_without_active_channels_has_no_symbols() -> None:
    group = make_group((), (), 2)
    shape = (1, 2, 2, 2)
    prior = Prior(Grid(exported_model(MODEL), group, True), decode_raw(exported_model(MODEL), None, shape))
    posterior, empty = Posterior(prior, prior.normals), np.zeros(0, np.int32)
    assert posterior.count == 0
    assert [part.size for part in posterior.find(empty)] == [0, 0, 0]
    assert prior.z(empty).shape == shape


def test_raw_parameters_become_clamped_normals() -> None:
    model = exported_model(MODEL)
    raw = np.array([-RAW_BOUND, 0, 256, RAW_BOUND], np.int32).reshape(1, 1, 1, 4).repeat(2, 1)
    normals = decode_raw(model, raw, (1, 1, 1, 4))
    soft = 5 * np.tanh(raw[0, 0, 0] / 256 / 5)
    assert np.abs(normals.mean.ravel() / 2**12 - soft).max() < 2**-12
    assert np.abs(normals.sigma.ravel() / 2**16 - np.exp(soft) - 0.01).max() < 2**-16
    assert (normals.sigma > 0).all()
    top = decode_raw(model, None, (1, 1, 1, 1))
    assert (int(top.mean.item()), int(top.sigma.item())) == (0, round(1.01 * 2**16))
