"""*The model file*, *Latents*, and the mixtures of *Pixels*."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from tests.decoder.network import Network
from tests.decoder.stack import Ints
from tests.decoder.tiles import list_phases


class Model:
    """A model file: description, tables, groups, network."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        arrays = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        digest = hashlib.sha256(metadata["description"].encode())
        for name, array in sorted(arrays.items()):
            digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
        self.identity = digest.digest()
        assert self.identity.hex() == metadata["identity"]
        self.description: dict[str, Any] = json.loads(metadata["description"])
        self.tables = {name.removeprefix("table."): a for name, a in arrays.items() if name.startswith("table.")}
        self.groups: list[dict[str, Any]] = self.description["groups"]
        for index, group in enumerate(self.groups):
            group["multiplier"] = arrays[f"group.{index}.multiplier"]
            group["flow_multipliers"] = arrays[f"group.{index}.flow_multipliers"]
        self.phases = list(list_phases(self.description["scales"]))
        self.network = Network(self.description, arrays)

    def look_up(self, table: str, index: Ints) -> Ints:
        """An entry of a table with zero in its middle."""
        entries = self.tables[table]
        return entries[index + len(entries) // 2].astype(np.int64)


def scale(z: Ints, multiplier: NDArray[np.float64], bound: int) -> NDArray[np.float64]:
    """z as the network reads it."""
    read: NDArray[np.float64] = np.clip(np.rint(z * multiplier[:, None, None]), -bound, bound)
    return read


class Latents:
    """One group in one batch; arrays are (B, L, h, w), or run over the active channels (n,)."""

    def __init__(self, model: Model, group: dict[str, Any], raw: Ints | None, shape: list[int], *, first: bool) -> None:
        self.model, self.group, self.bits = model, group, model.description["latent_bits"]
        raw = np.zeros([shape[0], 2 * shape[1], *shape[2:]], np.int64) if raw is None else raw
        self.mean, self.sigma = self.normals(raw)
        active = self.mean[:, group["active"]]
        widths = np.array(group["bin_widths"], np.int64) * (group["coarse"] if first else 1)
        self.width = np.broadcast_to(widths[:, None, None], active.shape).ravel()
        self.half = 8 * 4096 // self.width
        self.bins = 2 * self.half + 1
        self.count, self.shape = active.size, active.shape

    def normals(self, raw: Ints) -> tuple[Ints, Ints]:
        means, log_sigmas = np.split(raw, 2, 1)
        return self.model.look_up("mean", means), self.model.look_up("sigma", log_sigmas)

    def ends(self, cumulative: Ints, k: Ints, bins: Ints) -> Ints:
        return np.where(k <= 0, 0, np.where(k >= bins, 2**self.bits, cumulative))

    def prior(self, k: Ints, at: slice) -> Ints:
        bins = self.bins[at]
        e = (2 * k - bins) * self.width[at]
        phi = self.model.look_up("normal", np.clip(e * 256 >> 13, -2048, 2048))
        return self.ends((phi * (2**self.bits - bins) >> self.bits) + k, k, bins)

    def set_posterior(self, raw: Ints) -> None:
        mean, sigma = self.normals(raw)
        active = self.group["active"]
        prior_sigma = self.sigma[:, active].ravel()
        self.m = ((mean - self.mean)[:, active].ravel() << 16) // prior_sigma
        self.inverse = (prior_sigma << 16) // sigma[:, active].ravel()

    def posterior(self, k: Ints, at: slice) -> Ints:
        bins = self.bins[at]
        e = (2 * k - bins) * self.width[at] - 2 * self.m[at]
        phi = self.model.look_up("normal", np.clip(e * self.inverse[at] >> 21, -2048, 2048))
        return self.ends(phi, k, bins)

    def rotation(self, at: slice) -> Ints:
        width, bins = self.width[at], self.bins[at]
        return self.posterior(np.clip((2 * self.m[at] + bins * width) // (2 * width), 0, bins - 1), at)

    def place(self, points: Ints, pruned: Ints) -> Ints:
        """z of points, with that of ``pruned`` channels."""
        z, active = pruned.copy(), self.group["active"]
        u = (points * self.width).reshape(self.shape)
        z[:, active] = self.mean[:, active] + (self.sigma[:, active] * u + 2**15 >> 16)
        return z

    def z(self, k: Ints) -> NDArray[np.float64]:
        return scale(self.place(k - self.half, self.mean), self.group["multiplier"], self.group["bound"])


class Mixture:
    """One colour; parameters are (K, n)."""

    def __init__(self, model: Model, mu: Ints, log_scale: Ints, logit: Ints) -> None:
        self.model, self.bits, self.mu = model, model.description["pixel_bits"], mu
        self.shift, value_bits = 30 - self.bits, model.description["value_bits"]
        self.unit, self.values = 64 << 8 - value_bits, 2**value_bits
        self.inverse = model.tables["inverse_scale"][np.clip(log_scale, -896, 320) + 896]
        below = logit.max(0) - logit
        mass = np.where(below <= 1023, model.tables["softmax"][np.minimum(below, 1023)], 0).astype(np.int64)
        self.weight = mass * 2**self.shift // mass.sum(0)
        self.weight[0] += 2**self.shift - self.weight.sum(0)

    def cdf(self, k: Ints, at: slice) -> Ints:
        distance = (self.unit * k - self.mu[:, at] - self.unit // 2).astype(np.float32)
        t = np.clip(np.rint(distance * self.inverse[:, at]), -12288, 12288).astype(np.int64)
        total = (self.weight[:, at] * self.model.look_up("logistic", t)).sum(0)
        return np.where(k <= 0, 0, np.where(k >= self.values, 2**self.bits, (total >> self.shift) + k))
