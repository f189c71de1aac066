"""A file's bits by cause: the integer-model ELBO and everything that the file has beyond it, so that all parts add up.

Each part is the difference of two neighbours in a row of totals, from the integer ELBO to the file, each measured:

    integer-model ELBO of the whole image, mean of K draws
      + tile_edges          the same of each tile alone, summed: what the network does not see beyond a tile's edge
      + start_up            first batch: its own latents on the coarse grid, nothing back for them, over its bound
      + latent_rounding     other batches: real-valued cost of the grid points that the stack's bits chose, over their
                            bound (the mean of K other draws on the same grid: this part has their noise, either sign)
      + frequency_rounding  whole-number widths: -log2(width / 2^P) over the real-valued -log2 of the same symbols
      + stack               bits on the final stack over those ideal bits: borrowed and not returned, and 24-bit
                            rounding of widths in the coder
      + padding             the payload's bytes over the stack's bits: the last byte, less zero bytes left out
      + header              magic, version, kind, model, size, plan, length of the metadata
      + metadata            the compressed block of what the image's file held beside its pixels
      + checksums           of the content, the file, and the metadata
    = the file

Real-valued totals are rounded to multiples of 2^-20 bit before they are subtracted. A float64 holds those, and their
sums up to a gigabyte of files, without rounding: so the parts, added in any order, give the file's bits exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.ledger import BatchCosts, Float64, Ledger
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES
from nvae_codec.container.header import split_parts
from nvae_codec.evaluation.elbo import Costs, ImageElbo, integer_elbo, measure_costs
from nvae_codec.schedule.tiles import Tile

CAUSES = (
    "integer_elbo", "tile_edges", "start_up", "latent_rounding", "frequency_rounding", "stack", "padding", "header",
    "metadata", "checksums",
)  # fmt: skip
"""The parts in the order from the bound to the file."""

ACTIVE_BITS = 0.01
"""A channel is active in an image where its KL is more than so many bits a latent."""


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


@dataclass
class Walked:
    """What coding an image put on the stack. bits: the causes up to frequency_rounding, and those after it as 0.

    The rest as in Achieved, with (2, channels) of each group: KL and latents.
    """

    bits: dict[str, float]
    heat: NDArray[np.float32]
    kl: Float64
    phases: Float64
    channels: list[Float64]
    tiles: int = 0
    batches: int = 0

    @property
    def ideal(self) -> float:
        """The ideal price of all its symbols, in bits."""
        return sum(self.bits.values())

    def achieved(self) -> Achieved:
        """The same once all causes have their bits."""
        active = [int((kl > ACTIVE_BITS * np.maximum(count, 1)).sum()) for kl, count in self.channels]
        return Achieved(self.bits, self.kl.tolist(), self.phases.tolist(), active, self.tiles, self.batches, self.heat)


def split_file(
    file: bytes,
    pixels: NDArray[np.uint8],
    codec: ModelCodec,
    ledger: Ledger,
    exact: ImageElbo,
    *,
    seed: int,
    samples: int,
) -> Achieved:
    """Split a file of pixels, uint8 (H, W, 3) or (H, W), with the ``ledger`` of its coding; ``exact`` is its bound."""
    parts = split_parts(file)
    walked = split_walks([pixels], codec, ledger, [exact], seed=seed, samples=samples)[0]
    checksums = 8 + FILE_CHECKSUM_BYTES + (FILE_CHECKSUM_BYTES if parts.metadata else 0)
    metadata = max(0, len(parts.metadata) - FILE_CHECKSUM_BYTES)
    walked.bits |= {
        "stack": ledger.stack_bits - walked.ideal,
        "padding": 8.0 * len(parts.payload) - ledger.stack_bits,
        "header": 8.0 * (len(file) - len(parts.payload) - metadata - checksums),
        "metadata": 8.0 * metadata,
        "checksums": 8.0 * checksums,
    }
    return walked.achieved()


def split_walks(
    images: Sequence[NDArray[np.uint8]],
    codec: ModelCodec,
    ledger: Ledger,
    exact: Sequence[ImageElbo],
    *,
    seed: int,
    samples: int,
) -> list[Walked]:
    """Split what ``codec`` put on the stack for the images of a segment, as its ``ledger`` says; ``exact``: bounds."""
    model = codec.model
    walks = [
        Walked(
            dict.fromkeys(CAUSES, 0.0) | {"integer_elbo": on_grid(bound.bits)},
            np.zeros(pixels.shape[:2], np.float32),
            np.zeros(len(model.groups)),
            np.zeros(len(model.phases)),
            [np.zeros((2, group.channels)) for group in model.groups],
        )
        for pixels, bound in zip(images, exact, strict=True)
    ]
    for batch in ledger.batches:
        for tile in batch.tiles:
            walks[tile.image].tiles += 1
    for batch in ledger.batches:
        count = len(batch.tiles)
        costs = _real_costs(batch, codec)
        back = [0 * group for group in costs.posterior] if batch.first else costs.posterior
        own = _by_tile([*costs.prior, *costs.pixels], count) - _by_tile(back, count)
        values = [_each_tile(phase, count) for phase in batch.value_bits()]
        paid, returned = batch.prior_bits(), batch.returned()
        latents = [_each_tile(price - got, count) for price, got in zip(paid, returned, strict=True)]
        for image in {tile.image for tile in batch.tiles}:
            walks[image].batches += 1
        for at, tile in enumerate(batch.tiles):
            walk = walks[tile.image]
            bound = walk.bits["integer_elbo"]
            if walk.tiles > 1:
                crop = images[tile.image][tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
                bound = on_grid(integer_elbo(crop, codec, seed=seed, samples=samples).bits)
                walk.bits["tile_edges"] += bound
            real, kl, phases = on_grid(float(own[at])), [x[at].sum() for x in latents], [x[at].sum() for x in values]
            walk.bits["start_up" if batch.first else "latent_rounding"] += real - bound
            walk.bits["frequency_rounding"] += on_grid(float(sum(kl) + sum(phases))) - real
            walk.kl += kl
            walk.phases += phases
            _paint(walk.heat, tile, batch, codec, [x[at] for x in values], [x[at] for x in latents])
        _add_channels(walks, batch, costs, codec)
    for walk in walks:
        if walk.tiles > 1:
            walk.bits["tile_edges"] -= walk.bits["integer_elbo"]
    return walks


def on_grid(bits: float) -> float:
    """The nearest multiple of 2^-20."""
    return round(bits * 2**20) / 2**20


def _each_tile(bits: Float64, count: int) -> Float64:
    """Bits (C, n) or (n,) with the tiles first: (count, C or 1, values of a tile)."""
    rows = len(bits) if bits.ndim == 2 else 1
    return bits.reshape(rows, count, bits.shape[-1] // count).swapaxes(0, 1)


def _by_tile(parts: Sequence[Float64], count: int) -> Float64:
    """The sums of each tile over all parts, (count,)."""
    total: Float64 = np.sum([_each_tile(part, count).sum((1, 2)) for part in parts], axis=0)
    return total


def _real_costs(batch: BatchCosts, codec: ModelCodec) -> Costs:
    """The real-valued costs of the symbols that the file has."""
    with codec.ready():
        return measure_costs(codec.repeat(batch), lambda index, _: batch.symbols[index])


def _add_channels(walks: Sequence[Walked], batch: BatchCosts, costs: Costs, codec: ModelCodec) -> None:
    for index, group in enumerate(codec.model.groups):
        kept = list(group.kept)
        if kept:
            each = (costs.prior[index] - costs.posterior[index]).reshape(len(batch.tiles), len(kept), -1)
            for tile, bits in zip(batch.tiles, each, strict=True):
                total = walks[tile.image].channels[index]
                total[0, kept] += bits.sum(1)
                total[1, kept] += bits.shape[1]


def _paint(
    heat: NDArray[np.float32],
    tile: Tile,
    batch: BatchCosts,
    codec: ModelCodec,
    values: list[Float64],
    latents: list[Float64],
) -> None:
    """Add a tile's bits at the pixels that they are for; a latent's spread evenly over its cell."""
    area = np.zeros(batch.canvas.size)
    for phase, bits in zip(codec.model.phases, values, strict=True):
        plane = area[phase.plane.row :: phase.plane.stride, phase.plane.column :: phase.plane.stride]
        plane += bits.reshape(len(bits), *plane.shape).sum(0)
    rows, columns = batch.canvas.pixels.shape[2:]
    for group, bits in zip(codec.model.groups, latents, strict=True):
        cells = bits.reshape(len(group.kept), rows // group.stride, columns // group.stride).sum(0)
        spread = cells.repeat(group.stride, 0).repeat(group.stride, 1) / group.stride**2
        edge = codec.model.padding
        area += spread[edge : edge + tile.height, edge : edge + tile.width]
    heat[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = area
