"""*Other likelihoods*: Bernoulli and joint mixtures. Arrays are (R, n) of raw parameters, (K, n) of components."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.decoder.model import Mixture, Model
from tests.decoder.stack import Ints

Quantiles = Callable[[Ints, slice], Ints]


class Bernoulli:
    """Colours are independent bits."""

    def __init__(self, model: Model, raw: Ints) -> None:
        self.zero, self.bits = model.look_up("zero", raw), model.description["pixel_bits"]

    def quantiles(self, colour: int) -> Quantiles:
        def below(k: Ints, at: slice) -> Ints:
            return np.where(k <= 0, 0, np.where(k >= 2, 2**self.bits, self.zero[colour][at]))

        return below

    def observe(self, colour: int, x: Ints) -> None:
        """Nothing follows from it."""


class Joint:
    """Components hold all colours."""

    def __init__(self, model: Model, raw: Ints) -> None:
        count = model.description["components"]
        self.model, self.logit = model, raw[:count]
        self.bits = model.description["value_bits"]
        self.unit, self.top = 64 << 8 - self.bits, 2**self.bits - 1
        self.middle = self.unit * self.top // 2
        self.mean, self.log_scale, coefficients = raw[count:].reshape(3, 3, count, -1).transpose(1, 0, 2, 3)
        self.c = model.look_up("tanh", coefficients)
        self.seen: list[Ints] = []

    def centre(self, colour: int) -> Ints:
        told = np.zeros_like(self.logit)
        for before, x in enumerate(self.seen):
            told = told + self.c[colour - 1 + before] * (self.unit * x - self.middle)
        centre: Ints = self.middle + (told + 512 >> 10)
        return centre

    def quantiles(self, colour: int) -> Quantiles:
        centre = self.centre(colour)
        return Mixture(self.model, self.mean[colour], self.log_scale[colour], self.logit, centre).quantiles

    def observe(self, colour: int, x: Ints) -> None:
        mu = self.mean[colour] + self.centre(colour)
        scale = np.clip(self.log_scale[colour], -896, 320) + 896
        tables = self.model.tables

        def steps(distance: Ints) -> Ints:
            product = distance.astype(np.float32) * tables["inverse_scale"][scale]
            whole: Ints = np.clip(np.rint(product), -(2**22), 2**22).astype(np.int64)
            return whole

        def cost(t: Ints) -> Ints:
            nats: Ints = np.abs(t) + tables["softplus"][np.minimum(np.abs(t), 12288)]
            return nats

        a, b = (steps(self.unit * x - mu + end * self.unit // 2) for end in (-1, 1))
        nats = tables["log_sinh"][scale] - cost(a) - cost(b)
        nats = np.where(x == 0, b - cost(b), nats)
        nats = np.where(x == self.top, -a - cost(a), nats)
        self.logit = self.logit + (nats >> 5)
        self.seen.append(x)
