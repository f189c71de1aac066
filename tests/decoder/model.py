"""*The model file*, *Latents*, *Pixels*."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model_file import read_model
from tests.decoder.stack import Ints
from tests.decoder.tiles import list_planes


def identify(description: str, arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode() + arrays[name].tobytes())
    return digest.hexdigest()


class Model:
    """A model file: tables, description, network."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        self.metadata: dict[str, str] = header["__metadata__"]
        assert self.metadata["identity"] == identify(self.metadata["description"], arrays)
        self.description: dict[str, Any] = json.loads(self.metadata["description"])
        self.tables = {name.removeprefix("table."): a for name, a in arrays.items() if name.startswith("table.")}
        self.groups: list[dict[str, Any]] = self.description["groups"]
        for index, group in enumerate(self.groups):
            group["multiplier"] = arrays[f"group.{index}.multiplier"]
            group["flow_multipliers"] = arrays[f"group.{index}.flow_multipliers"]
        self.phases = list(list_planes(self.description["scales"]))
        self.graph: Graph = read_model(path).graph

    def look_up(self, table: str, index: Ints) -> Ints:
        """An entry of a table whose middle is at zero."""
        entries = self.tables[table]
        return entries[index + len(entries) // 2].astype(np.int64)


class Latents:
    """*Latents*: one group in one batch; arrays are (B, L, h, w) or run over the kept ones (n,)."""

    def __init__(self, model: Model, group: dict[str, Any], raw: Ints | None, shape: list[int], *, first: bool) -> None:
        self.model, self.group, self.bits = model, group, model.description["latent_bits"]
        raw = np.zeros([shape[0], 2 * shape[1], *shape[2:]], np.int64) if raw is None else raw
        self.mean, self.sigma = self.normals(raw)
        kept = self.mean[:, group["active"]]
        coarse = group["coarse"]
        step = np.array(group["bin_widths"], np.int64) * (coarse if first else 1)
        self.step = np.broadcast_to(step[:, None, None], kept.shape).ravel()
        self.half = 8 * 4096 // self.step
        self.bins = 2 * self.half + 1
        self.count, self.shape = kept.size, kept.shape

    def normals(self, raw: Ints) -> tuple[Ints, Ints]:
        means, log_sigmas = np.split(raw, 2, 1)
        return self.model.look_up("mean", means), self.model.look_up("sigma", log_sigmas)

    def ends(self, quantiles: Ints, k: Ints, bins: Ints) -> Ints:
        return np.where(k <= 0, 0, np.where(k >= bins, 2**self.bits, quantiles))

    def prior(self, k: Ints, at: slice) -> Ints:
        bins = self.bins[at]
        e = (2 * k - bins) * self.step[at]
        phi = self.model.look_up("normal", np.clip(e * 256 >> 13, -2048, 2048))
        return self.ends((phi * (2**self.bits - bins) >> self.bits) + k, k, bins)

    def show(self, raw: Ints) -> None:
        mean, sigma = self.normals(raw)
        kept = self.group["active"]
        prior_sigma = self.sigma[:, kept].ravel()
        self.m = ((mean - self.mean)[:, kept].ravel() << 16) // prior_sigma
        self.inverse = (prior_sigma << 16) // sigma[:, kept].ravel()

    def posterior(self, k: Ints, at: slice) -> Ints:
        bins = self.bins[at]
        e = (2 * k - bins) * self.step[at] - 2 * self.m[at]
        phi = self.model.look_up("normal", np.clip(e * self.inverse[at] >> 21, -2048, 2048))
        return self.ends(phi, k, bins)

    def turn(self, at: slice) -> Ints:
        step, bins = self.step[at], self.bins[at]
        return self.posterior(np.clip((2 * self.m[at] + bins * step) // (2 * step), 0, bins - 1), at)

    def z(self, k: Ints) -> NDArray[np.float64]:
        z, kept = self.mean.copy(), self.group["active"]
        u = ((k - self.half) * self.step).reshape(self.shape)
        z[:, kept] += self.sigma[:, kept] * u + 2**15 >> 16
        bound = self.group["bound"]
        known: NDArray[np.float64] = np.clip(np.rint(z * self.group["multiplier"][:, None, None]), -bound, bound)
        return known


class Mixture:
    """*Pixels*: one colour of one phase; parameters are (K, n)."""

    def __init__(self, model: Model, mean: Ints, log_scale: Ints, logit: Ints, centre: Ints) -> None:
        self.model, self.bits = model, model.description["pixel_bits"]
        self.shift, value_bits = 30 - self.bits, model.description["value_bits"]
        self.unit, self.values = 64 << 8 - value_bits, 2**value_bits
        self.mu = mean + centre
        self.inverse = model.tables["inverse_scale"][np.clip(log_scale, -896, 320) + 896]
        below = logit.max(0) - logit
        mass = np.where(below <= 1023, model.tables["softmax"][np.minimum(below, 1023)], 0).astype(np.int64)
        self.weight = mass * 2**self.shift // mass.sum(0)
        self.weight[0] += 2**self.shift - self.weight.sum(0)

    def quantiles(self, k: Ints, at: slice) -> Ints:
        distance = (self.unit * k - self.mu[:, at] - self.unit // 2).astype(np.float32)
        t = np.clip(np.rint(distance * self.inverse[:, at]), -12288, 12288).astype(np.int64)
        total = (self.weight[:, at] * self.model.look_up("logistic", t)).sum(0)
        return np.where(k <= 0, 0, np.where(k >= self.values, 2**self.bits, (total >> self.shift) + k))
