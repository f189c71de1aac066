"""Mixtures on integers: distributions with an interval for every value, found again from its slots."""

import dataclasses
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.likelihoods.colourwise import colour_centre, split_raw
from nvae_codec.likelihoods.device_mixture import FEW_EDGES, DeviceMixture, device_weights
from nvae_codec.likelihoods.mixture import PIXEL_RAW_BOUND, Mixture, MixtureTables, mixture_intervals
from tests.distributions import check_distribution
from tests.models import exported_model

MODEL = "phases of two levels"
Int32 = NDArray[np.int32]


def random_raw(rng: np.random.Generator, shape: tuple[int, ...], extreme: bool) -> Int32:
    """Raw parameters, the ends of their range among them."""
    raw = rng.integers(-PIXEL_RAW_BOUND, PIXEL_RAW_BOUND + 1, shape).astype(np.int32)
    small = rng.integers(-600, 600, shape).astype(np.int32)
    raw = np.where(rng.random(shape) < 0.5, raw, small)
    ends = np.where(rng.random(shape) < 0.5, -PIXEL_RAW_BOUND, PIXEL_RAW_BOUND)
    return np.where(rng.random(shape) < 0.3, ends, raw).astype(np.int32) if extreme else raw.astype(np.int32)


def random_mixture(seed: int, components: int, count: int, extreme: bool) -> Mixture:
    rng = np.random.default_rng(seed)
    mean, log_scale, logit = random_raw(rng, (3, components, count), extreme)
    coefficients = random_raw(rng, (3, count), extreme)
    prediction = rng.choice(np.array([0, 255, 510, 1020], np.int32), count)
    residual = [
        (4 * rng.choice(np.array([0, 128, 255], np.int32), count) - prediction).astype(np.int32) for _ in range(2)
    ]
    centre = colour_centre(exported_model(MODEL), coefficients, prediction, residual[: int(rng.integers(3))])
    return Mixture(exported_model(MODEL), mean, log_scale, logit, centre)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5, 16]), st.booleans())
def test_every_value_has_an_interval(seed: int, components: int, extreme: bool) -> None:
    check_distribution(random_mixture(seed, components, 300, extreme), 256, seed)


@pytest.mark.parametrize("components", [1, 2, 10, 16])
@pytest.mark.parametrize("shift", [10, 14])
def test_weights_sum_to_a_power_of_two(components: int, shift: int) -> None:
    rng = np.random.default_rng(components)
    softmax = cast(MixtureTables, exported_model(MODEL).tables).softmax
    logit = random_raw(rng, (components, 500), extreme=True)
    logit[:, :100] //= 100
    weight = device_weights(torch.from_numpy(logit), torch.from_numpy(softmax), shift).numpy()
    assert (weight >= 0).all()
    assert (weight.sum(0) == 1 << shift).all()
    expected = np.exp((logit - logit.max(0)) / 64)
    assert np.abs(weight / 2**shift - expected / expected.sum(0)).max() < 2 * components / 2**shift


def test_the_distribution_is_that_of_the_real_mixture() -> None:
    rng = np.random.default_rng(5)
    mean, logit = rng.integers(-4000, 4000, (2, 3, 50)).astype(np.int32)
    log_scale = rng.integers(-600, 100, (3, 50)).astype(np.int32)
    logit //= 40
    centre = rng.integers(0, 255 * 64, 50).astype(np.int32)
    mixture = Mixture(exported_model(MODEL), mean, log_scale, logit, centre)
    weight = np.exp(logit / 64) / np.exp(logit / 64).sum(0)
    for k in range(1, 256, 6):
        t = (k - 0.5 - (mean + centre) / 64) / (127.5 * np.exp(log_scale / 128))
        real = (weight / (1 + np.exp(-np.clip(t, -700, 700)))).sum(0)
        whole = mixture.interval(np.full(50, k, np.int32))[0] / 2**mixture.bits
        assert np.abs(whole - real).max() < 0.006  # of which 256 / 65536 go to the values that have none


def test_colours_follow_from_those_before() -> None:
    model = exported_model(MODEL)  # coefficients are not bounded here
    coefficients = np.array([[512], [1024], [-256]], np.int32)  # 1/2, 1, -1/4
    prediction, first, second = (np.array([v], np.int32) for v in (400, 40, -80))  # quarter levels
    assert colour_centre(model, coefficients, prediction, []).tolist() == [400 * 16]
    assert colour_centre(model, coefficients, prediction, [first]).tolist() == [(400 + 20) * 16]
    assert colour_centre(model, coefficients, prediction, [first, second]).tolist() == [(400 + 40 + 20) * 16]
    bounded = dataclasses.replace(model, bounded_colour=True)
    expected = 400 * 16 + round(40 * 16 * np.tanh(0.5))
    assert abs(int(colour_centre(bounded, coefficients, prediction, [first])[0]) - expected) <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5, 16]), st.booleans())
def test_a_mixture_on_a_device_is_the_same(seed: int, components: int, extreme: bool) -> None:
    count, model, rng = 400, exported_model(MODEL), np.random.default_rng(seed)
    mean, log_scale, logit = random_raw(rng, (3, components, count), extreme)
    centre = rng.integers(-20000, 40000, count).astype(np.int32)
    here = Mixture(model, mean, log_scale, logit, centre)
    raw = [torch.from_numpy(part) for part in (mean, log_scale, logit)]
    there = DeviceMixture(model, raw[0], raw[1], raw[2], centre)
    values, at = rng.choice(np.r_[0, 255, np.arange(256)], count).astype(np.int32), slice(3, 150)
    assert 147 << 8 <= FEW_EDGES < count << 8, "both searches"
    slots = rng.choice(np.r_[0, 2**here.bits - 1, rng.integers(0, 2**here.bits, 500)], count).astype(np.int32)
    for one, other in (
        (here.interval(values), there.interval(values)),
        (here.interval(values[at], at), there.interval(values[at], at)),
        (here.find(slots), there.find(slots)),
        (here.find(slots[at], at), there.find(slots[at], at)),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_raw_parameters_are_split_by_colour() -> None:
    raw = torch.arange(9 * 2 + 3, dtype=torch.int32)[:, None]
    mean, log_scale, logit, coefficients = split_raw(raw, 2)
    assert mean[:, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert log_scale[1, :, 0].tolist() == [8, 9]
    assert logit[2, :, 0].tolist() == [16, 17]
    assert coefficients[:, 0].tolist() == [18, 19, 20]


def test_interpreted_loops_are_the_compiled_ones() -> None:
    mixture, rng = random_mixture(9, 5, 50, extreme=True), np.random.default_rng(9)
    slots = rng.integers(0, 1 << mixture.bits, 50).astype(np.int32)
    compiled = mixture.find(slots)
    again = np.empty(50, np.int32), np.empty(50, np.int32), np.empty(50, np.int32)
    tables = mixture.tables.inverse_scale, mixture.tables.softmax, mixture.tables.logistic
    sizes = mixture.bits, mixture.value_bits, mixture.unit
    for loop in (mixture_intervals.function, mixture_intervals._compiled):
        loop(0, 50, 0, mixture.raw, slots, False, tables, sizes, again)
        assert all(np.array_equal(one, other) for one, other in zip(again, compiled, strict=True))
