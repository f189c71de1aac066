"""A second decoder, written from docs/format.md alone: what it reads proves that the page says enough.

From the package it takes the network, which the page leaves to the model file, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from numpy.typing import NDArray
from safetensors.numpy import load

import nvae_codec
from nvae_codec.exact.graph import Evaluation, Graph
from nvae_codec.exact.inference import exact_inference
from nvae_codec.exact.model_file import read_model, save_model
from tests.coding.test_rate import golden_picture
from tests.exact.test_same_everywhere import REFRESH
from tests.models import frozen_model

GOLDEN = Path(__file__).parent / "golden"
MODEL, FILE = GOLDEN / "tiny.safetensors", GOLDEN / "tiny.nvae"

Ints = NDArray[np.int64]
Find = Callable[[Ints], tuple[Ints, Ints, Ints]]
Plane = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


class Ans:
    """*The stack* and *Intervals*: plain whole numbers."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self.words = [int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)]
        self.state = 0
        for _ in range(min(2, len(self.words))):
            self.state = self.state << 32 | self.words.pop()

    def push_uniform(self, symbol: int, n: int) -> None:
        left, p = self.slot(symbol, n)
        if self.state >> 40 >= p:
            self.words.append(self.state & 0xFFFFFFFF)
            self.state >>= 32
        self.state = (self.state // p << 24) | (left + self.state % p)

    def pop_uniform(self, n: int) -> int:
        q = self.state % 2**24
        symbol = min(q // (2**24 // n), n - 1)
        left, p = self.slot(symbol, n)
        self.state = (self.state >> 24) * p + q - left
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    @staticmethod
    def slot(symbol: int, n: int) -> tuple[int, int]:
        size = 2**24 // n
        return symbol * size, 2**24 - (n - 1) * size if symbol == n - 1 else size

    def push(self, left: Ints, width: Ints, turn: Ints, bits: int) -> None:
        rest = [self.pop_uniform(int(w)) if w > 1 else 0 for w in width]
        for value in reversed((left + rest - turn) % 2**bits):
            self.push_uniform(int(value), 2**bits)

    def pop(self, count: int, find: Find, bits: int) -> Ints:
        q = np.array([self.pop_uniform(2**bits) for _ in range(count)], np.int64)
        symbols, left, width = find(q)
        for rest, w in zip(reversed(q - left), reversed(width), strict=True):
            if w > 1:
                self.push_uniform(int(rest), int(w))
        return symbols


def cut(count: int, fill: int, rate: int) -> list[slice]:
    slices, done = [], 0
    while done < count:
        size = min(count - done, max(8, min(16384, (fill + done * rate // 16) // 20)))
        slices.append(slice(done, done + size))
        done += size
    return slices


def find_symbol(cdf: Callable[[Ints], Ints], q: Ints, most: Ints) -> tuple[Ints, Ints, Ints]:
    """The last symbol whose F is at most q, one after another: F never falls."""
    symbol = np.zeros_like(q)
    while (more := (symbol < most - 1) & (cdf(symbol + 1) <= q)).any():
        symbol += more
    left = cdf(symbol)
    return symbol, left, cdf(symbol + 1) - left


def read_tiles(height: int, width: int, growth: int, corner: int) -> list[Rectangle]:
    """*Tiles and batches*: (top, left, rows, columns)."""

    def share(n: int, across: int) -> int:
        parts = -(-n // max(768, 768**2 // max(across, 64) // 64 * 64))
        part = -(-n // parts)
        return -(-part // 64) * 64

    def side(left_over: int, across: int) -> int:
        n = min(share(left_over, across), max(64, growth * done // across // 64 * 64))
        return left_over if left_over - n < 32 else min(n, left_over)

    tiles, done, top = [], 0, 0
    while top < height:
        rows = side(height - top, width) if top else height if height <= 96 else 64
        left = 0
        while left < width:
            columns = side(width - left, rows) if done else width if width <= 96 else 64
            turned = height - top - rows if corner & 2 else top, width - left - columns if corner & 1 else left
            tiles.append((*turned, rows, columns))
            done += rows * columns
            left += columns
        top += rows
    return tiles


def list_planes(levels: int) -> Iterator[tuple[Plane, list[Plane], list[tuple[int, int, int]]]]:
    """Each phase's plane (stride, row, column), the known planes of its level, and its neighbours among them."""
    yield (2**levels, 0, 0), [], []
    for s in (2**n for n in range(levels, 0, -1)):
        even, diagonal, beside, below = (s, 0, 0), (s, s // 2, s // 2), (s, 0, s // 2), (s, s // 2, 0)
        yield diagonal, [even], [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
        yield beside, [even, diagonal], [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)]
        yield below, [even, diagonal, beside], [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, -1)]


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
        self.phases = list(list_planes(self.description["levels"]))
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
        kept = self.mean[:, group["kept"]]
        step = np.array(group["steps"], np.int64) * (4 if first else 1)
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
        kept = self.group["kept"]
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
        z, kept = self.mean.copy(), self.group["kept"]
        u = ((k - self.half) * self.step).reshape(self.shape)
        z[:, kept] += self.sigma[:, kept] * u + 2**15 >> 16
        bound = self.group["bound"]
        known: NDArray[np.float64] = np.clip(np.rint(z * self.group["multiplier"][:, None, None]), -bound, bound)
        return known


class Mixture:
    """*Pixels*: one colour of one phase; parameters are (K, n)."""

    def __init__(self, model: Model, mean: Ints, log_scale: Ints, logit: Ints, centre: Ints) -> None:
        self.model, self.bits = model, model.description["pixel_bits"]
        self.shift = 30 - self.bits
        self.mu = mean + centre
        self.inverse = model.tables["inverse_scale"][np.clip(log_scale, -896, 320) + 896]
        below = logit.max(0) - logit
        mass = np.where(below <= 1023, model.tables["softmax"][np.minimum(below, 1023)], 0).astype(np.int64)
        self.weight = mass * 2**self.shift // mass.sum(0)
        self.weight[0] += 2**self.shift - self.weight.sum(0)

    def quantiles(self, k: Ints, at: slice) -> Ints:
        distance = (64 * k - self.mu[:, at] - 32).astype(np.float32)
        t = np.clip(np.rint(distance * self.inverse[:, at]), -12288, 12288).astype(np.int64)
        total = (self.weight[:, at] * self.model.look_up("logistic", t)).sum(0)
        return np.where(k <= 0, 0, np.where(k >= 256, 2**self.bits, (total >> self.shift) + k))


class BatchDecoder:
    """*The walk* of one batch, backwards."""

    def __init__(self, model: Model, ans: Ans, tiles: int, size: tuple[int, int], *, first: bool) -> None:
        self.model, self.ans, self.tiles, self.size, self.first = model, ans, tiles, size, first
        stride = model.description["stride"]
        self.padded = [-(-side // stride) * stride for side in size]
        self.pixels = np.zeros((tiles, 3, *self.padded), np.int64)
        self.walk: Evaluation = model.graph.evaluate()
        self.give("blank", np.zeros((tiles, 1, *(side // stride for side in self.padded))))

    def give(self, name: str, value: NDArray[Any]) -> None:
        self.walk.give(name, torch.from_numpy(value.astype(np.float32)))

    def take(self, name: str) -> Ints:
        whole: Ints = self.walk.take(name).to(torch.int64).numpy()
        return whole

    def own(self, plane: Plane) -> tuple[int, int]:
        """Rows and columns of a plane's pixels in a tile."""
        stride, *start = plane
        rows, columns = (max(0, -(-(side - at) // stride)) for side, at in zip(self.size, start, strict=True))
        return rows, columns

    def see(self, plane: Plane) -> Ints:
        stride, row, column = plane
        return self.pixels[:, :, row::stride, column::stride]

    def decode(self, before: int, after: int, fill: int) -> Ints:
        """The pixels (tiles, 3, rows, columns); ``fill``: after the pixels of the batch before."""
        groups = [self.pop_latents(index, after) for index in range(len(self.model.groups))]
        self.pop_pixels(before, after)
        self.give("image", 2 * self.pixels - 255)
        cuts = []
        for latents, _ in groups:
            cuts.append([slice(0, latents.count)] if self.first else cut(latents.count, fill, -36))
            fill = max(0, fill - 36 * latents.count // 16)
        for index in reversed(range(len(groups))):
            latents, symbols = groups[index]
            latents.show(self.take(f"posterior.{index}"))
            for at in reversed(cuts[index]):
                left = latents.posterior(symbols[at], at)
                width = latents.posterior(symbols[at] + 1, at) - left
                self.ans.push(left, width, latents.turn(at), latents.bits)
        return self.pixels[:, :, : self.size[0], : self.size[1]]

    def pop_latents(self, index: int, after: int) -> tuple[Latents, Ints]:
        group = self.model.groups[index]
        shape = [self.tiles, group["channels"], *(side // group["stride"] for side in self.padded)]
        raw = self.take(f"prior.{index}") if group["has_prior"] else None
        latents = Latents(self.model, group, raw, shape, first=self.first)
        symbols = np.empty(latents.count, np.int64)
        for at in reversed(cut(latents.count, after, 0)):

            def find(q: Ints, at: slice = at) -> tuple[Ints, Ints, Ints]:
                return find_symbol(lambda k: latents.prior(k, at), q, latents.bins[at])

            symbols[at] = self.ans.pop(at.stop - at.start, find, latents.bits)
        self.give(f"z.{index}", latents.z(symbols))
        return latents, symbols

    def pop_pixels(self, before: int, after: int) -> None:
        counts = [self.tiles * rows * columns for rows, columns in (self.own(p) for p, _, _ in self.model.phases)]
        rate = max(0, 8 * (after - before) // (self.tiles * 3 * self.size[0] * self.size[1]))
        fills, fill = {}, before
        for index in reversed(range(len(counts))):
            for colour in (2, 1, 0):
                fills[index, colour] = fill
                fill += counts[index] * rate // 16
        for index, count in enumerate(counts):
            self.pop_phase(index, [cut(count, fills[index, colour], rate) for colour in range(3)])

    def pop_phase(self, index: int, cuts: list[list[slice]]) -> None:
        plane, known, neighbours = self.model.phases[index]
        rows, columns = self.own(plane)
        for other in known:
            self.give(".".join(map(str, ("plane", *other))), 2 * self.see(other) - 255)
        raw = self.take(f"pixels.{index}")[:, :, :rows, :columns].transpose(1, 0, 2, 3)
        if not rows or not columns:
            self.see(plane)[:] = self.see((plane[0], 0, 0))
            return
        raw = raw.reshape(len(raw), -1)
        components = self.model.description["components"]
        mean, log_scale, logit = raw[: 9 * components].reshape(3, 3, components, -1)
        c = raw[9 * components :]
        if self.model.description["bounded_colour"]:
            c = self.model.look_up("tanh", c)
        guess = self.guess(known, neighbours, rows, columns)
        residuals: list[Ints] = []
        values = []
        for colour in range(3):
            used = [c[:0], c[:1], c[1:]][colour]
            told = sum((a * b for a, b in zip(used, residuals, strict=True)), np.zeros_like(guess[0]))
            centre = 16 * guess[colour] + (16 * told + 512 >> 10)
            mixture = Mixture(self.model, mean[colour], log_scale[colour], logit[colour], centre)
            x = np.empty(len(centre), np.int64)
            for at in reversed(cuts[colour]):

                def find(q: Ints, at: slice = at, mixture: Mixture = mixture) -> tuple[Ints, Ints, Ints]:
                    return find_symbol(lambda k: mixture.quantiles(k, at), q, np.full(len(q), 256))

                x[at] = self.ans.pop(at.stop - at.start, find, mixture.bits)
            residuals.append(4 * x - guess[colour])
            values.append(x.reshape(self.tiles, rows, columns))
        view = self.see(plane)
        more = [(0, full - own) for full, own in zip(view.shape[2:], (rows, columns), strict=True)]
        view[:] = np.pad(np.stack(values, 1), [(0, 0), (0, 0), *more], mode="edge")

    def guess(self, known: list[Plane], neighbours: list[tuple[int, int, int]], rows: int, columns: int) -> list[Ints]:
        """In quarter levels, (n,) a colour."""
        if not known:
            return [np.full(self.tiles * rows * columns, 510, np.int64)] * 3
        total = np.zeros((self.tiles, 3, rows, columns), np.int64)
        for which, down, right in neighbours:
            plane = self.see(known[which])
            r = np.clip(np.arange(rows) + down, 0, plane.shape[2] - 1)
            c = np.clip(np.arange(columns) + right, 0, plane.shape[3] - 1)
            total += plane[:, :, r][:, :, :, c]
        return list(total.transpose(1, 0, 2, 3).reshape(3, -1))


def decode_file(data: bytes, model: Model) -> NDArray[np.uint8]:
    """*One picture* of kind 1 without metadata."""
    assert data[:4] == b"\xd6\x4e\x01" + bytes([1 | 5 << 3])
    assert data[-4:] == (xxhash.xxh3_64_intdigest(data[:-4]) % 2**32).to_bytes(4, "little")
    assert data[4:8] == bytes.fromhex(model.metadata["identity"])[:4]
    at = 8

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return value

    width, height = varint(), varint()
    plan = [varint() for _ in range(varint())]
    checksum, payload = data[at : at + 8], data[at + 8 : -4]
    tiles = read_tiles(height, width, (7, 5, 3, 1)[plan[0] // 4], plan[0] % 4)
    ans, fill, batches = Ans(payload), 0, []
    for count, before, after in zip(plan[1::3], plan[2::3], plan[3::3], strict=True):
        chosen, tiles = tiles[:count], tiles[count:]
        codes = [(8 + c % 8) * 2 ** (c // 8) - 8 for c in (before, after)]
        batches.append((chosen, codes, fill))
        fill = codes[1]
    assert not tiles
    planes = np.zeros((height, width, 3), np.uint8)
    with exact_inference(torch.device("cpu")):
        for number, (chosen, codes, fill) in reversed(list(enumerate(batches))):
            size = chosen[0][2:]
            decoded = BatchDecoder(model, ans, len(chosen), size, first=number == 0).decode(codes[0], codes[1], fill)
            for (top, left, rows, columns), pixels in zip(chosen, decoded, strict=True):
                planes[top : top + rows, left : left + columns] = pixels.transpose(1, 2, 0)
    assert (ans.state, ans.words) == (0, [])
    picture = np.empty_like(planes)
    picture[:, :, model.description["colour_order"]] = planes
    content = width.to_bytes(4, "little") + height.to_bytes(4, "little") + b"\x05" + picture.tobytes()
    assert xxhash.xxh3_64_intdigest(content).to_bytes(8, "little") == checksum
    return picture


def test_the_page_is_enough_to_decode_a_file() -> None:
    """A picture of several batches, of sides that no stride divides; the decoder itself compares its checksum."""
    picture = golden_picture()[:131, :103]
    if os.environ.get(REFRESH):
        FILE.write_bytes(nvae_codec.compress(picture, model=MODEL, method="model"))
    assert np.array_equal(decode_file(FILE.read_bytes(), Model(MODEL)), picture)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (18, 70)], ids=str)
def test_the_page_is_enough_for_small_pictures(size: tuple[int, int]) -> None:
    """Tiles that lack pixels of some planes are padded as the page says."""
    picture = golden_picture()[: size[0], : size[1]]
    data = nvae_codec.compress(picture, model=MODEL, method="model")
    assert np.array_equal(decode_file(data, Model(MODEL)), picture)


@pytest.mark.parametrize("which", ["phases of one level, elu", "official: batch norm, gates, swish"])
def test_the_page_is_enough_for_other_models(tmp_path: Path, which: str) -> None:
    """Bounded colours, and all pixels in one phase."""
    path = tmp_path / "model.safetensors"
    save_model(frozen_model(which), path, "", {})
    picture = golden_picture()[:21, :150]
    data = nvae_codec.compress(picture, model=path, method="model")
    assert np.array_equal(decode_file(data, Model(path)), picture)
