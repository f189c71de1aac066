"""*Other likelihoods*: Bernoulli and joint mixtures. Arrays are (R, n) of raw parameters, (K, n) of components."""

import numpy as np

from tests.decoder.model import Mixture, Model
from tests.decoder.stack import Cdf, Ints


class Bernoulli:
    """Colours are independent bits."""

    def __init__(self, model: Model, raw: Ints) -> None:
        self.zero, self.bits = model.look_up("zero", raw), model.description["pixel_bits"]

    def cdf(self, colour: int) -> Cdf:
        return lambda k, at: np.where(k <= 0, 0, np.where(k >= 2, 2**self.bits, self.zero[colour][at]))

    def observe(self, colour: int, x: Ints) -> None:
        """Nothing follows from it."""


class Joint:
    """Components hold all colours."""

    def __init__(self, model: Model, raw: Ints) -> None:
        count = model.description["components"]
        self.model, self.logit = model, raw[:count]
        bits = model.description["value_bits"]
        self.unit, self.top = 64 << 8 - bits, 2**bits - 1
        self.middle = self.unit * self.top // 2
        self.mean, self.log_scale, coefficients = raw[count:].reshape(3, 3, count, -1).transpose(1, 0, 2, 3)
        self.c = model.look_up("tanh", coefficients)
        self.seen: list[Ints] = []

    def mu(self, colour: int) -> Ints:
        told = np.zeros_like(self.logit)
        for before, x in enumerate(self.seen):
            told = told + self.c[colour - 1 + before] * (self.unit * x - self.middle)
        mu: Ints = self.middle + self.mean[colour] + (told + 512 >> 10)
        return mu

    def cdf(self, colour: int) -> Cdf:
        return Mixture(self.model, self.mu(colour), self.log_scale[colour], self.logit).cdf

    def observe(self, colour: int, x: Ints) -> None:
        mu, tables = self.mu(colour), self.model.tables
        index = np.clip(self.log_scale[colour], -896, 320) + 896

        def steps(distance: Ints) -> Ints:
            product = distance.astype(np.float32) * tables["inverse_scale"][index]
            whole: Ints = np.clip(np.rint(product), -(2**22), 2**22).astype(np.int64)
            return whole

        def g(t: Ints) -> Ints:
            nats: Ints = np.abs(t) + tables["softplus"][np.minimum(np.abs(t), 12288)]
            return nats

        a, b = (steps(self.unit * x - mu + end * self.unit // 2) for end in (-1, 1))
        nats = tables["log_sinh"][index] - g(a) - g(b)
        nats = np.where(x == 0, b - g(b), nats)
        nats = np.where(x == self.top, -a - g(a), nats)
        self.logit = self.logit + (nats >> 5)
        self.seen.append(x)
