"""The stack: constriction's ANS coder for symbols with integer intervals [start, start + frequency) of 2^bits slots.

Popping an interval restores exactly the bits that pushing it took. So latents can be drawn from the posterior while
encoding, and put back while decoding (Townsend et al. 2019, "Practical lossless compression with latent variables using
bits back coding").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, cast

import constriction
import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError

Uniform = constriction.stream.model.Uniform
AnsCoder = constriction.stream.stack.AnsCoder

Int32 = NDArray[np.int32]

LARGEST_SLICE = 16384
SMALLEST_SLICE = 8
"""Slices grow to this many symbols even when few bits are on the stack: otherwise a flat image would be coded symbol by
symbol."""
INITIAL_BITS = 20
"""Bits that a symbol of a slice may take from the stack before it returns any: those of a slot, rounded up."""
COARSE_BITS = 12
"""Residual states of more bits are coded in two parts, the first of them of 12 bits, see :meth:`Stack._push`."""


class Distribution(Protocol):
    """The distribution of ``count`` independent symbols; ``at`` selects some of them.

    All arrays are int32. Intervals are taken modulo 2^bits, and frequencies are 1 to 2^bits; ``bits`` is at most 20.
    """

    @property
    def bits(self) -> int:
        """The precision of the intervals."""
        ...

    @property
    def count(self) -> int:
        """The number of symbols."""
        ...

    def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of symbols."""
        ...

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        """The symbols whose intervals hold slots (0 to 2^bits - 1), with their starts and frequencies."""
        ...


class Observer(Protocol):
    """Sees what goes through a stack, without changing it."""

    def drawn(self, symbols: Int32, frequency: Int32) -> None:
        """Symbols were drawn with the stack's bits."""
        ...

    def pushed(self, frequency: Int32) -> None:
        """Symbols were pushed."""
        ...


class Budget(NamedTuple):
    """A lower bound on the size of the stack while an array is coded. Encoder and decoder compute the same bound.

    bits: before the array. gain: what each symbol adds, in sixteenths of a bit; negative where it takes bits.
    """

    bits: int
    gain: int = 0

    def slices(self, count: int) -> list[slice]:
        """Split an array of ``count`` symbols into slices, in the order of encoding.

        A vectorized push takes up to ``INITIAL_BITS`` per symbol from the stack before it returns them. Near the bottom
        of the stack these initial bits are missing, and the file pays for them. So a slice takes no more bits than the
        bound guarantees. The first slices have one symbol each: an empty stack then pays for one slot, not for eight.
        Initial bits are paid for once, since they stay on the stack for later slices.
        """
        slices, done = [], 0
        while done < count:
            least = min(SMALLEST_SLICE, 1 + done // SMALLEST_SLICE)
            fed = (self.bits + (done * self.gain >> 4)) // INITIAL_BITS
            size = min(count - done, max(least, min(LARGEST_SLICE, fed)))
            slices.append(slice(done, done + size))
            done += size
        return slices


PLENTY = Budget(LARGEST_SLICE * INITIAL_BITS)
"""Enough for the largest slices."""


class Stack:
    """The bits of a segment.

    :meth:`pop` is the inverse of :meth:`push`, and :meth:`put_back` that of :meth:`draw`, each with the same budget.
    """

    def __init__(self, data: bytes = b"") -> None:
        """An empty stack, or that of :meth:`to_bytes`."""
        data = data.rstrip(b"\0")  # zeros beyond the end are what any stack has; the coder refuses a last word of them
        words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
        self._coder = AnsCoder(words) if words.size else AnsCoder()
        self.observer: Observer | None = None

    def to_bytes(self) -> bytes:
        """Everything on the stack: little-endian words of 32 bits, zero bytes at the end left out."""
        return cast(bytes, self._coder.get_compressed().astype("<u4").tobytes()).rstrip(b"\0")

    @property
    def bits(self) -> int:
        """The number of bits on the stack."""
        return cast(int, self._coder.num_valid_bits())

    def is_empty(self) -> bool:
        """Whether the stack is empty, as it is after the last symbol of an undamaged segment."""
        return bool(self._coder.is_empty())

    def push(self, start: Int32, frequency: Int32, bits: int, budget: Budget = PLENTY) -> None:
        """Encode symbols by their intervals of 2^bits. Raises DamagedFileError where a frequency is not positive."""
        for at in budget.slices(len(start)):
            self._push(start[at], frequency[at], bits)
        if self.observer is not None:
            self.observer.pushed(frequency)

    def pop(self, distribution: Distribution, budget: Budget = PLENTY) -> Int32:
        """Decode symbols."""
        return self._pop(distribution, reversed(budget.slices(distribution.count)))

    def draw(self, distribution: Distribution, budget: Budget = PLENTY) -> Int32:
        """While encoding, sample symbols with the bits on the stack: bits back."""
        symbols = self._pop(distribution, budget.slices(distribution.count))
        if self.observer is not None:
            self.observer.drawn(symbols, distribution.interval(symbols)[1])
        return symbols

    def put_back(self, distribution: Distribution, symbols: Int32, budget: Budget = PLENTY) -> None:
        """While decoding, restore the bits that drawing these symbols took. Raises as :meth:`push`."""
        start, frequency = distribution.interval(symbols)
        for at in reversed(budget.slices(len(symbols))):
            self._push(start[at], frequency[at], distribution.bits)

    def _push(self, start: Int32, frequency: Int32, bits: int) -> None:
        """Push a slice, the last symbol deepest.

        Each residual state, the position in its interval, is popped as a uniform number below the frequency. The
        coder's uniform numbers have 24 bits, so the last of n is too likely by a factor of up to n^2 / 2^24, and large
        frequencies would lose by that: they are split. A symbol then loses at most 0.0004 bits, on average.
        """
        slots = (start + self._pop_residual(frequency)) & ((1 << bits) - 1)
        self._coder.encode_reverse(np.ascontiguousarray(slots, np.int32), Uniform(1 << bits))

    def _pop(self, distribution: Distribution, slices: Iterable[slice]) -> Int32:
        """Pop slices, each the inverse of :meth:`_push`."""
        bits, mask = distribution.bits, (1 << distribution.bits) - 1
        symbols = np.empty(distribution.count, np.int32)
        for at in slices:
            slots = self._coder.decode(Uniform(1 << bits), at.stop - at.start)
            symbols[at], start, frequency = distribution.find(slots, at)
            self._push_residual((slots - start) & mask, frequency)
        return symbols

    def _pop_residual(self, frequency: Int32) -> Int32:
        split = Split.of(frequency)
        residual = self._pop_uniform(split.coarse_sizes)
        if split.at.size:
            coarse = residual[split.at]
            residual[split.at] = (coarse << split.fine_bits) + self._pop_uniform(split.fine_sizes(frequency, coarse))
        return residual

    def _push_residual(self, residual: Int32, frequency: Int32) -> None:
        split = Split.of(frequency)
        if split.at.size:
            whole = residual[split.at]
            residual[split.at] = coarse = whole >> split.fine_bits
            self._push_uniform(whole - (coarse << split.fine_bits), split.fine_sizes(frequency, coarse))
        self._push_uniform(residual, split.coarse_sizes)

    def _pop_uniform(self, sizes: Int32) -> Int32:
        some = np.flatnonzero(sizes > 1)  # the coder needs two values
        out = np.zeros(len(sizes), np.int32)
        if some.size:
            out[some] = self._coder.decode(Uniform(), np.ascontiguousarray(sizes[some], np.int32))
        return out

    def _push_uniform(self, values: Int32, sizes: Int32) -> None:
        some = np.flatnonzero(sizes > 1)
        if some.size:
            self._coder.encode_reverse(
                np.ascontiguousarray(values[some], np.int32), Uniform(), np.ascontiguousarray(sizes[some], np.int32)
            )


class Split(NamedTuple):
    """How residual states below frequencies of more than 12 bits are split into a coarse and a fine part.

    at: the indices of those that are split. fine_bits: bits of the fine part of each, so that the coarse part has 12.
    coarse_sizes: the number of coarse parts, of which the last may be smaller; the frequency where there is no split.
    """

    at: NDArray[np.intp]
    fine_bits: Int32
    coarse_sizes: Int32

    @classmethod
    def of(cls, frequency: Int32) -> Split:
        """The split of each residual state, (n,). Raises DamagedFileError where a frequency is not positive."""
        if frequency.size and int(frequency.min()) < 1:
            raise DamagedFileError("damaged: a symbol has no interval")
        at = np.flatnonzero(frequency >> COARSE_BITS)
        some, sizes = frequency[at], frequency
        fine_bits = np.frexp(some.astype(np.float32))[1] - COARSE_BITS  # frexp: the number of bits of an integer
        if at.size:
            sizes = frequency.copy()
            sizes[at] = (some - 1 >> fine_bits) + 1
        return cls(at, fine_bits, sizes)

    def fine_sizes(self, frequency: Int32, coarse: Int32) -> Int32:
        """The number of residual states in each coarse part."""
        sizes: Int32 = np.minimum(frequency[self.at] - (coarse << self.fine_bits), 1 << self.fine_bits)
        return sizes
