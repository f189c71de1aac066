"""What pixels cost under the frozen network's whole-number parameters with real-valued distributions, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.bernoulli import Bernoulli
from nvae_codec.likelihoods.colourwise import Colourwise
from nvae_codec.likelihoods.joint import Joint
from nvae_codec.likelihoods.likelihood import Likelihood
from nvae_codec.likelihoods.tables import (
    BERNOULLI_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    half_range,
    level_unit,
)

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
BLOCK = 1 << 16


def measure_pixels(likelihood: Likelihood, values: Sequence[Int32]) -> Float64:
    """-log2 p of a phase's values, (n,) a colour: (C, n). The likelihood has observed none of them yet."""
    bits = np.empty((len(values), likelihood.count))
    for colour, known in enumerate(values):
        for start in range(0, likelihood.count, BLOCK):
            at = slice(start, start + BLOCK)
            bits[colour, at] = _colour_bits(likelihood, colour, known[at], at)
        likelihood.observe(known)
    return bits


@singledispatch
def _colour_bits(likelihood: Likelihood, colour: int, values: Int32, at: slice) -> Float64:
    """-log2 p of values of the next colour, those before observed."""
    raise TypeError(f"there are no real-valued costs of a {type(likelihood).__name__}")


@_colour_bits.register
def _(likelihood: Bernoulli, colour: int, values: Int32, at: slice) -> Float64:
    logit = likelihood.logit[colour][at] / BERNOULLI_UNIT
    bits: Float64 = np.logaddexp(0, np.where(values == 1, -logit, logit)) / np.log(2)
    return bits


@_colour_bits.register
def _(likelihood: Colourwise, colour: int, values: Int32, at: slice) -> Float64:
    mean, log_scale, logit = (part[:, at] for part in likelihood.parameters(colour))
    mass = component_masses(likelihood.model, values, mean + likelihood.centre(colour, at), log_scale)
    return _mixture_bits(logit / LOGIT_UNIT, mass)


@_colour_bits.register
def _(likelihood: Joint, colour: int, values: Int32, at: slice) -> Float64:
    logit = likelihood.first_logit[:, at] / LOGIT_UNIT
    known = [before[at] for before in likelihood.values[:colour]]
    for index, seen in enumerate([*known, values]):
        centre = likelihood.mean[index][:, at] + likelihood.centre(index, at)
        mass = component_masses(likelihood.model, seen, centre, likelihood.log_scale[index][:, at])
        if index < colour:
            logit = logit + np.log(mass)
    return _mixture_bits(logit, mass)


def _mixture_bits(logit: Float64, mass: Float64) -> Float64:
    weight = np.exp(logit - logit.max(0))
    bits: Float64 = -np.log2(np.maximum((weight * mass).sum(0) / weight.sum(0), 1e-300))
    return bits


def component_masses(model: IntegerModel, values: Int32, centre: Int32, log_scale: Int32) -> Float64:
    """Each logistic's probability of values (n,), (K, n) as its centre and raw log scale."""
    scale = np.clip(log_scale, LOG_SCALE_LOW, LOG_SCALE_HIGH) / LOG_SCALE_UNIT
    inverse = np.exp(-scale) / half_range(model.value_bits)
    unit = level_unit(model.value_bits)
    distance = unit * values - centre
    low = np.where(values == 0, -np.inf, (distance - unit / 2) * inverse)
    high = np.where(values == model.top_value, np.inf, (distance + unit / 2) * inverse)
    return np.maximum(logistic_mass(low, high), 1e-300)


def logistic_mass(low: Float64, high: Float64) -> Float64:
    """σ(high) - σ(low), from the side where it keeps its digits."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    mass: Float64 = (torch.sigmoid(torch.from_numpy(b)) - torch.sigmoid(torch.from_numpy(a))).numpy()
    return mass
