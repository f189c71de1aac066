"""Normals of raw parameters, against torch.distributions."""

import torch
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence as reference_kl

from nvae_codec.network.normal import Normal, kl_divergence, normal_of_raw, prior_units


def draw(seed: int) -> Normal:
    torch.manual_seed(seed)
    return normal_of_raw(3 * torch.randn(2, 6, 4, 4, dtype=torch.double), torch.empty(0))


def test_the_divergence_is_that_of_torch() -> None:
    posterior, prior = draw(0), draw(1)
    expected = reference_kl(Reference(*posterior), Reference(*prior))
    torch.testing.assert_close(kl_divergence(posterior, prior), expected)
    assert (kl_divergence(prior, prior) == 0).all()


def test_prior_units_keep_the_divergence() -> None:
    posterior, prior = draw(2), draw(3)
    unit = Normal(torch.zeros_like(prior.mean), torch.ones_like(prior.sigma))
    torch.testing.assert_close(kl_divergence(prior_units(posterior, prior), unit), kl_divergence(posterior, prior))


def test_raw_parameters_are_clamped_softly() -> None:
    raw = torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6]).view(1, 1, 1, 5).repeat(1, 2, 1, 1)
    mean, sigma = normal_of_raw(raw, raw)
    torch.testing.assert_close(mean.flatten()[[0, 2, 4]], torch.tensor([-5.0, 0.0, 5.0]))
    torch.testing.assert_close(sigma.flatten()[[0, 2, 4]], torch.tensor([-5.0, 0.0, 5.0]).exp() + 0.01)


def test_the_top_prior_is_nearly_standard() -> None:
    mean, sigma = normal_of_raw(None, torch.randn(2, 6, 4, 4))
    assert mean.shape == sigma.shape == (2, 3, 4, 4)
    assert (mean == 0).all()
    torch.testing.assert_close(sigma, torch.full((2, 3, 4, 4), 1.01))
