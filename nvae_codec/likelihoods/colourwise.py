"""A mixture of logistics a colour: each colour's centre follows from those before, and from neighbours."""

from __future__ import annotations

from typing import cast

import numpy as np
from torch import Tensor

from nvae_codec.coding.ans import Distribution, Int32
from nvae_codec.coding.canvas import Canvas
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.device_mixture import DeviceMixture
from nvae_codec.likelihoods.likelihood import BLOCK, Likelihood
from nvae_codec.likelihoods.mixture import Mixture
from nvae_codec.likelihoods.tables import COLOUR_UNIT, LEVEL_UNIT, PIXEL_RAW_BOUND, MixtureTables


class Colourwise(Likelihood):
    """Every colour of a pixel has a mixture of its own, where its raw parameters lie."""

    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        *self.raw, coefficients = split_raw(parameters, self.model.components)
        self.coefficients: Int32 = coefficients.cpu().numpy()
        self.guess = self._guess(canvas)
        self.is_here = parameters.device.type == "cpu"
        self.block = BLOCK if self.is_here else max(1, self.count)

    def distribution(self, colour: int) -> Distribution:
        """Of the next colour."""
        if self.is_here:
            return Mixture(self.model, *self.parameters(colour), self.centre(colour))
        mean, log_scale, logit = (part[colour] for part in self.raw)
        return DeviceMixture(self.model, mean, log_scale, logit, self.centre(colour))

    def parameters(self, colour: int) -> tuple[Int32, Int32, Int32]:
        """Raw means, log scales and logits of a colour, (K, n) each."""
        mean, log_scale, logit = (part[colour].cpu().numpy() for part in self.raw)
        return mean, log_scale, logit

    def centre(self, colour: int, at: slice = slice(None)) -> Int32:
        """Of the next colour in 1/64 level: its guess, and what the colours before tell."""
        known = zip(self.values[:colour], self.guess, strict=False)
        residuals = [4 * values[at] - guess[at] for values, guess in known]
        return colour_centre(self.model, self.coefficients[:, at], self.guess[colour][at], residuals)

    def _guess(self, canvas: Canvas) -> list[Int32]:
        """Four times the mean of the neighbours, in levels, a colour each (n,); the middle level without any."""
        if not self.phase.neighbours:
            return [np.full(self.count, 510, np.int32)] * 3
        total = np.zeros((3, self.tiles, self.rows, self.columns), np.int32)
        for index, down, right in self.phase.neighbours:
            known = np.pad(canvas.read(self.phase.known[index]), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            at = known[:, :, 1 + down : 1 + down + self.rows, 1 + right : 1 + right + self.columns]
            total += at.transpose(1, 0, 2, 3)
        return list(total.reshape(3, -1))


def colour_centre(model: IntegerModel, coefficients: Int32, guess: Int32, residual: list[Int32]) -> Int32:
    """The centre of the next colour in 1/64 level: its guess, and what the colours before tell.

    coefficients (3, n) in 1/1024; guess (n,) in quarter levels; residual: of each colour before, its value less its
    guess, in quarter levels.
    """
    centre = guess * (LEVEL_UNIT // 4)
    if not residual:
        return centre
    used: Int32 = coefficients[:1] if len(residual) == 1 else coefficients[1:]
    if model.bounded_colour:
        used = cast(MixtureTables, model.tables).tanh.take(used + PIXEL_RAW_BOUND)
    total = sum((c * r for c, r in zip(used, residual, strict=True)), np.zeros_like(centre))
    return centre + ((total * (LEVEL_UNIT // 4) + COLOUR_UNIT // 2) >> COLOUR_UNIT.bit_length() - 1)


def split_raw(raw: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw parameters (9K + 3, n) as means, log scales and logits (3, K, n) and colour coefficients (3, n)."""
    mean, log_scale, logit = raw[: 9 * components].reshape(3, 3, components, -1)
    return mean, log_scale, logit, raw[9 * components :]
