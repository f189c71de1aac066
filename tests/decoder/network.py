"""*The network* of a model file: its operations, in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Array = NDArray[Any]


class Network:
    """The operations by name, in their order, and the outputs that the coding pass takes."""

    def __init__(self, description: dict[str, Any], arrays: dict[str, Array]) -> None:
        self.operations: dict[str, dict[str, Any]] = {each["name"]: each for each in description["operations"]}
        self.outputs: dict[str, str] = description["outputs"]
        self.arrays = arrays
        self.values: dict[str, Ints] = {}

    def begin(self) -> Network:
        """Forget all values, for another batch."""
        again = object.__new__(Network)
        again.__dict__ |= self.__dict__ | {"values": {}}
        return again

    def give(self, name: str, value: Array) -> None:
        """Set an input, (B, C, h, w)."""
        self.values[name] = value.astype(np.int64)

    def take(self, output: str) -> Ints:
        """Compute an output, (B, C, h, w)."""
        needed, stack = set(), [self.outputs[output]]
        while stack:
            name = stack.pop()
            if name not in needed and name not in self.values:
                needed.add(name)
                stack += self.operations[name]["inputs"]
        for name, operation in self.operations.items():
            if name in needed:
                inputs = [self.values[each] for each in operation["inputs"]]
                run = OPERATIONS[operation["operation"]]
                self.values[name] = run(
                    operation, lambda field, name=name: self.arrays[f"operation.{name}.{field}"], *inputs
                )
        return self.values[self.outputs[output]]


Fields = dict[str, Any]
Constant = Callable[[str], Array]


def convolve(of: Fields, constant: Constant, x: Ints) -> Ints:
    weight, bias = (torch.from_numpy(constant(field).astype(np.float64)) for field in ("weight", "bias"))
    total = torch.nn.functional.conv2d(
        torch.from_numpy(x.astype(np.float64)), weight, bias, of["stride"], of["padding"], 1, of["groups"]
    ).numpy()
    out = requantize(total.astype(np.float64 if of["digits"] else np.float32), constant("multiplier"))
    return shuffle(np.clip(out, of["low"], of["high"]), of["shuffle"])


def requantize(total: Array, multiplier: Array) -> Ints:
    """One multiplication and one rounding to even, both in the type of the total."""
    out: Ints = np.rint(total * multiplier.astype(total.dtype)[:, None, None]).astype(np.int64)
    return out


def shuffle(x: Ints, factor: int) -> Ints:
    b, c, h, w = x.shape
    squares = x.reshape(b, c // factor**2, factor, factor, h, w).transpose(0, 1, 4, 2, 5, 3)
    return squares.reshape(b, c // factor**2, h * factor, w * factor)


def fold(of: Fields, _: Constant, x: Ints) -> Ints:
    (b, c, h, w), f = x.shape, of["factor"]
    squares = x.reshape(b, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4)
    return squares.reshape(b, c * f * f, h // f, w // f)


def spread(_: Fields, constant: Constant, x: Ints) -> Ints:
    value = constant("value").astype(np.int64)
    return np.broadcast_to(value[:, None, None], (len(x), len(value), *x.shape[2:]))


def spread_map(_: Fields, constant: Constant, x: Ints) -> Ints:
    value, (rows, columns) = constant("value").astype(np.int64), x.shape[2:]
    tiled = np.tile(value, (1, -(-rows // value.shape[1]), -(-columns // value.shape[2])))[:, :rows, :columns]
    return np.broadcast_to(tiled, (len(x), *tiled.shape))


def pool(_: Fields, __: Constant, x: Ints) -> Ints:
    b, c, h, w = x.shape
    out: Ints = (x.reshape(b, c, h // 2, 2, w // 2, 2).sum((3, 5)) + 2) // 4
    return out


def interpolate(_: Fields, __: Constant, x: Ints) -> Ints:
    divisor = 1
    for axis in (2, 3):
        side = x.shape[axis]
        at = np.arange(2 * side) * (side - 1)
        first, share = at // (2 * side - 1), at % (2 * side - 1)
        share = share.reshape([-1 if axis == each else 1 for each in range(4)])
        x = x.take(first, axis) * (2 * side - 1 - share) + x.take(np.minimum(first + 1, side - 1), axis) * share
        divisor *= 2 * side - 1
    return (2 * x + divisor) // (2 * divisor)


def average(_: Fields, __: Constant, x: Ints) -> Ints:
    count = x.shape[2] * x.shape[3]
    out: Ints = (32 * x.sum((2, 3), keepdims=True) + count) // (2 * count)
    return out


def look_up(_: Fields, constant: Constant, x: Ints) -> Ints:
    table = constant("table").astype(np.int64)
    return table[x + len(table) // 2]


def gate(of: Fields, constant: Constant, x: Ints, y: Ints) -> Ints:
    out = requantize((x * y).astype(np.float32), constant("multiplier"))
    return np.clip(out, -of["limit"], of["limit"])


OPERATIONS: dict[str, Callable[..., Ints]] = {
    "Convolve": convolve, "Spread": spread, "SpreadMap": spread_map, "Pool": pool, "Interpolate": interpolate,
    "Average": average, "LookUp": look_up, "Gate": gate, "Fold": fold,
    "Repeat": lambda of, constant, x: x.repeat(2, 2).repeat(2, 3),
    "Rectify": lambda of, constant, x: np.maximum(x, 0),
    "Concatenate": lambda of, constant, *inputs: np.concatenate(inputs, 1),
    "Add": lambda of, constant, x, y: np.clip(x + y, -of["limit"], of["limit"]),
}  # fmt: skip
