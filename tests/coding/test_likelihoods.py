"""The official likelihoods on integers: every value has an interval, found again, as wide as its probability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.coding.canvas import Canvas
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.likelihoods import measure_pixels
from nvae_codec.likelihoods.likelihood import Likelihood
from nvae_codec.likelihoods.registry import LIKELIHOODS
from nvae_codec.likelihoods.units import count_raw, raw_bound
from tests.models import OF_LIKELIHOODS, frozen_model, round_trip

Int32 = NDArray[np.int32]
SIDES = (5, 8)
"""Rows and columns of the images here; with the padding of zeros that some networks see."""


def make_likelihood(which: str, seed: int, *, extreme: bool) -> Likelihood:
    """A likelihood of random raw parameters, with ``extreme`` the ends of their range among them."""
    model, rng = frozen_model(which), np.random.default_rng(seed)
    bound = raw_bound(model.likelihood)
    canvas = Canvas(2, SIDES, model.stride, model.channels, model.padding)
    shape = (2, count_raw(model.likelihood, model.channels, model.components), *canvas.pixels.shape[2:])
    raw = rng.integers(-600, 600, shape)
    if extreme:
        ends = rng.choice([-bound, bound], shape)
        raw = np.where(rng.random(shape) < 0.3, ends, rng.integers(-bound, bound + 1, shape))
    return LIKELIHOODS[model.likelihood](model, model.phases[0], canvas, torch.from_numpy(raw.astype(np.int32)))


def draw_values(likelihood: Likelihood, rng: np.random.Generator) -> Int32:
    top = likelihood.model.top_value
    return rng.choice(np.r_[0, top, np.arange(top + 1)], likelihood.count).astype(np.int32)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(OF_LIKELIHOODS)), st.integers(0, 10**6), st.booleans())
def test_intervals_cover_all_quantiles_and_are_found_again(which: str, seed: int, extreme: bool) -> None:
    likelihood, rng = make_likelihood(which, seed, extreme=extreme), np.random.default_rng(seed)
    assert likelihood.count == 2 * SIDES[0] * SIDES[1]
    for colour in range(likelihood.model.channels):
        distribution = likelihood.distribution(colour)
        end = np.zeros(likelihood.count, np.int32)
        for value in range(likelihood.model.top_value + 1):
            left, width = distribution.interval(np.full(likelihood.count, value, np.int32))
            assert np.array_equal(left, end)
            assert (width >= 1).all()
            end = left + width
        assert (end == 1 << likelihood.model.pixel_bits).all()
        values = draw_values(likelihood, rng)
        left, width = likelihood.interval(colour, values)
        at = slice(7, 40)
        for quantile in (left, left + width - 1, left + rng.integers(0, width)):
            found = distribution.find(quantile[at].astype(np.int32), at)
            assert all(np.array_equal(a, b[at]) for a, b in zip(found, (values, left, width), strict=True))


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
def test_widths_are_real_probabilities(which: str) -> None:
    rng = np.random.default_rng(1)
    bits, real = [], []
    for seed in range(8):
        likelihood, again = (make_likelihood(which, seed, extreme=False) for _ in range(2))
        model = likelihood.model
        values = []
        for colour in range(model.channels):
            # values that the distribution itself gives: improbable ones have a quantile that is not theirs
            quantile = rng.integers(0, 1 << model.pixel_bits, likelihood.count).astype(np.int32)
            values.append(likelihood.distribution(colour).find(quantile)[0])
            bits.append(model.pixel_bits - np.log2(likelihood.interval(colour, values[-1])[1]))
        real.append(measure_pixels(again, values))
    assert np.mean(bits) == pytest.approx(np.mean(real), rel=0.003)


def test_a_colour_tells_the_component_of_the_next() -> None:
    """Two components far apart: after red is seen, green has one of them, whose own green is all that is left."""
    model = frozen_model("joint")
    canvas = Canvas(1, (8, 8), model.stride)
    raw = np.zeros((1, 30, 8, 8), np.int32)
    raw[:, 2] = -16000  # the third component has no weight
    for colour in range(3):
        start = 3 + 9 * colour
        raw[:, start] = -6000  # means of the first component: dark
        raw[:, start + 1] = 6000
        raw[:, start + 3 : start + 6] = -600  # narrow
    likelihood = LIKELIHOODS["joint"](model, model.phases[0], canvas, torch.from_numpy(raw))
    red = np.where(np.arange(64) % 2 == 0, 34, 221).astype(np.int32)
    half = likelihood.interval(0, red)[1]
    green = likelihood.interval(1, red)[1]
    assert np.allclose(green, 2 * half, rtol=0.02)


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
@pytest.mark.parametrize("sizes", [[(28, 28)] * 12, [(1, 1), (30, 61), (5, 90)]], ids=["equal", "mixed"])
def test_images_come_back(which: str, sizes: list[tuple[int, int]]) -> None:
    model, rng = frozen_model(which), np.random.default_rng(3)
    images = []
    for height, width in sizes:
        wave = np.add.outer(np.arange(height), np.arange(width))[..., None] + rng.integers(0, 9, 3)
        image = (wave // 5 * 7 % (model.top_value + 1)).astype(np.uint8)
        images.append(image if model.channels == 3 else image[..., 0])
    round_trip(ModelCodec(model), *images)
