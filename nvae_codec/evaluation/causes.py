"""A file's bits by cause: the exact ELBO and everything that the file has beyond it, so that all parts add up.

Each part is the difference of two neighbours in a row of totals, from the exact ELBO to the file, each measured:

    exact ELBO of the whole picture, mean of K draws
      + tile_edges          the same of each tile alone, summed: what the network does not see beyond a tile's edge
      + start_up            first batch: its own latents on the coarse grid, nothing back for them, over its bound
      + latent_rounding     other batches: real-valued cost of the grid points that the stack's bits chose, over their
                            bound (the mean of K other draws on the same grid: this part has their noise, either sign)
      + frequency_rounding  whole-number widths: -log2(width / 2^P) over the real-valued -log2 of the same symbols
      + stack               bits on the final stack over those ideal bits: borrowed and not returned, and 24-bit
                            rounding of widths in the coder
      + padding             the payload's bytes over the stack's bits: the last byte, less zero bytes left out
      + header              magic, version, kind, model, size, plan, length of the metadata
      + metadata            the compressed block of what the picture's file held beside its pixels
      + checksums           of the content, the file, and the metadata
    = the file

Real-valued totals are rounded to multiples of 2^-20 bit before they are subtracted. A float64 holds those, and their
sums up to a gigabyte of files, without rounding: so the parts, added in any order, give the file's bits exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.measured import Float64, MeasuredBatch, MeasuredCodec
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES
from nvae_codec.container.header import split_parts
from nvae_codec.evaluation.elbo import Costs, PictureElbo, exact_elbo, measure_costs
from nvae_codec.exact.inference import exact_inference

CAUSES = (
    "exact_elbo", "tile_edges", "start_up", "latent_rounding", "frequency_rounding", "stack", "padding", "header",
    "metadata", "checksums",
)  # fmt: skip
"""The parts in the order from the bound to the file."""

ACTIVE_BITS = 0.01
"""A channel is active in a picture where its KL is more than so many bits a latent."""


@dataclass(frozen=True)
class Achieved:
    """Where a file's bits went.

    bits: by cause, multiples of 2^-20. kl: by group, price of the latents under the prior less what came back for them
    (nothing in the first batch), ideal. phases: pixels by phase, ideal. active: channels by group. heat: (H, W) bits a
    pixel, pixels and latents.
    """

    bits: dict[str, float]
    kl: list[float]
    phases: list[float]
    active: list[int]
    tiles: int
    batches: int
    heat: NDArray[np.float32]


def split_file(
    file: bytes, pixels: NDArray[np.uint8], codec: MeasuredCodec, exact: PictureElbo, *, seed: int, samples: int
) -> Achieved:
    """Split a file that ``codec`` has just made of the pixels, uint8 (H, W, 3). ``exact``: its bound, same seed."""
    parts = split_parts(file)
    batches, model = codec.stack.batches, codec.model
    tiles = [tile for batch in batches for tile in batch.tiles]
    bound, real = [0.0, 0.0], [0.0, 0.0]  # of the first batch, of the others
    ideal = 0.0
    kl, phases = np.zeros(len(model.groups)), np.zeros(len(model.phases))
    channels = [np.zeros((2, group.channels)) for group in model.groups]  # KL, latents
    heat = np.zeros(pixels.shape[:2], np.float32)
    for batch in batches:
        later = int(not batch.first)
        for tile in batch.tiles:
            crop = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            bound[later] += exact.bits if len(tiles) == 1 else _bound(crop, codec, seed, samples)
        costs = _real_costs(batch, codec)
        back = sum(float(group.sum()) for group in costs.posterior) if later else 0.0
        real[later] += sum(float(part.sum()) for part in (*costs.prior, *costs.pixels)) - back
        _add_channels(channels, costs, codec, len(batch.tiles))
        values = batch.pixel_bits(model.pixel_bits)
        latents = [
            price - returned
            for price, returned in zip(
                batch.prior_bits(model.latent_bits), batch.posterior_bits(model.latent_bits), strict=True
            )
        ]
        kl += [float(group.sum()) for group in latents]
        phases += [float(phase.sum()) for phase in values]
        ideal += sum(float(part.sum()) for part in (*values, *latents))
        _paint(heat, batch, codec, values, latents)
    checksums = 8 + FILE_CHECKSUM_BYTES + (FILE_CHECKSUM_BYTES if parts.metadata else 0)
    metadata = max(0, len(parts.metadata) - FILE_CHECKSUM_BYTES)
    edges = [_on_grid(value) for value in bound]
    own = [_on_grid(value) for value in real]
    bits = {
        "exact_elbo": _on_grid(exact.bits),
        "tile_edges": sum(edges) - _on_grid(exact.bits),
        "start_up": own[0] - edges[0],
        "latent_rounding": own[1] - edges[1],
        "frequency_rounding": _on_grid(ideal) - sum(own),
        "stack": codec.stack.bits - _on_grid(ideal),
        "padding": 8.0 * len(parts.payload) - codec.stack.bits,
        "header": 8.0 * (len(file) - len(parts.payload) - metadata - checksums),
        "metadata": 8.0 * metadata,
        "checksums": 8.0 * checksums,
    }
    active = [int((kl > ACTIVE_BITS * np.maximum(count, 1)).sum()) for kl, count in channels]
    return Achieved(bits, kl.tolist(), phases.tolist(), active, len(tiles), len(batches), heat)


def _on_grid(bits: float) -> float:
    return round(bits * 2**20) / 2**20


def _bound(crop: NDArray[np.uint8], codec: MeasuredCodec, seed: int, samples: int) -> float:
    return exact_elbo(crop, codec, seed=seed, samples=samples).bits


def _real_costs(batch: MeasuredBatch, codec: MeasuredCodec) -> Costs:
    """The real-valued costs of the symbols that the file has."""
    symbols = batch.symbols()
    with exact_inference(codec.device):
        return measure_costs(codec.repeat(batch), lambda index, _: symbols[index])


def _add_channels(channels: list[Float64], costs: Costs, codec: MeasuredCodec, tiles: int) -> None:
    for total, group, prior, posterior in zip(channels, codec.model.groups, costs.prior, costs.posterior, strict=True):
        kept = list(group.kept)
        if kept:
            each = (prior - posterior).reshape(tiles, len(kept), -1)
            total[0, kept] += each.sum((0, 2))
            total[1, kept] += each.shape[0] * each.shape[2]


def _paint(
    heat: NDArray[np.float32], batch: MeasuredBatch, codec: MeasuredCodec, values: list[Float64], latents: list[Float64]
) -> None:
    """Add a batch's bits at the pixels that they are for; a latent's spread evenly over its cell."""
    count, (height, width) = len(batch.tiles), batch.canvas.size
    area = np.zeros((count, height, width))
    for phase, bits in zip(codec.model.phases, values, strict=True):
        plane = area[:, phase.plane.row :: phase.plane.stride, phase.plane.column :: phase.plane.stride]
        plane += bits.sum(0).reshape(plane.shape)
    rows, columns = batch.canvas.pixels.shape[2:]
    for group, bits in zip(codec.model.groups, latents, strict=True):
        cells = bits.reshape(count, len(group.kept), rows // group.stride, columns // group.stride).sum(1)
        spread = cells.repeat(group.stride, 1).repeat(group.stride, 2) / group.stride**2
        area += spread[:, :height, :width]
    for tile, part in zip(batch.tiles, area, strict=True):
        heat[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = part
