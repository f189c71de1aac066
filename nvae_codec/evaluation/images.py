"""Every number that ``nvae-codec evaluate`` shows, for one image and for all of them.

Rates are in bits/dim; an image has W * H * 3 dims, a gray one W * H. Keys of the JSON:

    format, model {name, identity}, run, seed, samples, machine
    archive   null, or with --archive {segments, bytes}; then the bits of each image are its share of that file
    shard     null, or with --shard {number, count, whole}: report/files.py
    total     over all images, null where a shard has none
    images[]  an object per image, which also has name, width, height, tiles, batches
    total and each of images[] have:
      dims, file_bits
      bpd_file, bpd_integer_elbo, bpd_importance, bpd_float_elbo (null without a run's weights)
      bpd_plain_elbo    the integer-model ELBO without adaptation; the others are of the network as adapted
      file_over_integer (file over ELBO and adaptation), file_over_float (null likewise)
      bits {cause: bits}    these add up to file_bits exactly; the causes: overhead.py
      groups [{integer_elbo, file, channels, coded, active, stride}]    from the top: KL in bits, of the integer-model
          ELBO and in the file (-log2 of frequencies); number of channels, of those not pruned, and of those with more
          than 0.01 bits per latent (in total: mean over images)
      phases [{integer_elbo, file}]    bits of each phase's pixels
      encode_seconds, decode_seconds
      baselines {name: bits}    files of the same pixels in other formats; null where they were not made
    total also has images (how many), mean_file_over_integer, largest_file_over_integer
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.ledger import Ledger
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES
from nvae_codec.container.extensions import ADAPTATION, find_extension
from nvae_codec.container.header import split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation.elbo import ImageElbo, float_elbo, importance_bound, integer_draws, mean_of
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.evaluation.overhead import CAUSES, Achieved, break_down_file
from nvae_codec.images.raster import RasterImage
from nvae_codec.zoo.library import Models

if TYPE_CHECKING:
    from nvae_codec.container.archive.index import Shard
    from nvae_codec.network.nvae import Nvae

FORMAT = "nvae-codec evaluation 1"
BOUNDS = ("bpd_integer_elbo", "bpd_importance", "bpd_float_elbo", "bpd_plain_elbo")
Row = dict[str, Any]


@dataclass(frozen=True)
class Bounds:
    """What an image should take: its integer-model ELBO by part, and other bounds in bits.

    integer and importance: of the network as adapted. plain: the integer-model ELBO without adaptation.
    """

    integer: ImageElbo
    importance: float
    float_elbo: float | None
    plain: float

    def named(self) -> dict[str, float | None]:
        """All of them in bits, by the keys of their rates in the JSON."""
        return dict(zip(BOUNDS, (self.integer.bits, self.importance, self.float_elbo, self.plain), strict=True))


@dataclass(frozen=True)
class Evaluator:
    """How images are measured. network: the float weights of a run, where there are any."""

    codec: ModelCodec
    network: Nvae | None = None
    samples: int = 4
    seed: int = 0
    effort: int = DEFAULT_EFFORT

    def measure(self, name: str, image: RasterImage) -> tuple[Row, NDArray[np.float32]]:
        """The row of an image, 8-bit RGB or gray, and where its bits went, (H, W) bits per pixel."""
        pixels = image.require_pixels("the model")
        file, encode_seconds, decode_seconds = self._code(image)
        block = find_extension(split_parts(file).header.extensions, ADAPTATION) or b""
        bounds = self.bound(pixels, block)
        ledger, codec = Ledger(details=True), self.codec.adapted(block)
        coded = self.codec.encode_adapted([self.codec.input.take(image)[1]], block, ledger)
        if not file.endswith(coded.payload + file[-FILE_CHECKSUM_BYTES:]):
            raise NvaeCodecError("a second encoding gave another file")
        achieved = break_down_file(file, pixels, codec, ledger, bounds.integer, seed=self.seed, samples=self.samples)
        return self.make_row(name, image, bounds, achieved, encode_seconds, decode_seconds), achieved.heat

    def bound(self, pixels: NDArray[np.uint8], adaptation: bytes) -> Bounds:
        """The bounds of an image, uint8 (H, W, 3), or (H, W) gray, whose file has this adaptation block."""
        draws = integer_draws(pixels, self.codec.adapted(adaptation), seed=self.seed, samples=self.samples)
        plain = mean_of(draws).bits
        if adaptation:
            plain = mean_of(integer_draws(pixels, self.codec, seed=self.seed, samples=self.samples)).bits
        real = None
        if self.network is not None:
            real = float_elbo(pixels, self.network, seed=self.seed, samples=self.samples).bits
        return Bounds(mean_of(draws), importance_bound(draws), real, plain)

    def make_row(
        self,
        name: str,
        image: RasterImage,
        bounds: Bounds,
        achieved: Achieved,
        encode_seconds: float,
        decode_seconds: float,
    ) -> Row:
        """The row of an image whose file, or share of an archive, was broken down."""
        elbo = bounds.integer
        groups = [
            {"integer_elbo": kl, "file": used, "channels": g.channels, "coded": len(g.active), "active": active}
            | {"stride": g.stride}
            for kl, used, active, g in zip(elbo.kl, achieved.kl, achieved.active, self.codec.model.groups, strict=True)
        ]
        phases = [{"integer_elbo": a, "file": b} for a, b in zip(elbo.pixels, achieved.phases, strict=True)]
        return {
            "name": name,
            "width": image.width,
            "height": image.height,
            "tiles": achieved.tiles,
            "batches": achieved.batches,
            **_rates(elbo.dims, sum(achieved.bits.values()), bounds.named(), achieved.bits["adaptation"]),
            "bits": achieved.bits,
            "groups": groups,
            "phases": phases,
            "encode_seconds": encode_seconds,
            "decode_seconds": decode_seconds,
            "baselines": None,
        }

    def _code(self, image: RasterImage) -> tuple[bytes, float, float]:
        """An image's file, and the seconds of making and reading it."""
        start = time.perf_counter()
        file = write_file(image, "model", Models(self.codec), self.effort)
        middle = time.perf_counter()
        restored = read_file(file, Models(self.codec))
        end = time.perf_counter()
        if not np.array_equal(restored.require_pixels("a test"), image.require_pixels("a test")):
            raise NvaeCodecError("the file does not decode to the same image")
        return file, middle - start, end - middle

    def describe(
        self, rows: Sequence[Row], run: str | None, archive: Row | None = None, shard: Shard | None = None
    ) -> dict[str, Any]:
        """The JSON of an evaluation. ``run``: the name of the run whose float weights were measured."""
        return {
            "format": FORMAT,
            "model": {"name": self.codec.name, "identity": self.codec.identity.hex()},
            "run": run,
            "archive": archive,
            "shard": shard and {"number": shard.number, "count": shard.count, "whole": shard.whole.hex()},
            "seed": self.seed,
            "samples": self.samples,
            "machine": describe_machine(),
            "total": sum_rows(rows) if rows else None,
            "images": list(rows),
        }


def _rates(dims: int, file: float, bounds: Mapping[str, float | None], adaptation: float) -> Row:
    """The rates of a file that takes so many bits. ``bounds``: in bits, by their keys in the JSON."""
    file = int(file) if file == int(file) else file
    integer, real = bounds["bpd_integer_elbo"], bounds["bpd_float_elbo"]
    assert integer is not None
    return {
        "dims": dims,
        "file_bits": file,
        "bpd_file": file / dims,
        **{name: None if bits is None else bits / dims for name, bits in bounds.items()},
        "file_over_integer": file / (integer + adaptation),
        "file_over_float": None if real is None else file / real,
    }


def sum_rows(rows: Sequence[Row]) -> Row:
    """All images together: every rate is the sum of bits over the sum of dims."""

    def bits_of(name: str) -> float | None:
        found = [row[name] for row in rows]
        return None if None in found else math.fsum(rate * row["dims"] for rate, row in zip(found, rows, strict=True))

    dims, file = sum(row["dims"] for row in rows), int(sum(row["file_bits"] for row in rows))
    ratios = [row["file_over_integer"] for row in rows]
    adaptation = math.fsum(row["bits"]["adaptation"] for row in rows)
    return {
        "images": len(rows),
        **_rates(dims, file, {name: bits_of(name) for name in BOUNDS}, adaptation),
        "mean_file_over_integer": math.fsum(ratios) / len(rows),
        "largest_file_over_integer": max(ratios),
        "bits": {cause: sum(row["bits"][cause] for row in rows) for cause in CAUSES},
        "groups": [_sum_parts([row["groups"][at] for row in rows]) for at in range(len(rows[0]["groups"]))],
        "phases": [_sum_parts([row["phases"][at] for row in rows]) for at in range(len(rows[0]["phases"]))],
        "encode_seconds": math.fsum(row["encode_seconds"] for row in rows),
        "decode_seconds": math.fsum(row["decode_seconds"] for row in rows),
        "baselines": _sum_baselines(rows),
    }


def _sum_parts(parts: Sequence[Row]) -> Row:
    total = dict(parts[0])
    total |= {key: math.fsum(part[key] for part in parts) for key in ("integer_elbo", "file")}
    if "active" in total:
        total["active"] = math.fsum(part["active"] for part in parts) / len(parts)
    return total


def _sum_baselines(rows: Sequence[Row]) -> dict[str, int] | None:
    if any(row["baselines"] is None for row in rows):
        return None
    return {name: sum(row["baselines"][name] for row in rows) for name in rows[0]["baselines"]}
