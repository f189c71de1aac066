"""What a file says of each batch beside the payload: three small numbers."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_CODE = 255


@dataclass(frozen=True)
class BatchRecord:
    """A batch's tiles, and the bits that surely lay on the stack before and after its pixels (short floats)."""

    tiles: int
    before_code: int
    after_code: int

    @classmethod
    def of(cls, tiles: int, before: int, after: int) -> BatchRecord:
        """The record of a batch, fills rounded down."""
        return cls(tiles, shorten(before), shorten(after))

    @property
    def before(self) -> int:
        """Bits before the pixels were pushed."""
        return short_float(self.before_code)

    @property
    def after(self) -> int:
        """Bits after them."""
        return short_float(self.after_code)

    def rate(self, values: int) -> int:
        """Half of what each of so many pixel values added, in sixteenths of a bit: some parts are thriftier."""
        return max(0, self.after - self.before) * 8 // values


def short_float(code: int) -> int:
    """Eight values an octave, from 0: (8 + code % 8) * 2^(code // 8) - 8."""
    return ((8 + code % 8) << code // 8) - 8


def shorten(value: int) -> int:
    """The largest code, up to 255, whose short float is at most a value."""
    code = 0
    while code < LARGEST_CODE and short_float(code + 1) <= value:
        code += 1
    return code
