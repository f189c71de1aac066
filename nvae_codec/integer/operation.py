"""What every operation of the integer network has: a name, inputs, a way to run, and a bound that is proved."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError

FLOAT32_BOUND, FLOAT64_BOUND = 2**24, 2**53
"""Integers smaller than this in absolute value, and their sums and products, are exact in float32 and float64."""
MOST_CHANNELS = 2**16


class Bounds(NamedTuple):
    """What is proved of a value.

    largest: the largest absolute value of each channel, float64 (C,). stride: pixels of the image from one position of
    its map to the next; 0 for a value with a single position (B, C, 1, 1).
    """

    largest: Tensor
    stride: int


@dataclass(frozen=True)
class Operation:
    """A node of the graph. ``name`` is the name of its result, ``inputs`` are the names of earlier results."""

    name: str
    inputs: tuple[str, ...]

    arity: ClassVar[int | None] = 1
    """Number of inputs; None for one or more."""

    @property
    def pointwise(self) -> bool:
        """Whether a position of the result depends on the same position of each input alone, with the same size."""
        return False

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the result. Inputs are not modified."""
        raise TypeError(f"{type(self).__name__} {self.name} cannot be run")

    def bound(self, inputs: Sequence[Bounds]) -> Bounds:
        """Prove that the result is exact if the inputs are within their bounds.

        Raises ModelFileError if it might not be, or if parameters and inputs do not fit together.
        """
        return inputs[0]

    def products(self, inputs: Sequence[Bounds]) -> float:
        """Multiplications per pixel of the image."""
        return 0.0

    def constants(self) -> dict[str, Tensor]:
        """The tensors among the fields."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def require(self, condition: bool, problem: str) -> None:
        """Raise ModelFileError with the problem unless the condition holds."""
        if not condition:
            raise ModelFileError(f"{self.name}: {problem}")

    def require_integers(self, **values: Tensor) -> None:
        """Raise ModelFileError unless all entries of each tensor are integers."""
        for name, value in values.items():
            self.require(torch.equal(value, value.round()), f"{name} is not an integer")
