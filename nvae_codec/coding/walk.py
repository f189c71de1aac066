"""The walk: one batch of tiles onto the stack, and off it again. Encoding and decoding mirror each other.

    push_batch                              pop_batch
    1  pop  u_1 ... u_L  with q(z|x)        6  push u_L ... u_1  with q(z|x)
    2  push x            with p(x|z)        5  pop  x            with p(x|z)
    3  push u_L ... u_1  with p(z)          4  pop  u_1 ... u_L  with p(z)

What pop_batch leaves on the stack is what push_batch found there. Arrays are cut so that they borrow no more than lies
on the stack (stack.cut); what the decoder must know for that stands in the batch's record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from nvae_codec.coding.batch import Batch
from nvae_codec.coding.latents import GroupLatents
from nvae_codec.coding.stack import Int32, Stack, cut
from nvae_codec.coding.tiles import plane_size


@dataclass(frozen=True)
class BatchRecord:
    """What a file says of a batch: its tiles, the bits that lay below its pixels (a short float), and how fast its
    pixels fill the stack (sixteenths of a bit a value)."""

    tiles: int
    fill_code: int
    rate: int

    @property
    def fill(self) -> int:
        """Bits that surely lie on the stack before the batch's pixels are pushed."""
        return short_float(self.fill_code)

    def end(self, values: int) -> int:
        """Bits that surely lie there after the batch of so many pixel values."""
        return self.fill + (values * self.rate >> 4)


def short_float(code: int) -> int:
    """Eight values an octave, from 0: (8 + code % 8) * 2^(code / 8) - 8."""
    return ((8 + code % 8) << code // 8) - 8


def shorten(value: int) -> int:
    """The largest code whose short float is at most a value."""
    code = 0
    while short_float(code + 1) <= value:
        code += 1
    return code


def push_batch(stack: Stack, batch: Batch, start: int | None) -> BatchRecord:
    """Encode a batch whose canvas is full. ``start``: bits that surely lie on the stack, None for the first batch."""
    model = batch.model
    batch.show_image()
    groups: list[tuple[GroupLatents, Int32]] = []
    for index in range(len(model.groups)):
        latents = batch.prior(index)
        batch.add_posterior(index, latents)
        symbols = np.empty(latents.count, np.int32)
        for at in posterior_cut(latents, start):
            symbols[at] = stack.pop(
                at.stop - at.start, partial(latents.find, at=at, posterior=True),
                model.latent_bits, latents.turn(at),
            )  # fmt: skip
        batch.set_latents(index, latents, symbols)
        groups.append((latents, symbols))

    intervals: dict[tuple[int, int], tuple[Int32, Int32]] = {}
    for index, phase in enumerate(model.phases):
        likelihood = batch.likelihood(index)
        pixels = batch.canvas.known(phase.plane)
        for colour in range(3):
            values = np.ascontiguousarray(pixels[:, colour]).ravel()
            intervals[index, colour] = likelihood.interval(colour, values)
    record = BatchRecord(batch.tiles, shorten(stack.bits), half_rate(intervals, model.pixel_bits))
    for index, colour, slices in pixel_order(batch, record):
        left, width = intervals.pop((index, colour))
        for at in slices:
            stack.push(left[at], width[at], model.pixel_bits)

    for latents, symbols in reversed(groups):
        for at in cut(latents.count, record.end(batch.values)):
            stack.push(*latents.interval(symbols[at], at, posterior=False), model.latent_bits)
    return record


def pop_batch(stack: Stack, batch: Batch, start: int | None, record: BatchRecord) -> None:
    """Decode a batch onto its canvas."""
    model = batch.model
    groups: list[tuple[GroupLatents, Int32]] = []
    for index in range(len(model.groups)):
        latents = batch.prior(index)
        symbols = np.empty(latents.count, np.int32)
        for at in reversed(cut(latents.count, record.end(batch.values))):
            symbols[at] = stack.pop(
                at.stop - at.start, partial(latents.find, at=at, posterior=False),
                model.latent_bits,
            )  # fmt: skip
        batch.set_latents(index, latents, symbols)
        groups.append((latents, symbols))

    likelihood = None
    for index, colour, slices in reversed(list(pixel_order(batch, record))):
        plane = model.phases[index].plane
        if colour == 0:
            likelihood = batch.likelihood(index)
            planes = np.empty((likelihood.tiles, 3, likelihood.rows, likelihood.columns), np.int32)
        assert likelihood is not None
        mixture = likelihood.mixture(colour)
        values = np.empty(likelihood.count, np.int32)
        for at in reversed(slices):
            values[at] = stack.pop(at.stop - at.start, partial(mixture.find, at=at), model.pixel_bits)
        likelihood.observe(colour, values)
        planes[:, colour] = values.reshape(planes[:, colour].shape)
        if colour == 2:
            batch.canvas.write(plane, planes)

    batch.show_image()
    for index, (latents, symbols) in reversed(list(enumerate(groups))):
        batch.add_posterior(index, latents)
        for at in reversed(posterior_cut(latents, start)):
            left, width = latents.interval(symbols[at], at, posterior=True)
            stack.push(left, width, model.latent_bits, latents.turn(at))


def half_rate(intervals: dict[tuple[int, int], tuple[Int32, Int32]], bits: int) -> int:
    """Half the bits that a pixel value adds to the stack, in sixteenths: those of the thriftiest beginning of the
    pushing, but at least half of the mean."""
    arrays = [width for _, (_, width) in sorted(intervals.items(), reverse=True) if width.size]
    pushed = np.cumsum([width.size * bits - np.log2(width).sum() for width in arrays])
    means = pushed / np.cumsum([width.size for width in arrays])
    return min(255, int(8 * max(means.min(), means[-1] / 2)))


def posterior_cut(latents: GroupLatents, start: int | None) -> list[slice]:
    """Slices of a group's latents under the posterior; from an empty stack all at once (latents.turn)."""
    return [slice(0, latents.count)] if start is None else cut(latents.count, start // 2)


def pixel_order(batch: Batch, record: BatchRecord) -> Iterator[tuple[int, int, list[slice]]]:
    """(phase, colour, slices) in the order of pushing: the last phase and colour first."""
    fill = record.fill
    for index, phase in reversed(list(enumerate(batch.model.phases))):
        rows, columns = plane_size(batch.canvas.size, phase.plane)
        count = batch.tiles * max(rows, 0) * max(columns, 0)
        for colour in (2, 1, 0):
            yield index, colour, cut(count, fill, record.rate)
            fill += count * record.rate >> 4
