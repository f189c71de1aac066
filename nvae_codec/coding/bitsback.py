"""The coding pass: one batch of tiles onto the stack, and off it again. Encoding and decoding mirror each other.

    encode_batch                            decode_batch
    1  draw u_1 ... u_L  from q(z|x)        6  put back u_L ... u_1  with q(z|x)
    2  push x            with p(x|z)        5  pop x                 with p(x|z)
    3  push u_L ... u_1  with p(z)          4  pop u_1 ... u_L       with p(z)

A group with flows applies them to u after step 1, and inverts them before step 6. decode_batch leaves on the stack what
encode_batch found there. Arrays are coded in slices that need no more bits than there are on the stack (ans.Budget);
the batch's record has the stack sizes that the decoder needs for that.
"""

from dataclasses import replace

import numpy as np

from nvae_codec.coding.ans import PLENTY, Budget, Int32, Stack
from nvae_codec.coding.batch import Batch
from nvae_codec.coding.latents import Prior
from nvae_codec.errors import DamagedFileError
from nvae_codec.schedule.record import BatchRecord, shorten

PLAIN_LATENT, DENSE_LATENT, FLOW_LATENT = 36, 72, 84
"""Approximate bits that drawing a latent takes from the stack, in sixteenths: for bins as wide as sigma, a fifth of
that where latents are dense, and an eighth with flows."""


def encode_batch(stack: Stack, batch: Batch, stack_size: int | None) -> BatchRecord:
    """Encode a batch whose canvas is full. ``stack_size``: a lower bound in bits, None for the first batch."""
    latents: list[tuple[Prior, Int32]] = []
    batch.show_image()
    for index, budget in enumerate(posterior_budgets(batch, stack_size)):
        prior = batch.prior(index)
        posterior = batch.posterior(index, prior)
        symbols = posterior.to_prior(stack.draw(posterior, budget))
        batch.set_latents(index, prior.z(symbols))
        latents.append((prior, symbols))

    intervals: list[tuple[Int32, Int32]] = []
    for index in range(len(batch.model.phases)):
        likelihood = batch.likelihood(index)
        intervals += [likelihood.interval(colour, known) for colour, known in enumerate(batch.known_values(index))]
    gained = sum(frequency.size * batch.model.pixel_bits - sum_log2(frequency) for _, frequency in intervals)
    record = BatchRecord.of(batch.tiles, stack.bits, stack.bits + gained)
    for budget in reversed(pixel_budgets(batch, record)):
        stack.push(*intervals.pop(), batch.model.pixel_bits, budget)

    for prior, symbols in reversed(latents):
        stack.push(*prior.interval(symbols), prior.bits, Budget(record.after))
    return replace(record, end_code=shorten(stack.bits)) if batch.dense else record


def decode_batch(stack: Stack, batch: Batch, stack_size: int | None, record: BatchRecord) -> None:
    """Decode a batch onto its canvas. Raises DamagedFileError if the stack does not have the size in its record.

    This check limits a hostile file, whose budgets may make slices of single symbols, to the time of one batch.
    """
    latents: list[tuple[Prior, Int32]] = []
    for index in range(len(batch.model.groups)):
        prior = batch.prior(index)
        symbols = stack.pop(prior, Budget(record.after))
        batch.set_latents(index, prior.z(symbols))
        latents.append((prior, symbols))

    budgets = iter(pixel_budgets(batch, record))
    for index in range(len(batch.model.phases)):
        likelihood = batch.likelihood(index)
        for colour in range(batch.coded):
            likelihood.observe(stack.pop(likelihood.distribution(colour), next(budgets)))
        batch.write_values(index, likelihood.values)
    if shorten(stack.bits) != record.before_code:
        raise DamagedFileError("damaged: its batches do not leave what they found")

    batch.show_image()
    for index, budget in reversed(list(enumerate(posterior_budgets(batch, stack_size)))):
        prior, symbols = latents[index]
        posterior = batch.posterior(index, prior)
        stack.put_back(posterior, posterior.from_prior(symbols), budget)


def posterior_budgets(batch: Batch, stack_size: int | None) -> list[Budget]:
    """The budget of each group's latents under the posterior. Drawing them shrinks the stack.

    Drawing from an empty stack takes no bits (latents.Posterior), so the first batch needs no budget.
    """
    if stack_size is None:
        return [PLENTY] * len(batch.model.groups)
    budgets = []
    for group, count in zip(batch.model.groups, batch.latent_counts, strict=True):
        taken = FLOW_LATENT if group.flow_bounds else DENSE_LATENT if batch.dense else PLAIN_LATENT
        budgets.append(Budget(stack_size, -taken))
        stack_size = max(0, stack_size + (count * -taken >> 4))
    return budgets


def pixel_budgets(batch: Batch, record: BatchRecord) -> list[Budget]:
    """The budget of each colour of each phase, in the order of decoding; encoding pushes them in reverse."""
    stack_size, gain = record.before, record.gain(batch.values)
    budgets = []
    for count in reversed(batch.pixel_counts):
        for _ in range(batch.coded):
            budgets.append(Budget(stack_size, gain))
            stack_size += count * gain >> 4
    return budgets[::-1]


def sum_log2(frequency: Int32) -> int:
    """The sum of log2 of frequencies, each rounded to 1/256 bit.

    The last bits of a logarithm differ from machine to machine and must not reach a file.
    """
    return int(np.rint(np.log2(frequency) * 256).astype(np.int64).sum()) >> 8
