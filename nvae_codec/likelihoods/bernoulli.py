"""Binary pixels: independent bits, 0 or 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvae_codec.coding.ans import Int32
from nvae_codec.coding.canvas import Canvas
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.likelihood import CodedLikelihood, Float64, PixelCoder, Uniform
from nvae_codec.likelihoods.tables import LatentTables, Tables, is_table, round_table

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import Recipe

UNIT, BOUND = 256, 4095
"""Logits: units of 1/256, in [-4095, 4095]."""


@dataclass(frozen=True, eq=False)
class BernoulliTables(Tables):
    """zero: the frequency of 0 by the logit of 1, 1 to 2^pixel_bits - 1."""

    zero: Int32


class BernoulliCoder(PixelCoder):
    """The colours of a pixel are independent."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        self.logit: Int32 = parameters.cpu().numpy()
        self.zero = cast(BernoulliTables, self.model.tables).zero.take(self.logit + BOUND)

    def distribution(self, colour: int) -> Bits:
        """Of the next colour, whatever the others are."""
        return Bits(self.zero[colour], self.model.pixel_bits)

    def real_bits(self, colour: int, values: Int32, at: slice) -> Float64:
        """-log2 p of values, (n,)."""
        logit = self.logit[colour][at] / UNIT
        bits: Float64 = np.logaddexp(0, np.where(values == 1, -logit, logit)) / np.log(2)
        return bits


class Bits:
    """The distribution of n bits: slots below the frequency ``zero`` (n,) mean 0, the others 1."""

    def __init__(self, zero: Int32, bits: int) -> None:
        self.zero, self.bits, self.count = zero, bits, len(zero)

    def interval(self, values: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of values."""
        zero = self.zero[at]
        return values * zero, np.where(values == 0, zero, (1 << self.bits) - zero).astype(np.int32)

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The bits whose intervals hold slots, with starts and frequencies."""
        values = (slots >= self.zero[at]).astype(np.int32)
        return values, *self.interval(values, at)


class Kind(CodedLikelihood):
    """Raw parameters are the logits of 1."""

    pixel_bits, raw_bound = 17, BOUND  # bits that are nearly certain need fine frequencies
    tables, coder = BernoulliTables, BernoulliCoder

    def raw_channels(self, channels: int, components: int) -> int:
        """A logit for each colour."""
        return channels

    def nats(self, raw: Tensor, prediction: Tensor, x: Tensor, recipe: Recipe) -> Tensor:
        """-log p of pixels that are -1 or 1, (B, C, h, w)."""
        return F.softplus(raw) - raw * (x + 1) / 2

    def pixels(self, raw: Tensor, prediction: Tensor, recipe: Recipe, uniform: Uniform | None) -> Tensor:
        """Pixels that are -1 or 1, or their mean."""
        probability = torch.sigmoid(raw)
        return 2 * (probability if uniform is None else (uniform(raw.shape[1]) < probability).to(raw)) - 1

    def raw_scale(self, recipe: Recipe) -> list[float]:
        """The units of logits."""
        return [1 / UNIT] * recipe.image.channels

    def make_tables(self, latents: LatentTables, value_bits: int) -> BernoulliTables:
        """The tables of a new model."""
        logit = np.arange(-BOUND, BOUND + 1) / UNIT
        zero = round_table(2**self.pixel_bits / (1 + np.exp(logit)))
        return BernoulliTables(**vars(latents), zero=np.clip(zero, 1, 2**self.pixel_bits - 1))

    def table_faults(self, model: IntegerModel) -> Iterator[str]:
        """The names of tables that are impossible."""
        zero = cast(BernoulliTables, model.tables).zero
        if not is_table(zero, 2 * BOUND + 1) or zero.min() < 1 or zero.max() >= 2**model.pixel_bits:
            yield "zero"
