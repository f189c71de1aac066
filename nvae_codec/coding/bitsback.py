"""The walk: one batch of tiles onto the stack, and off it again. Encoding and decoding mirror each other.

    push_batch                              pop_batch
    1  pop  u_1 ... u_L  with q(z|x)        6  push u_L ... u_1  with q(z|x)
    2  push x            with p(x|z)        5  pop  x            with p(x|z)
    3  push u_L ... u_1  with p(z)          4  pop  u_1 ... u_L  with p(z)

A group with flows takes each u through them behind 1, and back before 6.

What pop_batch leaves on the stack is what push_batch found there. Arrays are cut so that they borrow no more than lies
on the stack (stack.cut); what the decoder must know for that stands in the batch's record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from nvae_codec.coding.ans import Int32, Stack
from nvae_codec.coding.batch import Batch
from nvae_codec.coding.latents import GroupLatents
from nvae_codec.coding.ledger import BatchCosts
from nvae_codec.errors import DamagedFileError
from nvae_codec.schedule.record import BatchRecord, shorten

Pushed = tuple[GroupLatents, Int32]

BITS_OF_LATENT, BITS_OF_DENSE, BITS_OF_FLOWN = 36, 72, 84
"""What popping a latent takes from the stack, about, in sixteenths of a bit: a bin as wide as sigma, a fifth of that
where latents are dense, and with flows an eighth."""


def push_batch(stack: Stack, batch: Batch, start: int | None, costs: BatchCosts | None = None) -> BatchRecord:
    """Encode a batch whose canvas is full, and report what it costs.

    ``start``: bits that surely lie on the stack, None for the first batch.
    """
    model = batch.model
    batch.show_image()
    groups: list[Pushed] = []
    for index, slices in enumerate(posterior_cuts(stack, batch, start)):
        latents = batch.prior(index)
        batch.add_posterior(index, latents)
        symbols, turns = np.empty(latents.count, np.int32), latents.turns()
        for at in slices:
            find = partial(latents.find, at=at, posterior=True)
            symbols[at] = stack.pop(at.stop - at.start, find, model.latent_bits, turns[at])
        if costs is not None:
            costs.symbols.append(symbols)
            costs.posterior.append(latents.interval(symbols, posterior=True)[1])
        symbols = latents.flow(symbols)
        batch.set_latents(index, latents, symbols)
        groups.append((latents, symbols))

    intervals: dict[tuple[int, int], tuple[Int32, Int32]] = {}
    for index in range(len(model.phases)):
        likelihood = batch.likelihood(index)
        for colour, values in enumerate(batch.known_values(index)):
            intervals[index, colour] = likelihood.interval(colour, values)
    gained = sum(width.size * model.pixel_bits - sum_log2(width) for _, width in intervals.values())
    if costs is not None:
        coded = range(batch.coded)
        costs.pixels += [np.stack([intervals[index, c][1] for c in coded]) for index in range(len(model.phases))]
    record = BatchRecord.of(batch.tiles, stack.bits, stack.bits + gained)
    for index, colour, slices in pixel_cuts(stack, batch, record):
        left, width = intervals.pop((index, colour))
        for at in slices:
            stack.push(left[at], width[at], model.pixel_bits)

    for latents, symbols in reversed(groups):
        left, width = latents.interval(symbols, posterior=False)
        if costs is not None:
            costs.prior.insert(0, width)
        for at in stack.cut(latents.count, record.after):
            stack.push(left[at], width[at], model.latent_bits)
    return replace(record, end_code=shorten(stack.bits)) if batch.dense else record


def pop_batch(stack: Stack, batch: Batch, start: int | None, record: BatchRecord) -> None:
    """Decode a batch onto its canvas. Raises DamagedFileError where its record is not of what lies on the stack.

    So a file made to harm, whose fills cut arrays into crumbs, costs a batch and not an image.
    """
    model = batch.model
    groups: list[Pushed] = []
    for index in range(len(model.groups)):
        latents = batch.prior(index)
        symbols = np.empty(latents.count, np.int32)
        for at in reversed(stack.cut(latents.count, record.after)):
            find = partial(latents.find, at=at, posterior=False)
            symbols[at] = stack.pop(at.stop - at.start, find, model.latent_bits)
        batch.set_latents(index, latents, symbols)
        groups.append((latents, symbols))

    for index, colour, slices in reversed(list(pixel_cuts(stack, batch, record))):
        if colour == 0:
            likelihood = batch.likelihood(index)
        distribution = likelihood.distribution(colour)
        values = np.empty(likelihood.count, np.int32)
        for at in reversed(slices):
            values[at] = stack.pop(at.stop - at.start, partial(distribution.find, at=at), model.pixel_bits)
        likelihood.observe(colour, values)
        if colour == batch.coded - 1:
            batch.write_values(index, likelihood.values)
    if shorten(stack.bits) != record.before_code:
        raise DamagedFileError("damaged: its batches do not leave what they found")

    batch.show_image()
    for index, slices in reversed(list(enumerate(posterior_cuts(stack, batch, start)))):
        latents, symbols = groups[index]
        batch.add_posterior(index, latents)
        left, width = latents.interval(latents.unflow(symbols), posterior=True)
        turns = latents.turns()
        for at in reversed(slices):
            stack.push(left[at], width[at], model.latent_bits, turns[at])


def sum_log2(width: Int32) -> int:
    """Bits of all widths together; each in whole 256ths: no machine's last bit of a logarithm reaches a file."""
    return int(np.rint(np.log2(width) * 256).astype(np.int64).sum()) >> 8


def posterior_cuts(stack: Stack, batch: Batch, start: int | None) -> Iterator[list[slice]]:
    """Slices of each group's latents under the posterior, which empties the stack as it goes.

    From an empty stack all at once: there, popping takes nothing (see GroupLatents.turns).
    """
    for group, count in zip(batch.model.groups, batch.latent_counts, strict=True):
        if start is None:
            yield [slice(0, count)]
        else:
            bits = BITS_OF_FLOWN if group.flow_bounds else BITS_OF_DENSE if batch.dense else BITS_OF_LATENT
            yield stack.cut(count, start, -bits)
            start = max(0, start - (count * bits >> 4))


def pixel_cuts(stack: Stack, batch: Batch, record: BatchRecord) -> Iterator[tuple[int, int, list[slice]]]:
    """(phase, colour, slices) in the order of pushing: the last phase and colour first."""
    fill, rate = record.before, record.rate(batch.values)
    for index, count in reversed(list(enumerate(batch.pixel_counts))):
        for colour in reversed(range(batch.coded)):
            yield index, colour, stack.cut(count, fill, rate)
            fill += count * rate >> 4
