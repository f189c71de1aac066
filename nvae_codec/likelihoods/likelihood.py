"""What the coding pass asks of a likelihood: the distribution of each colour of a phase, one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from nvae_codec.coding.ans import Distribution, Int32
from nvae_codec.coding.canvas import Canvas, plane_size
from nvae_codec.integer.model import IntegerModel
from nvae_codec.polyphase import Phase

BLOCK = 16384
"""Values whose intervals are computed together: component-major blocks of this size stay in a core's cache."""


class Likelihood(ABC):
    """p(pixels of one phase | z, phases before), a colour after another.

    The ``count`` symbols of a colour run over tiles, rows, columns of the plane's own pixels.
    """

    block = BLOCK
    """Values whose intervals are asked for together."""

    def __init__(self, model: IntegerModel, phase: Phase, canvas: Canvas, raw: Tensor) -> None:
        """``raw`` (B, R, h, w), int32 where the network ran, covers the padded plane."""
        self.model, self.phase = model, phase
        self.tiles = len(raw)
        self.rows, self.columns = plane_size(canvas.size, phase.plane)
        edge = canvas.edge
        own = raw[:, :, edge : edge + self.rows, edge : edge + self.columns]
        parameters = own.transpose(0, 1).reshape(raw.shape[1], -1)
        self.count: int = parameters.shape[1]
        self.values: list[Int32] = []
        self._read(parameters, canvas)

    @abstractmethod
    def _read(self, parameters: Tensor, canvas: Canvas) -> None:
        """Take the raw parameters, int32 (R, n), and what the phases before tell."""

    @abstractmethod
    def distribution(self, colour: int) -> Distribution:
        """Of the next colour; :meth:`observe` tells the one before."""

    def interval(self, colour: int, values: Int32) -> tuple[Int32, Int32]:
        """Cumulative starts and frequencies of known values (n,) of the next colour, which are observed with it."""
        distribution = self.distribution(colour)
        self.observe(values)
        start, frequency = np.empty_like(values), np.empty_like(values)
        for begin in range(0, len(values), self.block):
            at = slice(begin, begin + self.block)
            start[at], frequency[at] = distribution.interval(values[at], at)
        return start, frequency

    def observe(self, values: Int32) -> None:
        """Take the values (n,) of the next colour."""
        self.values.append(values)
