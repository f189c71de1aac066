"""Normals from raw parameters, in the official parametrisation (NVAE's code, distributions.py)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nvae_codec.likelihoods.tables import SIGMA_FLOOR, SOFT_CLAMP


class Normal(NamedTuple):
    """Mean and sigma, equal shapes."""

    mean: Tensor
    sigma: Tensor


def soft_clamp(x: Tensor) -> Tensor:
    """5 tanh(x / 5)."""
    return SOFT_CLAMP * torch.tanh(x / SOFT_CLAMP)


def normal_of_raw(raw: Tensor | None, like: Tensor) -> Normal:
    """The Normal of raw parameters (B, 2L, H, W); None is the top prior, of the shape of ``like``'s first half."""
    if raw is None:
        mean = torch.zeros_like(like[:, : like.shape[1] // 2])
        return Normal(mean, torch.ones_like(mean) * (1 + SIGMA_FLOOR))  # N(0, 1.01)
    mean, log_sigma = raw.chunk(2, 1)
    return Normal(soft_clamp(mean), torch.exp(soft_clamp(log_sigma)) + SIGMA_FLOOR)


def kl_divergence(posterior: Normal, prior: Normal) -> Tensor:
    """KL(posterior || prior) in nats, elementwise."""
    mean, sigma = prior_units(posterior, prior)
    return 0.5 * (mean**2 + sigma**2 - 1) - torch.log(sigma)


def prior_units(posterior: Normal, prior: Normal) -> Normal:
    """The posterior of u = (z - prior mean) / prior sigma, whose prior is N(0, 1)."""
    return Normal((posterior.mean - prior.mean) / prior.sigma, posterior.sigma / prior.sigma)


def log_density(x: Tensor, normal: Normal) -> Tensor:
    """log p(x) in nats, elementwise."""
    return -0.5 * ((x - normal.mean) / normal.sigma) ** 2 - 0.5 * math.log(2 * math.pi) - torch.log(normal.sigma)


def widen(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
