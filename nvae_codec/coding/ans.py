"""The stack: constriction's ANS coder as a stack of symbols with integer intervals [left, left + width) of 2^bits.

Popping an interval gives back exactly the bits that pushing it took, so latents can be popped with the posterior while
encoding and pushed back while decoding (Townsend et al. 2019, "bits back with ANS").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import constriction
import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError

Uniform = constriction.stream.model.Uniform
AnsCoder = constriction.stream.stack.AnsCoder

Int32 = NDArray[np.int32]
Find = Callable[[Int32], tuple[Int32, Int32, Int32]]
"""Quantiles (n,) to the symbols whose intervals hold them, with left ends and widths."""

LARGEST_ARRAY = 16384
SMALLEST_ARRAY = 8
"""However little lies on the stack, slices grow to so many symbols: a flat image would else be coded one by one."""
BORROWED_BITS = 20
"""What a symbol of an array borrows: at most its quantile's bits, with room."""
WHOLE_BITS, WIDE = 16, 1 << 14
"""Of tables of more than 2^16, remainders in wide intervals go in two parts, see :meth:`Stack.push`."""
NONE = np.zeros(0, np.intp)


class Stack:
    """Bits of a segment. All arrays are int32 of one length; widths are 1 to 2^bits, bits at most 20."""

    def __init__(self, data: bytes = b"", *, ramp: bool = True) -> None:
        """An empty stack, or that of :meth:`to_bytes`. ``ramp``: see :func:`cut`; files had none before."""
        self.ramp = ramp
        data = data.rstrip(b"\0")  # zeros beyond the end are what any stack has; the coder refuses a last word of them
        words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
        self._coder = AnsCoder(words) if words.size else AnsCoder()

    def to_bytes(self) -> bytes:
        """Everything on the stack: little-endian words of 32 bits, zero bytes at the end left out."""
        return cast(bytes, self._coder.get_compressed().astype("<u4").tobytes()).rstrip(b"\0")

    @property
    def bits(self) -> int:
        """How many bits lie on the stack."""
        return cast(int, self._coder.num_valid_bits())

    def is_empty(self) -> bool:
        """Whether nothing lies on the stack, as after the last symbol of a sound segment."""
        return bool(self._coder.is_empty())

    def cut(self, count: int, fill: int, rate: int = 0) -> list[slice]:
        """An array of symbols in slices: see :func:`cut`."""
        return cut(count, fill, rate, ramp=self.ramp)

    def push(self, left: Int32, width: Int32, bits: int, turn: NDArray[np.integer] | int = 0) -> None:
        """Push symbols by their intervals, the last of the array deepest; the inverse of :meth:`pop`.

        Each remainder, where in its interval a symbol lies, is popped as a uniform number. The coder's uniform numbers
        have 24 bits: of many, the last is too likely by up to their square / 2^24. With more than 16 bits, wide
        intervals would lose by that; their remainders are popped in two parts, each of few.

        Raises DamagedFileError where a width is not positive: only bytes that no encoder wrote lead there.
        """
        rest = self._pop_rest(width, bits)
        quantile = (left + rest - turn) & ((1 << bits) - 1)
        self._coder.encode_reverse(np.ascontiguousarray(quantile, np.int32), Uniform(1 << bits))

    def pop(self, count: int, find: Find, bits: int, turn: NDArray[np.integer] | int = 0) -> Int32:
        """Pop symbols; ``turn`` (0 to 2^bits) is added to the quantiles before ``find``."""
        quantile = (self._coder.decode(Uniform(1 << bits), count) + turn) & ((1 << bits) - 1)
        symbol, left, width = find(quantile.astype(np.int32))
        self._push_rest(quantile - left, width, bits)
        return symbol

    def _pop_rest(self, width: Int32, bits: int) -> Int32:
        """Uniform numbers below the widths of intervals of 2^bits."""
        wide = np.flatnonzero(width >= WIDE) if bits > WHOLE_BITS else NONE
        if not wide.size:
            return self._pop_uniform(width)
        fine_bits = count_fine_bits(bits)
        rest = self._pop_uniform(coarse_sizes(width, wide, fine_bits))
        fine = self._pop_uniform(fine_sizes(rest[wide], width[wide], fine_bits))
        rest[wide] = (rest[wide] << fine_bits) + fine
        return rest

    def _push_rest(self, rest: Int32, width: Int32, bits: int) -> None:
        wide = np.flatnonzero(width >= WIDE) if bits > WHOLE_BITS else NONE
        if not wide.size:
            self._push_uniform(rest, width)
            return
        fine_bits = count_fine_bits(bits)
        coarse = rest[wide] >> fine_bits
        self._push_uniform(rest[wide] - (coarse << fine_bits), fine_sizes(coarse, width[wide], fine_bits))
        rest[wide] = coarse
        self._push_uniform(rest, coarse_sizes(width, wide, fine_bits))

    def _pop_uniform(self, sizes: Int32) -> Int32:
        if sizes.size and int(sizes.min()) < 1:
            raise DamagedFileError("damaged: a symbol has no interval")
        out = np.zeros(len(sizes), np.int32)
        some = np.flatnonzero(sizes > 1)  # Uniform needs two values
        if some.size:
            out[some] = self._coder.decode(Uniform(), np.ascontiguousarray(sizes[some], np.int32))
        return out

    def _push_uniform(self, values: Int32, sizes: Int32) -> None:
        if sizes.size and int(sizes.min()) < 1:
            raise DamagedFileError("damaged: a symbol has no interval")
        some = np.flatnonzero(sizes > 1)
        if some.size:
            self._coder.encode_reverse(
                np.ascontiguousarray(values[some], np.int32), Uniform(), np.ascontiguousarray(sizes[some], np.int32)
            )


def count_fine_bits(bits: int) -> int:
    """Bits of a remainder's second part: those that leave the first 12. Models of 18 bits came first, and have 4."""
    return 4 if bits == 18 else bits - 12


def coarse_sizes(width: Int32, wide: NDArray[np.intp], fine_bits: int) -> Int32:
    """How many coarse parts a wide interval has, the last of which may be smaller; of others their width."""
    sizes = width.copy()
    sizes[wide] = (sizes[wide] - 1 >> fine_bits) + 1
    return sizes


def fine_sizes(coarse: Int32, width: Int32, fine_bits: int) -> Int32:
    """How much of wide intervals lies in a coarse part of each."""
    return np.minimum(width - (coarse << fine_bits), 1 << fine_bits)


def cut(count: int, fill: int, rate: int = 0, *, ramp: bool = True) -> list[slice]:
    """An array of symbols in slices, in the order of pushing.

    A vectorised push borrows up to ``count * bits`` bits from the stack before it gives them back; near an empty stack
    those bits come out of nothing and are paid. So a slice borrows no more than surely lies there: ``fill`` bits before
    the array, and ``rate`` sixteenths of a bit more for every symbol pushed. What a slice borrows beyond is paid
    once: it stays on the stack for those after it. With ``ramp``, the first symbols go one by one: an empty stack then
    pays for one quantile, not for eight.
    """
    slices, done = [], 0
    while done < count:
        least = min(SMALLEST_ARRAY, 1 + done // SMALLEST_ARRAY) if ramp else SMALLEST_ARRAY
        size = min(count - done, max(least, min(LARGEST_ARRAY, (fill + (done * rate >> 4)) // BORROWED_BITS)))
        slices.append(slice(done, done + size))
        done += size
    return slices
