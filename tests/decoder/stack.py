"""*The stack* and *Intervals*."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Find = Callable[[Ints], tuple[Ints, Ints, Ints]]


class Ans:
    """Plain integers."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self.words = [int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)]
        self.state = 0
        for _ in range(min(2, len(self.words))):
            self.state = self.state << 32 | self.words.pop()

    def push_uniform(self, symbol: int, n: int) -> None:
        left, p = self.slot(symbol, n)
        if self.state >> 40 >= p:
            self.words.append(self.state & 0xFFFFFFFF)
            self.state >>= 32
        self.state = (self.state // p << 24) | (left + self.state % p)

    def pop_uniform(self, n: int) -> int:
        q = self.state % 2**24
        symbol = min(q // (2**24 // n), n - 1)
        left, p = self.slot(symbol, n)
        self.state = (self.state >> 24) * p + q - left
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    @staticmethod
    def slot(symbol: int, n: int) -> tuple[int, int]:
        size = 2**24 // n
        return symbol * size, 2**24 - (n - 1) * size if symbol == n - 1 else size

    def push(self, start: Ints, frequency: Ints, bits: int) -> None:
        slots = []
        for first, size in zip(start, frequency, strict=True):
            g = self.grain(int(size))
            slots.append([int(first), int(size), g, self.pop_below(-(-int(size) // g))])
        for slot in slots:
            _, size, g, coarse = slot
            slot[0] += g * coarse + (self.pop_below(min(g, size - g * coarse)) if g > 1 else 0)
        for first, *_ in reversed(slots):
            self.push_uniform(first % 2**bits, 2**bits)

    def pop(self, count: int, find: Find, bits: int) -> Ints:
        slots = np.array([self.pop_uniform(2**bits) for _ in range(count)], np.int64)
        symbols, start, frequency = find(slots)
        parts = [(int(r), int(n), self.grain(int(n))) for r, n in zip(slots - start, frequency, strict=True)]
        for r, n, g in reversed(parts):
            if g > 1:
                self.push_below(r % g, min(g, n - r // g * g))
        for r, n, g in reversed(parts):
            self.push_below(r // g, -(-n // g))
        return symbols

    @staticmethod
    def grain(frequency: int) -> int:
        return 1 << max(0, frequency.bit_length() - 12)

    def pop_below(self, n: int) -> int:
        return self.pop_uniform(n) if n > 1 else 0

    def push_below(self, value: int, n: int) -> None:
        if n > 1:
            self.push_uniform(value, n)


def slices(count: int, size: int, gain: int) -> list[slice]:
    """``size``: of the stack in bits, ``gain`` in sixteenths of a bit."""
    found, done = [], 0
    while done < count:
        n = max(min(8, 1 + done // 8), min(16384, (size + done * gain // 16) // 20))
        found.append(slice(done, min(count, done + n)))
        done += n
    return found


def find_symbol(cdf: Callable[[Ints], Ints], q: Ints, most: Ints) -> tuple[Ints, Ints, Ints]:
    """The last symbol whose F is at most q, one after another: F never falls."""
    symbol = np.zeros_like(q)
    while (more := (symbol < most - 1) & (cdf(symbol + 1) <= q)).any():
        symbol += more
    left = cdf(symbol)
    return symbol, left, cdf(symbol + 1) - left
