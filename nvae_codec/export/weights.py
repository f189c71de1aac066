"""Real weights to integer weights whose sums are exact."""

import dataclasses

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.operation import FLOAT32_BOUND, FLOAT64_BOUND
from nvae_codec.integer.operations import Convolve

WEIGHT_BOUND = 2**15 - 1
"""Large, since one row may have both a large weight, which passes a latent on, and small ones."""
COARSEST_WEIGHTS = 24
"""If float32's bound leaves the largest weight of an output channel less than this, weights are split into digits."""


def scale_weights(real: Tensor, bias: Tensor, reach: Tensor, *, precise: bool) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Integer weights and biases, the real value of their unit for each output channel, and whether to split them.

    real: weights (O, I / groups, k, k), reach: bounds of what each reads, bias: (O,); all float64.
    """
    weight, offset, unit = _scale(real, bias, reach, FLOAT32_BOUND)
    coarse = (weight.abs().amax((1, 2, 3)) < COARSEST_WEIGHTS) & (real.abs().amax((1, 2, 3)) > 0)
    if not precise and not bool(coarse.any()):
        return weight, offset, unit, False
    weight, offset, unit = _scale(real, bias, reach, FLOAT64_BOUND)
    return weight, offset, unit, bool(((weight.abs() * reach).sum((1, 2, 3)) + offset.abs()).max() >= FLOAT32_BOUND)


def _scale(real: Tensor, bias: Tensor, reach: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Integer weights and biases with sums below the limit, and their unit."""
    room = limit - 1
    unit = torch.maximum(
        real.abs().amax((1, 2, 3)) / WEIGHT_BOUND, ((real.abs() * reach).sum((1, 2, 3)) + bias.abs()) / room
    ).clamp_min(1e-12)
    # a bias that float32 cannot hold as an integer would not be exact
    unit = torch.maximum(unit, bias.abs() / (FLOAT32_BOUND // 2))
    for _ in range(200):
        weight, offset = (real / unit.view(-1, 1, 1, 1)).round(), (bias / unit).round()
        beyond = (weight.abs() * reach).sum((1, 2, 3)) + offset.abs() > room
        if not bool(beyond.any()):
            return weight, offset, unit
        unit = torch.where(beyond, unit * 1.01, unit)
    raise ModelFileError("a convolution cannot be scaled into the bound of its accumulator")


def split_weights(operation: Convolve, largest: Tensor) -> Convolve:
    """The same convolution with its weights split into as few digits as keep every sum below 2^24.

    largest: bounds of the input, float64 (C,). Raises ModelFileError if no digits do.
    """
    for count in range(1, 8):
        for bits in range(16, 0, -1):
            split = dataclasses.replace(operation, digits=(bits,) * count)
            if bool((split.sums(largest)[:-1] < FLOAT32_BOUND).all()):
                return split
    raise ModelFileError(f"{operation.name}: no digits of its weights have sums that float32 holds")
