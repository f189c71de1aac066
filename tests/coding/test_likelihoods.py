"""The official likelihoods on integers: every value has an interval, found again, as wide as its probability."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvae_codec.coding.canvas import Canvas
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.likelihoods.likelihood import PixelCoder, find_coded
from tests.distributions import check_distribution
from tests.models import OF_LIKELIHOODS, exported_model, round_trip

SIDES = (5, 8)
"""Rows and columns of the images here; with the padding of zeros that some networks see."""


def make_likelihood(which: str, seed: int, *, extreme: bool) -> PixelCoder:
    """A likelihood of random raw parameters, with ``extreme`` the ends of their range among them."""
    model, rng = exported_model(which), np.random.default_rng(seed)
    kind = find_coded(model.likelihood)
    bound = kind.raw_bound
    canvas = Canvas(2, SIDES, model.stride, model.channels, model.padding)
    shape = (2, kind.raw_channels(model.channels, model.components), *canvas.pixels.shape[2:])
    raw = rng.integers(-600, 600, shape)
    if extreme:
        ends = rng.choice([-bound, bound], shape)
        raw = np.where(rng.random(shape) < 0.3, ends, rng.integers(-bound, bound + 1, shape))
    return kind.coder(model, model.phases[0], canvas, torch.from_numpy(raw.astype(np.int32)))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(OF_LIKELIHOODS)), st.integers(0, 10**6), st.booleans())
def test_every_value_has_an_interval(which: str, seed: int, extreme: bool) -> None:
    likelihood, rng = make_likelihood(which, seed, extreme=extreme), np.random.default_rng(seed)
    top = likelihood.model.top_value
    assert likelihood.count == 2 * SIDES[0] * SIDES[1]
    for colour in range(likelihood.model.channels):
        check_distribution(likelihood.distribution(colour), top + 1, seed)
        likelihood.interval(colour, rng.choice(np.r_[0, top, np.arange(top + 1)], likelihood.count).astype(np.int32))


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
def test_frequencies_are_real_probabilities(which: str) -> None:
    rng = np.random.default_rng(1)
    bits, real = [], []
    for seed in range(8):
        likelihood, again = (make_likelihood(which, seed, extreme=False) for _ in range(2))
        model = likelihood.model
        values = []
        for colour in range(model.channels):
            # values that the distribution itself gives: improbable ones have a slot beyond their probability
            slots = rng.integers(0, 1 << model.pixel_bits, likelihood.count).astype(np.int32)
            values.append(likelihood.distribution(colour).find(slots)[0])
            bits.append(model.pixel_bits - np.log2(likelihood.interval(colour, values[-1])[1]))
        real.append(again.measure(values))
    assert np.mean(bits) == pytest.approx(np.mean(real), rel=0.003)


def test_a_colour_determines_the_component_of_the_next() -> None:
    """Two components far apart: after red is seen, green has one of them, whose own green is all that is left."""
    model = exported_model("joint")
    canvas = Canvas(1, (8, 8), model.stride)
    raw = np.zeros((1, 30, 8, 8), np.int32)
    raw[:, 2] = -16000  # the third component has no weight
    for colour in range(3):
        start = 3 + 9 * colour
        raw[:, start] = -6000  # means of the first component: dark
        raw[:, start + 1] = 6000
        raw[:, start + 3 : start + 6] = -600  # narrow
    likelihood = find_coded("joint").coder(model, model.phases[0], canvas, torch.from_numpy(raw))
    red = np.where(np.arange(64) % 2 == 0, 34, 221).astype(np.int32)
    half = likelihood.interval(0, red)[1]
    green = likelihood.interval(1, red)[1]
    assert np.allclose(green, 2 * half, rtol=0.02)


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
@pytest.mark.parametrize("sizes", [[(28, 28)] * 12, [(1, 1), (30, 61), (5, 90)]], ids=["equal", "mixed"])
def test_images_come_back(which: str, sizes: list[tuple[int, int]]) -> None:
    model, rng = exported_model(which), np.random.default_rng(3)
    images = []
    for height, width in sizes:
        wave = np.add.outer(np.arange(height), np.arange(width))[..., None] + rng.integers(0, 9, 3)
        image = (wave // 5 * 7 % (model.top_value + 1)).astype(np.uint8)
        images.append(image if model.channels == 3 else image[..., 0])
    round_trip(ModelCodec(model), *images)
