"""An adaptive binary arithmetic coder for arrays of small integers, mostly zeros; integer arithmetic throughout.

Each bit of a number (is it zero, its sign, its magnitude in unary) has contexts, and the predictions of several
contexts are mixed in the logistic domain, with weights that learn as they go (Mahoney 2005, "Adaptive weighing of
context models", as lpaq has it). The range coder is LZMA's without its leading byte; bytes past the end read as zeros.

A probability is a count of 2^16 that the next bit is 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.compiled import njit
from nvae_codec.errors import DamagedFileError

Int32 = NDArray[np.int32]

INPUTS = 5
"""Contexts whose predictions are mixed for whether a number is zero."""
LIMIT = 255
"""An estimate learns as the mean of so many bits, and then forgets."""
LARGEST = 2047
"""Of the absolute values."""
UNARY = 14
"""Magnitudes from 1 on have so many adaptive bits; what is beyond follows in binary (Exp-Golomb)."""
SLOTS = 1024
"""Room for the contexts of one input."""
MIXERS = 4


def _make_squash() -> Int32:
    """2^16 / (1 + exp(-x / 256)) for x from -2047 to 2047, by the integers of lpaq's table, interpolated."""
    knots = [1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785,
             3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094]  # fmt: skip
    table = np.empty(4095, np.int32)
    for x in range(-2047, 2048):
        place, share = (x + 2048) >> 7, (x + 2048) & 127
        low, high = knots[place], knots[min(place + 1, 32)]
        table[x + 2047] = min(max((low * (128 - share) + high * share) * 16 >> 7, 32), 65536 - 32)
    return table


def _make_stretch(squash: Int32) -> Int32:
    """The inverse of squash, by the upper 12 bits of a probability."""
    return np.searchsorted(squash, np.arange(4096) * 16 + 8).clip(0, 4094).astype(np.int32) - 2047


SQUASH = _make_squash()
STRETCH = _make_stretch(SQUASH)


@njit()
def _code_bit(state: Any, data: Any, probability: int, bit: int, decode: bool) -> int:
    """Encode a bit or decode one. state: low, range, code, position, carry byte, pending bytes."""
    split = (state[1] >> 16) * probability
    if decode:
        bit = 1 if state[2] < split else 0
    if bit:
        state[1] = split
    else:
        state[0] += split
        state[2] -= split
        state[1] -= split
    while state[1] < 1 << 24:
        state[1] <<= 8
        if decode:
            byte = data[state[3]] if state[3] < len(data) else 0
            state[2] = (state[2] << 8) | byte
            state[3] += 1
        else:
            _shift_low(state, data)
    return bit


@njit()
def _shift_low(state: Any, data: Any) -> None:
    if state[0] < 0xFF000000 or state[0] >= 1 << 32:
        carry = state[0] >> 32
        if state[4] >= 0:
            data[state[3]] = (state[4] + carry) & 255
            state[3] += 1
        while state[5]:
            data[state[3]] = (255 + carry) & 255
            state[3] += 1
            state[5] -= 1
        state[4] = (state[0] >> 24) & 255
    else:
        state[5] += 1
    state[0] = (state[0] & 0x00FFFFFF) << 8


@njit()
def _learn(estimates: Any, counts: Any, slot: int, bit: int) -> None:
    n = counts[slot]
    target = 65535 if bit else 0
    estimates[slot] += (target - estimates[slot]) * 2 // (2 * n + 3)
    if n < LIMIT:
        counts[slot] = n + 1


@njit()
def _adaptive_bit(state: Any, data: Any, estimates: Any, counts: Any, slot: int, bit: int, decode: bool) -> int:
    """A bit with a single context."""
    bit = _code_bit(state, data, min(max(estimates[slot], 64), 65536 - 64), bit, decode)
    _learn(estimates, counts, slot, bit)
    return bit


@njit()
def _bucket(j: int) -> int:
    """Directions by importance: 0, 1, 2, 3, then by powers of two."""
    bucket = min(j, 3)
    while j >= 4:
        bucket += 1
        j >>= 1
    return bucket


@njit()
def _code_zero(state: Any, data: Any, mixing: Any, slots: Any, mixer: int, bit: int, decode: bool) -> int:
    """Whether a number is zero: the predictions of the contexts' ``slots``, mixed."""
    zero, seen, weights, squash, stretch = mixing
    total = 0
    for k in range(INPUTS):
        total += weights[mixer, k] * stretch[zero[k, slots[k]] >> 4]
    p = squash[min(max(total >> 16, -2047), 2047) + 2047]
    bit = _code_bit(state, data, p, bit, decode)
    error = (65536 if bit else 0) - p
    for k in range(INPUTS):
        weights[mixer, k] += (stretch[zero[k, slots[k]] >> 4] * error + 0x8000) >> 14
        _learn(zero[k], seen[k], slots[k], bit)
    return bit


@njit()
def _code_magnitude(state: Any, data: Any, other: Any, seen: Any, group: int, size: int, decode: bool) -> int:
    """An integer from 1 on: adaptive bits for one more each, and what they do not reach by Exp-Golomb."""
    more, step, magnitude = 1, 0, 1
    while more and step < UNARY:
        more = _adaptive_bit(state, data, other, seen, group + step, 1 if size - 1 > step else 0, decode)
        step += 1
        magnitude += more
    if not more:
        return magnitude
    rest, width, length, found = size - UNARY, 0, 0, 1
    while not decode and rest >> (width + 1):
        width += 1
    while length < 12 and _code_bit(state, data, 32768, 1 if length < width else 0, decode):
        length += 1
    for k in range(length - 1, -1, -1):
        found = found * 2 + _code_bit(state, data, 32768, (rest >> k) & 1, decode)
    return magnitude + found - 1


@njit()
def _sign(values: Any, at: int, known: bool) -> int:
    """0 of what is zero or not known, 1 of what is positive, 2 of what is negative."""
    return (1 if values[at] > 0 else 2 if values[at] < 0 else 0) if known else 0


@njit()
def _open(state: Any, data: Any, size: int) -> None:
    """Begin: the whole interval, and for decoding the first four bytes."""
    state[1], state[4] = 0xFFFFFFFF, -1
    for _ in range(4):
        byte = data[state[3]] if state[3] < size else 0
        state[2] = (state[2] << 8) | byte
        state[3] += 1


@njit()
def _close(state: Any, data: Any) -> None:
    """End encoding with that number of the final interval that has the most zeros at its end, which are not written."""
    high = state[0] + state[1] - 1
    for zeros in range(32, -1, -1):
        low = (high >> zeros) << zeros
        if low >= state[0]:
            state[0] = low
            break
    for _ in range(5):
        _shift_low(state, data)


@njit()
def _code_arrays(data: Any, values: Any, shapes: Any, tables: Any, size: int, decode: bool) -> tuple[int, int]:
    """All arrays one after another; ``values`` holds them flat. Gives bytes used, and how many values are out of range.

    shapes: of each, rows, columns, start in ``values`` and the start of the last array of the same shape, or -1.
    """
    state, slots, beyond = np.zeros(6, np.int64), np.zeros(INPUTS, np.int64), 0
    _open(state, data, size)
    if not decode:
        state[3] = 0
    zero, zero_seen = np.full((INPUTS, SLOTS), 61000, np.int64), np.zeros((INPUTS, SLOTS), np.int64)
    mixing = (zero, zero_seen, np.full((MIXERS, INPUTS), 65536 // 4, np.int64), tables[0], tables[1])
    other, seen = np.full(1024, 32768, np.int64), np.zeros(1024, np.int64)
    for each in range(len(shapes)):
        rows, columns, start, earlier = shapes[each]
        for i in range(rows):
            for j in range(columns):
                at, old = start + i * columns + j, earlier + i * columns + j
                before = abs(values[old]) if earlier >= 0 else 0
                above = abs(values[at - columns]) if i else 0
                upper, left = abs(values[at - 2 * columns]) if i > 1 else 0, abs(values[at - 1]) if j else 0
                bucket = _bucket(j)
                slots[0] = 4 * i // rows * 16 + bucket
                slots[1] = min(j, SLOTS - 1)
                slots[2] = min(i, SLOTS // 2 - 1) * 2 + (1 if j > 3 else 0)
                slots[3] = min(before, 2) * 9 + min(above, 2) * 3 + min(left + upper, 2)
                slots[4] = min(each, 63) * 16 + bucket
                value, mixer = values[at], min(before + above, 3)
                if _code_zero(state, data, mixing, slots, mixer, 1 if value == 0 else 0, decode):
                    values[at] = 0
                    continue
                slot = 512 + _sign(values, at - columns, i > 0) * 3 + _sign(values, old, earlier >= 0)
                slot += 9 if j == 0 else 0
                negative = _adaptive_bit(state, data, other, seen, slot, 1 if value < 0 else 0, decode)
                group = min(bucket, 7) * 32 + (16 if before + above > 2 else 0)
                magnitude = _code_magnitude(state, data, other, seen, group, abs(value), decode)
                beyond += 1 if magnitude > LARGEST else 0
                values[at] = -min(magnitude, LARGEST) if negative else min(magnitude, LARGEST)
    if not decode:
        _close(state, data)
    return state[3], beyond


def pack_arrays(arrays: Sequence[Int32]) -> bytes:
    """Two-dimensional arrays of integers in [-LARGEST, LARGEST]."""
    shapes, flat = _layout([array.shape for array in arrays]), _flatten(arrays)
    if any(int(np.abs(array).max(initial=0)) > LARGEST for array in arrays):
        raise ValueError(f"changes beyond {LARGEST}")
    data = np.zeros(64 + 4 * flat.size, np.uint8)
    used, _ = _code_arrays(data, flat, shapes, (SQUASH, STRETCH), 0, False)
    return data[:used].tobytes().rstrip(b"\0")


def unpack_arrays(data: bytes, shapes: Sequence[tuple[int, int]]) -> list[Int32]:
    """The arrays of :func:`pack_arrays`. Raises DamagedFileError for bytes that it does not make."""
    if data.endswith(b"\0"):
        raise DamagedFileError("damaged: its adaptation is too long")
    layout = _layout(shapes)
    flat = np.zeros(sum(rows * columns for rows, columns in shapes), np.int64)
    source = np.frombuffer(data, np.uint8).copy()  # compiled for arrays that can be written
    used, beyond = _code_arrays(source, flat, layout, (SQUASH, STRETCH), len(data), True)
    if beyond:
        raise DamagedFileError("damaged: its adaptation has a change out of range")
    if used < len(data):
        raise DamagedFileError("damaged: its adaptation is too long")
    return [flat[start : start + rows * columns].reshape(rows, columns).astype(np.int32)
            for rows, columns, start, _ in layout]  # fmt: skip


def _layout(shapes: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Rows, columns, start and the start of the array before that has the same shape, of each."""
    found: dict[tuple[int, int], int] = {}
    rows, start = [], 0
    for shape in shapes:
        rows.append((*shape, start, found.get(shape, -1)))
        found[shape] = start
        start += shape[0] * shape[1]
    return np.array(rows, np.int64).reshape(-1, 4)


def _flatten(arrays: Sequence[Int32]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(array.astype(np.int64).ravel() for array in arrays)])
