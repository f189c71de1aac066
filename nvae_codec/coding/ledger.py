"""The cost of coding: every symbol's share of the payload, by image and by cause.

An encoder reports each batch to its :class:`Ledger`; without one nothing is recorded.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.canvas import Canvas
from nvae_codec.schedule.tiles import Tile

Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]


@dataclass
class BatchCosts:
    """What one batch drew and pushed: it observes the stack while the batch is coded.

    coded: number of coded colours. first: whether the stack was empty, so that drawing took no bits.
    latent_bits, pixel_bits: the precision of frequencies. symbols: of each group under the posterior, (n,).
    """

    tiles: list[Tile]
    canvas: Canvas
    coded: int
    first: bool
    latent_bits: int
    pixel_bits: int
    symbols: list[Int32] = field(default_factory=list)
    _posterior: list[Int32] = field(default_factory=list)
    _pushed: list[Int32] = field(default_factory=list)

    def drawn(self, symbols: Int32, frequency: Int32) -> None:
        """Take the latents of the next group."""
        self.symbols.append(symbols)
        self._posterior.append(frequency)

    def pushed(self, frequency: Int32) -> None:
        """Take the next array that is pushed: colours of phases from the last on, then groups from the last on."""
        self._pushed.insert(0, frequency)

    def returned(self) -> list[Float64]:
        """Bits back: those that drawing each group's symbols took, (n,); zero in the first batch."""
        back = [information(frequency, self.latent_bits) for frequency in self._posterior]
        return [np.zeros_like(group) for group in back] if self.first else back

    def prior_bits(self) -> list[Float64]:
        """Bits of each group's symbols under the prior, (n,)."""
        return [information(frequency, self.latent_bits) for frequency in self._pushed[: len(self.symbols)]]

    def value_bits(self) -> list[Float64]:
        """Bits of each phase's values, (C, n) with the colours that are coded."""
        colours = [information(frequency, self.pixel_bits) for frequency in self._pushed[len(self.symbols) :]]
        return [np.stack(colours[at : at + self.coded]) for at in range(0, len(colours), self.coded)]

    def tile_bits(self) -> Float64:
        """Net bits of each tile, (tiles,): pixels and latents less bits back."""
        latents = [paid - returned for paid, returned in zip(self.prior_bits(), self.returned(), strict=True)]
        colours = [colour for phase in self.value_bits() for colour in phase]
        total = np.zeros(len(self.tiles))
        for bits in (*colours, *latents):
            total += bits.reshape(len(self.tiles), -1).sum(1)
        return total


class Ledger:
    """The costs of one segment, filled in by the encoder.

    image_bits: the information of each image's symbols in bits. stack_bits: the size of the final stack.
    batches: the costs of every batch in the order of encoding, only with ``details``, since they take as much memory as
    the images.
    """

    def __init__(self, *, details: bool = False) -> None:
        self.details = details
        self.begin(0)

    def begin(self, images: int) -> None:
        """Start a segment of so many images; an encoder may start again with another plan."""
        self.image_bits = [0.0] * images
        self.stack_bits = 0
        self.batches: list[BatchCosts] = []

    def add(self, costs: BatchCosts) -> None:
        """Take the costs of the next batch."""
        for tile, bits in zip(costs.tiles, costs.tile_bits(), strict=True):
            self.image_bits[tile.image] += float(bits)
        if self.details:
            self.batches.append(costs)


def information(frequency: Int32, bits: int) -> Float64:
    """-log2 of a frequency's share of 2^bits."""
    ideal: Float64 = bits - np.log2(frequency.astype(np.float64))
    return ideal
