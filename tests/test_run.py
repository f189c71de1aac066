"""A run in float: latents of images, and images of latents."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import nvae_codec
from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation import float_elbo
from nvae_codec.network.sampling import reconstruct
from nvae_codec.run import Run
from tests.models import make_image, make_network, make_recipe


@pytest.fixture(scope="module")
def run() -> Run:
    recipe = make_recipe("phases of two levels")
    return Run(recipe, make_network(recipe), 7)


def test_latents_are_those_of_the_elbo(run: Run) -> None:
    image = make_image(32, 48)
    groups = run.infer(image[None])
    assert [group.z.shape for group in groups] == [group.kl.shape for group in groups]
    # the closed form of the KL follows from the numbers that are given
    for group in groups:
        delta, ratio = (
            (group.posterior_mean - group.prior_mean) / group.prior_sigma,
            group.posterior_sigma / group.prior_sigma,
        )
        kl = (delta**2 + ratio**2 - 1) / 2 - np.log(ratio)
        np.testing.assert_allclose(group.kl, kl / math.log(2), rtol=1e-3, atol=1e-4)
    mean = np.mean([sum(group.kl.sum() for group in run.infer(image[None], seed=seed)) for seed in range(8)])
    assert mean == pytest.approx(sum(float_elbo(image, run.network, samples=8).kl), rel=0.05)


def test_latents_give_the_reconstruction(run: Run) -> None:
    images = np.stack([make_image(32, 32, seed) for seed in range(3)])
    z = [group.z for group in run.infer(images, temperature=0)]
    made = run.generate(z, pixels="mean")
    assert np.array_equal(made, reconstruct(run.network, images, temperature=0, pixels="mean"))
    halfway = [np.float32(0.5) * (each[:1] + each[1:2]) for each in z]
    assert run.generate(halfway, pixels="mean").shape == (1, 32, 32, 3)


def test_wrong_input_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NvaeCodecError, match="images must be"):
        run.infer(make_image(32, 32))
    with pytest.raises(NvaeCodecError, match="groups of latents"):
        run.generate([np.zeros((1, 2, 4, 4), np.float32)])
    with pytest.raises(NvaeCodecError):
        nvae_codec.open_run(tmp_path)


def test_shipped_checkpoints_open_by_name() -> None:
    opened = nvae_codec.open_run("photo")
    assert "photo" in repr(opened)
    with torch.inference_mode():
        assert not opened.network.training
