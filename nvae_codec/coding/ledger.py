"""A codec that writes the same files and keeps what went through its stack: symbols and widths of every interval.

The walk's own stack is replaced by one that looks at each call, so the normal way pays nothing for being measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Find, Int32, Stack
from nvae_codec.coding.batch import Batch
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.integer.model import IntegerModel
from nvae_codec.schedule.tiles import Canvas, Tile

Float64 = NDArray[np.float64]


@dataclass
class MeasuredBatch:
    """What one batch put on the stack and took from it, in the walk's order.

    popped_symbols and popped_widths: latents under the posterior, from the top group. pushed_widths: the pixels, last
    phase and last colour first, then the latents under the prior, last group first.
    """

    tiles: list[Tile]
    first: bool
    canvas: Canvas
    latent_counts: list[int]
    pixel_counts: list[int]
    coded: int
    popped_symbols: list[Int32] = field(default_factory=list)
    popped_widths: list[Int32] = field(default_factory=list)
    pushed_widths: list[Int32] = field(default_factory=list)

    def symbols(self) -> list[Int32]:
        """The symbols of each group."""
        return _split(self.popped_symbols, self.latent_counts)

    def posterior_bits(self, latent_bits: int) -> list[Float64]:
        """What popping each latent gave back, ideally, in bits: nothing on an empty stack. An array a group."""
        back = [_ideal(width, latent_bits) for width in _split(self.popped_widths, self.latent_counts)]
        return [np.zeros_like(group) for group in back] if self.first else back

    def prior_bits(self, latent_bits: int) -> list[Float64]:
        """The ideal price of each latent under the prior's table, in bits. An array a group."""
        return [_ideal(width, latent_bits) for width in self._pushed()[1]]

    def pixel_bits(self, pixel_bits: int) -> list[Float64]:
        """The ideal price of each coded value under its mixture's table, in bits. An array (coded, n) a phase."""
        return [_ideal(width, pixel_bits) for width in self._pushed()[0]]

    def tile_bits(self, model: IntegerModel) -> Float64:
        """The ideal price of each tile in bits, pixels and latents, less what came back. (tiles,)"""
        prior, back = self.prior_bits(model.latent_bits), self.posterior_bits(model.latent_bits)
        latents = [paid - returned for paid, returned in zip(prior, back, strict=True)]
        colours = [colour for phase in self.pixel_bits(model.pixel_bits) for colour in phase]
        total = np.zeros(len(self.tiles))
        for bits in (*colours, *latents):
            total += bits.reshape(len(self.tiles), -1).sum(1)
        return total

    def _pushed(self) -> tuple[list[Int32], list[Int32]]:
        colours = [count for count in reversed(self.pixel_counts) for _ in range(self.coded)]
        arrays = _split(self.pushed_widths, colours + self.latent_counts[::-1])
        pixels, latents = arrays[: len(colours)], arrays[len(colours) :]
        phases = [np.stack(pixels[at : at + self.coded][::-1]) for at in range(0, len(pixels), self.coded)]
        return phases[::-1], latents[::-1]


def _split(arrays: list[Int32], counts: Sequence[int]) -> list[Int32]:
    whole = np.concatenate([np.zeros(0, np.int32), *arrays])
    assert len(whole) == sum(counts), "the walk and its measurement disagree"
    return np.split(whole, np.cumsum(counts)[:-1])


def _ideal(width: Int32, bits: int) -> Float64:
    """-log2 of the share that an interval has of 2^bits."""
    ideal: Float64 = bits - np.log2(width.astype(np.float64))
    return ideal


class MeasuredStack(Stack):
    """A stack that keeps what it is asked, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[MeasuredBatch] = []

    def push(self, left: Int32, width: Int32, bits: int, turn: NDArray[np.integer] | int = 0) -> None:
        """Push symbols and keep their widths."""
        self.batches[-1].pushed_widths.append(width.astype(np.int32))
        super().push(left, width, bits, turn)

    def pop(self, count: int, find: Find, bits: int, turn: NDArray[np.integer] | int = 0) -> Int32:
        """Pop symbols and keep them with their widths."""
        batch = self.batches[-1]

        def find_and_keep(quantile: Int32) -> tuple[Int32, Int32, Int32]:
            symbol, left, width = find(quantile)
            batch.popped_symbols.append(symbol)
            batch.popped_widths.append(width)
            return symbol, left, width

        return super().pop(count, find_and_keep, bits, turn)


class MeasuredCodec(ModelCodec):
    """``encode_segment`` gives the bytes that the codec gives; then ``stack`` tells what they are made of."""

    def __init__(self, codec: ModelCodec) -> None:
        super().__init__(codec.model, device=codec.device, batch_tiles=codec.batch_tiles)
        self._proved = codec._proved
        self.stack = MeasuredStack()

    def _open_stack(self) -> Stack:
        self.stack = MeasuredStack()
        return self.stack

    def _batch(self, tiles: Sequence[Tile], *, first: bool, dense: bool) -> Batch:
        batch = super()._batch(tiles, first=first, dense=dense)
        self.stack.batches.append(
            MeasuredBatch(list(tiles), first, batch.canvas, batch.latent_counts, batch.pixel_counts, batch.coded)
        )
        return batch

    def image_bits(self, count: int) -> list[float]:
        """The ideal price of each of the ``count`` images of the segment that was just encoded, in bits."""
        total = np.zeros(count)
        for batch in self.stack.batches:
            np.add.at(total, [tile.image for tile in batch.tiles], batch.tile_bits(self.model))
        return [float(bits) for bits in total]

    def repeat(self, measured: MeasuredBatch) -> Batch:
        """The batch again, its canvas full, to be looked at in another way."""
        gray = measured.tiles[0].gray
        return Batch(
            self.model, measured.canvas, first=measured.first, chunk=self.batch_tiles, device=self.device, gray=gray
        )
