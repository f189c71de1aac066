"""*The stack* and *Intervals*."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Cdf = Callable[[Ints, slice], Ints]
"""F of symbols (n,), which are a slice of an array."""


class Ans:
    """Plain integers."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self.words = [int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)]
        self.state = 0
        for _ in range(min(2, len(self.words))):
            self.state = self.state << 32 | self.words.pop()

    def push_uniform(self, symbol: int, n: int) -> None:
        if n == 1:
            return
        start, p = self.interval(symbol, n)
        if self.state >> 40 >= p:
            self.words.append(self.state & 0xFFFFFFFF)
            self.state >>= 32
        self.state = (self.state // p << 24) | (start + self.state % p)

    def pop_uniform(self, n: int) -> int:
        if n == 1:
            return 0
        q = self.state % 2**24
        symbol = min(q // (2**24 // n), n - 1)
        start, p = self.interval(symbol, n)
        self.state = (self.state >> 24) * p + q - start
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    @staticmethod
    def interval(symbol: int, n: int) -> tuple[int, int]:
        size = 2**24 // n
        return symbol * size, 2**24 - (n - 1) * size if symbol == n - 1 else size

    def push(self, start: Ints, frequency: Ints, bits: int) -> None:
        sizes = [(int(n), grain(int(n))) for n in frequency]
        coarse = [self.pop_uniform(-(-n // g)) for n, g in sizes]
        fine = [self.pop_uniform(min(g, n - g * c)) for (n, g), c in zip(sizes, coarse, strict=True)]
        slots = [int(f) + g * c + d for f, (_, g), c, d in zip(start, sizes, coarse, fine, strict=True)]
        for slot in reversed(slots):
            self.push_uniform(slot % 2**bits, 2**bits)

    def pop(self, cdf: Callable[[Ints], Ints], counts: Ints, bits: int) -> Ints:
        """Symbols, each one of so many."""
        slots = np.array([self.pop_uniform(2**bits) for _ in counts], np.int64)
        symbols = np.zeros_like(slots)
        while (more := (symbols < counts - 1) & (cdf(symbols + 1) <= slots)).any():  # F never falls
            symbols += more
        start = cdf(symbols)
        parts = [(int(r), int(n), grain(int(n))) for r, n in zip(slots - start, cdf(symbols + 1) - start, strict=True)]
        for r, n, g in reversed(parts):
            self.push_uniform(r % g, min(g, n - r // g * g))
        for r, n, g in reversed(parts):
            self.push_uniform(r // g, -(-n // g))
        return symbols

    def pop_array(self, cdf: Cdf, counts: Ints, bits: int, size: int, gain: int) -> Ints:
        """An array in slices, the last one first."""
        symbols = np.empty(len(counts), np.int64)
        for at in reversed(slices(len(counts), size, gain)):
            symbols[at] = self.pop(lambda k, at=at: cdf(k, at), counts[at], bits)  # type: ignore[misc]
        return symbols


def grain(frequency: int) -> int:
    return 1 << max(0, frequency.bit_length() - 12)


def slices(count: int, size: int, gain: int) -> list[slice]:
    """``size``: of the stack in bits, ``gain`` in sixteenths of a bit."""
    found, done = [], 0
    while done < count:
        n = max(min(8, 1 + done // 8), min(16384, (size + done * gain // 16) // 20))
        found.append(slice(done, min(count, done + n)))
        done += n
    return found
