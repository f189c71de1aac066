"""The overhead of a file, broken down by cause: what it takes beyond the integer-model ELBO, so that the causes add up.

Each cause is the difference between two neighbours in a series of totals, each of them measured:

    integer-model ELBO of the whole image, of the network as adapted to it, mean of K draws
      + adaptation          the block that says how the model is adapted: docs/adaptation.md
      + tile_edges          sum of the tiles' own ELBOs less that of the whole: context beyond the tiles' edges is lost
      + start_up            first batch, which gets no bits back for its latents: its cost less its ELBO
      + latent_rounding     other batches: the real-valued cost of the latents that the stack's bits chose, less the
                            ELBO, which is the mean of K other draws on the same grid: its noise has either sign
      + frequency_rounding  -log2(frequency / 2^P) less the real-valued -log2 p of the same symbols
      + stack               bits on the final stack less that ideal: initial bits that are not returned, and rounding
                            to 24 bits in the coder
      + padding             bits of the payload less those of the stack: the last byte, less zero bytes left out
      + header              magic, version, kind, model, size, plan, length of the metadata
      + metadata            the compressed block of metadata
      + checksums           of the content, the file, and the metadata
    = the file

Real-valued totals are rounded to multiples of 2^-20 bit before they are subtracted. A float64 holds those, and their
sums up to a gigabyte of files, without rounding: the causes, added in any order, give the file's bits exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.ledger import BatchCosts, Float64, Ledger
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES
from nvae_codec.container.extensions import ADAPTATION, find_extension
from nvae_codec.container.header import split_parts
from nvae_codec.evaluation.elbo import Costs, ImageElbo, integer_elbo, measure_costs
from nvae_codec.schedule.tiles import Tile

CAUSES = (
    "integer_elbo", "adaptation", "tile_edges", "start_up", "latent_rounding", "frequency_rounding", "stack", "padding",
    "header", "metadata", "checksums",
)  # fmt: skip
"""In the order from the bound to the file."""

ACTIVE_BITS = 0.01
"""A channel is active in an image where its KL exceeds this many bits per latent."""


@dataclass(frozen=True)
class Achieved:
    """Where a file's bits went.

    bits: by cause, multiples of 2^-20. kl: ideal bits of each group's latents under the prior, less those that came
    back for them (none in the first batch). phases: ideal bits of each phase's pixels. active: channels per group.
    heat: (H, W), bits per pixel of pixels and latents.
    """

    bits: dict[str, float]
    kl: list[float]
    phases: list[float]
    active: list[int]
    tiles: int
    batches: int
    heat: NDArray[np.float32]


@dataclass
class ImageCosts:
    """What the coding pass put on the stack for an image.

    bits: the causes up to frequency_rounding, and zeros for those after it. channels: (2, channels) of each group, its
    KL in bits and its number of latents. The rest as in Achieved.
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
        """The ideal cost of all its symbols, in bits."""
        return sum(self.bits.values())

    def achieved(self) -> Achieved:
        """The same once all causes have their bits."""
        active = [int((kl > ACTIVE_BITS * np.maximum(count, 1)).sum()) for kl, count in self.channels]
        return Achieved(self.bits, self.kl.tolist(), self.phases.tolist(), active, self.tiles, self.batches, self.heat)


def break_down_file(
    file: bytes,
    pixels: NDArray[np.uint8],
    codec: ModelCodec,
    ledger: Ledger,
    elbo: ImageElbo,
    *,
    seed: int,
    samples: int,
) -> Achieved:
    """Break down the file of pixels, uint8 (H, W, 3) or (H, W). ``codec``: with the model as adapted.

    ``ledger``: of its coding; ``elbo``: its bound.
    """
    parts = split_parts(file)
    costs = break_down_segment([pixels], codec, ledger, [elbo], seed=seed, samples=samples)[0]
    checksums = 8 + FILE_CHECKSUM_BYTES + (FILE_CHECKSUM_BYTES if parts.metadata else 0)
    metadata = max(0, len(parts.metadata) - FILE_CHECKSUM_BYTES)
    adaptation = find_extension(parts.header.extensions, ADAPTATION) or b""
    costs.bits |= {
        "stack": ledger.stack_bits - costs.ideal,
        "padding": 8.0 * len(parts.payload) - ledger.stack_bits,
        "adaptation": 8.0 * len(adaptation),
        "header": 8.0 * (len(file) - len(parts.payload) - metadata - checksums - len(adaptation)),
        "metadata": 8.0 * metadata,
        "checksums": 8.0 * checksums,
    }
    return costs.achieved()


def break_down_segment(
    images: Sequence[NDArray[np.uint8]],
    codec: ModelCodec,
    ledger: Ledger,
    elbos: Sequence[ImageElbo],
    *,
    seed: int,
    samples: int,
) -> list[ImageCosts]:
    """Break down what ``codec`` put on the stack for a segment, as its ``ledger`` says. elbos: bounds of the images."""
    model = codec.model
    by_image = [
        ImageCosts(
            dict.fromkeys(CAUSES, 0.0) | {"integer_elbo": on_grid(elbo.bits)},
            np.zeros(pixels.shape[:2], np.float32),
            np.zeros(len(model.groups)),
            np.zeros(len(model.phases)),
            [np.zeros((2, group.channels)) for group in model.groups],
        )
        for pixels, elbo in zip(images, elbos, strict=True)
    ]
    for batch in ledger.batches:
        for tile in batch.tiles:
            by_image[tile.image].tiles += 1
    for batch in ledger.batches:
        count = len(batch.tiles)
        real_costs = _real_costs(batch, codec)
        back = [0 * group for group in real_costs.posterior] if batch.first else real_costs.posterior
        real_bits = _by_tile([*real_costs.prior, *real_costs.pixels], count) - _by_tile(back, count)
        values = [_each_tile(phase, count) for phase in batch.value_bits()]
        paid, returned = batch.prior_bits(), batch.returned()
        latents = [_each_tile(price - got, count) for price, got in zip(paid, returned, strict=True)]
        for image in {tile.image for tile in batch.tiles}:
            by_image[image].batches += 1
        for at, tile in enumerate(batch.tiles):
            costs = by_image[tile.image]
            bound = costs.bits["integer_elbo"]
            if costs.tiles > 1:
                crop = images[tile.image][tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
                bound = on_grid(integer_elbo(crop, codec, seed=seed, samples=samples).bits)
                costs.bits["tile_edges"] += bound
            real, kl, phases = on_grid(float(real_bits[at])), _sums(latents, at), _sums(values, at)
            costs.bits["start_up" if batch.first else "latent_rounding"] += real - bound
            costs.bits["frequency_rounding"] += on_grid(float(sum(kl) + sum(phases))) - real
            costs.kl += kl
            costs.phases += phases
            _paint(costs.heat, tile, batch, codec, [x[at] for x in values], [x[at] for x in latents])
        _add_channels(by_image, batch, real_costs, codec)
    for costs in by_image:
        if costs.tiles > 1:
            costs.bits["tile_edges"] -= costs.bits["integer_elbo"]
    return by_image


def _sums(parts: Sequence[Float64], tile: int) -> list[float]:
    return [float(part[tile].sum()) for part in parts]


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


def _add_channels(by_image: Sequence[ImageCosts], batch: BatchCosts, costs: Costs, codec: ModelCodec) -> None:
    for index, group in enumerate(codec.model.groups):
        kept = list(group.active)
        if kept:
            each = (costs.prior[index] - costs.posterior[index]).reshape(len(batch.tiles), len(kept), -1)
            for tile, bits in zip(batch.tiles, each, strict=True):
                total = by_image[tile.image].channels[index]
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
    """Add a tile's bits to the pixels that they are spent on; a latent's are spread evenly over its cell."""
    area = np.zeros(batch.canvas.size)
    for phase, bits in zip(codec.model.phases, values, strict=True):
        plane = area[phase.plane.row :: phase.plane.stride, phase.plane.column :: phase.plane.stride]
        plane += bits.reshape(len(bits), *plane.shape).sum(0)
    rows, columns = batch.canvas.pixels.shape[2:]
    for group, bits in zip(codec.model.groups, latents, strict=True):
        cells = bits.reshape(len(group.active), rows // group.stride, columns // group.stride).sum(0)
        spread = cells.repeat(group.stride, 0).repeat(group.stride, 1) / group.stride**2
        edge = codec.model.padding
        area += spread[edge : edge + tile.height, edge : edge + tile.width]
    heat[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = area
