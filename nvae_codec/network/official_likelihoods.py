"""The official likelihoods of an image given its latents: joint mixture of logistics, Normal, Bernoulli.

Raw parameters cover the image; x is (B, C, H, W) in [-1, 1], colours in coding order, and results are in nats. The
joint mixture is PixelCNN++'s (Salimans et al. 2017) with the rules of NVAE's code (distributions.py).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.network.normal import log_density, normal_of_raw
from nvae_codec.recipes.recipe import ImageRecipe, LikelihoodRecipe

LEAST_LOG_SCALE = -7.0


def raw_channels(image: ImageRecipe, likelihood: LikelihoodRecipe) -> int:
    """Raw parameters of a pixel."""
    k = likelihood.components
    return {"colourwise": 9 * k + 3, "joint": 10 * k, "normal": 2 * image.channels, "bernoulli": image.channels}[
        likelihood.kind
    ]


def official_nats(raw: Tensor, x: Tensor, image: ImageRecipe, likelihood: LikelihoodRecipe) -> Tensor:
    """-log p(x) a place: (B, H, W) of a joint mixture, (B, C, H, W) of the others; padding is not cut off."""
    if likelihood.kind == "joint":
        return joint_nats(raw, x, image.bits, likelihood.tail_edge)
    if likelihood.kind == "normal":
        return -log_density(x, normal_of_raw(raw, raw))
    return bernoulli_nats(raw, x)


def bernoulli_nats(raw: Tensor, x: Tensor) -> Tensor:
    """-log p of pixels that are -1 or 1, from the logits of 1."""
    return F.softplus(raw) - raw * (x + 1) / 2


def image_mean(raw: Tensor, likelihood: LikelihoodRecipe) -> Tensor:
    """The mean image of raw parameters, (B, C, H, W) in [-1, 1]; temperatures do not change it."""
    if likelihood.kind == "joint":
        return joint_mean(raw)
    if likelihood.kind == "normal":
        return normal_of_raw(raw, raw).mean.clamp(-1, 1)
    return 2 * torch.sigmoid(raw) - 1


class JointMixture(NamedTuple):
    """logit (B, M, H, W); mean, log_scale, colour (B, 3, M, H, W): a mixture whose components hold all three colours.

    colour has the coefficients that colours before add to the means: red to green, red to blue, green to blue.
    """

    logit: Tensor
    mean: Tensor
    log_scale: Tensor
    colour: Tensor


def joint_mixture(raw: Tensor) -> JointMixture:
    """The mixture of raw parameters (B, 10 M, H, W)."""
    b, channels, h, w = raw.shape
    count = channels // 10
    mean, log_scale, colour = raw[:, count:].view(b, 3, 3, count, h, w).unbind(2)
    return JointMixture(raw[:, :count], mean, log_scale.clamp_min(LEAST_LOG_SCALE), torch.tanh(colour))


def joint_nats(raw: Tensor, x: Tensor, bits: int, tail_edge: float) -> Tensor:
    """-log p(x) of a discretised joint mixture, (B, H, W); raw (B, 10 M, H, W).

    Values above ``tail_edge`` take the whole upper tail. The official 0.99 makes 254 of 255 one of them, so that the
    values of 8 bits have a little more than all the probability.
    """
    mixture, half = joint_mixture(raw), 1 / (2**bits - 1)
    seen = x[:, :, None]
    d = seen - shifted_mean(mixture, seen)
    inverse = torch.exp(-mixture.log_scale)
    upper, lower = inverse * (d + half), inverse * (d - half)
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    middle = inverse * d
    # where the difference of sigmoids loses its digits, the density at the middle times the bin's width
    density = middle - mixture.log_scale - 2 * F.softplus(middle) + math.log(2 * half)
    inner = torch.where(mass > 1e-5, mass.clamp_min(1e-10).log(), density)
    last = torch.where(seen > tail_edge, -F.softplus(lower), inner)
    log_p = torch.where(seen < -0.999, upper - F.softplus(upper), last)
    return -torch.logsumexp(log_p.sum(1) + F.log_softmax(mixture.logit, 1), 1)


def shifted_mean(mixture: JointMixture, x: Tensor) -> Tensor:
    """Means once the colours before are known, (B, 3, M, H, W); x (B, 3, 1, H, W)."""
    red, green = x[:, 0], x[:, 1]
    mean, colour = mixture.mean, mixture.colour
    blue = mean[:, 2] + colour[:, 1] * red + colour[:, 2] * green
    return torch.stack([mean[:, 0], mean[:, 1] + colour[:, 0] * red, blue], 1)


def joint_sample(raw: Tensor, u_component: Tensor, u_logistic: Tensor, temperature: float = 1.0) -> Tensor:
    """A image in [-1, 1] (B, 3, H, W) from uniform numbers (B, M, H, W) and (B, 3, H, W) in (0, 1)."""
    mixture = joint_mixture(raw)
    gumbel = -torch.log(-torch.log(u_component))
    chosen = (mixture.logit / temperature + gumbel).argmax(1, keepdim=True)[:, None].expand(-1, 3, 1, -1, -1)
    mean, log_scale, colour = (part.gather(2, chosen)[:, :, 0] for part in mixture[1:])
    noise = (torch.log(u_logistic) - torch.log(1 - u_logistic)) / temperature
    return _autoregress(mean + torch.exp(log_scale) * noise, colour)


def joint_mean(raw: Tensor) -> Tensor:
    """The image of mean parameters, in [-1, 1], (B, 3, H, W)."""
    mixture = joint_mixture(raw)
    weight = F.softmax(mixture.logit, 1)[:, None]
    return _autoregress((mixture.mean * weight).sum(2), (mixture.colour * weight).sum(2))


def _autoregress(own: Tensor, colour: Tensor) -> Tensor:
    """Colours one after another, each clamped to [-1, 1] before the next sees it."""
    red = own[:, 0].clamp(-1, 1)
    green = (own[:, 1] + colour[:, 0] * red).clamp(-1, 1)
    blue = (own[:, 2] + colour[:, 1] * red + colour[:, 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], 1)
