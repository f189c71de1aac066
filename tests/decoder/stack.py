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

    def push(self, left: Ints, width: Ints, turn: Ints, bits: int) -> None:
        widths = [int(w) for w in width]
        wide = [bits > 16 and w >= 2**14 for w in widths]
        size = 2 ** (4 if bits == 18 else bits - 12)
        parts = [-(-w // size) if in_two else w for w, in_two in zip(widths, wide, strict=True)]
        rest = [self.pop_uniform(n) if n > 1 else 0 for n in parts]
        for at in np.flatnonzero(wide):
            n = min(size, widths[at] - size * rest[at])
            rest[at] = size * rest[at] + (self.pop_uniform(n) if n > 1 else 0)
        for value in reversed((left + rest - turn) % 2**bits):
            self.push_uniform(int(value), 2**bits)

    def pop(self, count: int, find: Find, bits: int) -> Ints:
        q = np.array([self.pop_uniform(2**bits) for _ in range(count)], np.int64)
        symbols, left, width = find(q)
        size = 2 ** (4 if bits == 18 else bits - 12)
        rest, parts = [int(r) for r in q - left], [int(w) for w in width]
        for at in reversed(range(count)):
            if bits > 16 and parts[at] >= 2**14:
                n = min(size, parts[at] - rest[at] // size * size)
                if n > 1:
                    self.push_uniform(rest[at] % size, n)
                rest[at], parts[at] = rest[at] // size, -(-parts[at] // size)
        for r, n in zip(reversed(rest), reversed(parts), strict=True):
            if n > 1:
                self.push_uniform(r, n)
        return symbols


def cut(count: int, fill: int, rate: int, ramp: bool) -> list[slice]:
    slices, done = [], 0
    while done < count:
        least = min(8, 1 + done // 8) if ramp else 8
        size = min(count - done, max(least, min(16384, (fill + done * rate // 16) // 20)))
        slices.append(slice(done, done + size))
        done += size
    return slices


def find_symbol(cdf: Callable[[Ints], Ints], q: Ints, most: Ints) -> tuple[Ints, Ints, Ints]:
    """The last symbol whose F is at most q, one after another: F never falls."""
    symbol = np.zeros_like(q)
    while (more := (symbol < most - 1) & (cdf(symbol + 1) <= q)).any():
        symbol += more
    left = cdf(symbol)
    return symbol, left, cdf(symbol + 1) - left
