"""What a file says of each batch besides the payload: three or four small numbers, and in some segments a checksum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

LARGEST_CODE = 255
LARGEST_CHECKSUM = (1 << 32) - 1


@dataclass(frozen=True)
class BatchRecord:
    """A batch's tiles, and lower bounds of the stack's size: before and after its pixels, and at its end.

    Sizes are codes of short floats. Unless latents are dense (tiles.Growth), the file has no code of the end, as there
    is at least as much on the stack as after the pixels. ``checksum`` is that of the batch's pixels, if it has one.
    """

    tiles: int
    before_code: int
    after_code: int
    end_code: int
    checksum: int | None = None

    @staticmethod
    def size(*, dense: bool, checked: bool) -> int:
        """How many numbers a file has for each batch."""
        return 3 + dense + checked

    def numbers(self, *, dense: bool) -> list[int]:
        """The numbers in a file."""
        end = [self.end_code] if dense else []
        checksum = [] if self.checksum is None else [self.checksum]
        return [self.tiles, self.before_code, self.after_code, *end, *checksum]

    @classmethod
    def read(cls, numbers: Sequence[int], *, dense: bool) -> BatchRecord:
        """The record with these numbers."""
        tiles, before, after, *more = numbers
        return cls(tiles, before, after, more.pop(0) if dense else after, more[0] if more else None)

    @classmethod
    def of(cls, tiles: int, before: int, after: int) -> BatchRecord:
        """The record of a batch whose end is not known yet, sizes rounded down."""
        return cls(tiles, shorten(before), shorten(after), shorten(after))

    @property
    def before(self) -> int:
        """Bits on the stack before the pixels were pushed."""
        return short_float(self.before_code)

    @property
    def after(self) -> int:
        """Bits on the stack after the pixels."""
        return short_float(self.after_code)

    @property
    def end(self) -> int:
        """Bits on the stack after the latents, which come last."""
        return short_float(self.end_code)

    def gain(self, values: int) -> int:
        """Half of what each of so many pixel values added, in sixteenths of a bit: some parts add less than others."""
        return max(0, self.after - self.before) * 8 // values


def levels_checksum(levels: NDArray[np.integer]) -> int:
    """The low 32 bits of the XXH3-64 of a batch's levels, (tiles, C, rows, columns), as bytes."""
    return int(xxhash.xxh3_64_intdigest(levels.astype(np.uint8).tobytes())) & LARGEST_CHECKSUM


def short_float(code: int) -> int:
    """Eight values an octave, from 0: (8 + code % 8) * 2^(code // 8) - 8."""
    return ((8 + code % 8) << code // 8) - 8


def shorten(value: int) -> int:
    """The largest code, up to 255, whose short float is at most a value."""
    code = 0
    while code < LARGEST_CODE and short_float(code + 1) <= value:
        code += 1
    return code
