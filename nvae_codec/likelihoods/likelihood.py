"""What a likelihood p(x | z) is: in floating point for training and sampling, and in integers for coding.

Floating point: tensors (B, C, h, w) cover the pixels of one phase, in [-1, 1], colours in coding order; raw parameters
are what the network's head gives, (B, R, h, w). Integers: see :class:`PixelCoder`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.coding.ans import Distribution, Int32
from nvae_codec.coding.canvas import Canvas, plane_size
from nvae_codec.errors import ModelFileError
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.registry import LIKELIHOODS
from nvae_codec.likelihoods.tables import LatentTables, Tables
from nvae_codec.polyphase import Phase

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import LikelihoodRecipe, Recipe

Float64 = NDArray[np.float64]
Uniform = Callable[[int], Tensor]
"""Gives (B, channels, h, w) of independent numbers, uniform in (0, 1), for the number of channels."""

BLOCK = 16384
"""Values whose intervals are computed together: component-major blocks of this size stay in a core's cache."""
MEASURED_BLOCK = 1 << 16
"""Values whose real-valued cost is computed together."""


class Likelihood(ABC):
    """A likelihood in floating point."""

    @abstractmethod
    def raw_channels(self, channels: int, components: int) -> int:
        """Raw parameters of a pixel of so many colours, under a mixture of so many components."""

    @abstractmethod
    def nats(self, raw: Tensor, prediction: Tensor, x: Tensor, recipe: Recipe) -> Tensor:
        """-log p(x) in nats, one entry for each value, or (B, h, w) where the colours of a pixel are not independent.

        ``prediction`` is the mean of the neighbours that are known, zeros where there are none.
        """

    @abstractmethod
    def pixels(self, raw: Tensor, prediction: Tensor, recipe: Recipe, uniform: Uniform | None) -> Tensor:
        """Pixels drawn with ``uniform`` numbers; their mean if it is None.

        A mean of several colours that condition one another is that of each given the mean of those before.
        """

    def first_bias(self, recipe: LikelihoodRecipe, *, base: bool) -> Tensor | None:
        """Raw parameters (R,) that training starts with, if the head's own are not as good.

        ``base``: those of pixels that see no neighbour.
        """
        return None


class CodedLikelihood(Likelihood):
    """A likelihood that gives every pixel value a probability, in integers too.

    pixel_bits: the precision P of its intervals in new models (docs/format.md, "Intervals"). raw_bound: the largest
    absolute value of an integer raw parameter. tables, coder: the classes of its tables and of its pixel coder.
    """

    pixel_bits: ClassVar[int]
    raw_bound: ClassVar[int]
    tables: ClassVar[type[Tables]]
    coder: ClassVar[type[PixelCoder]]

    @abstractmethod
    def raw_scale(self, recipe: Recipe) -> list[float]:
        """What an integer raw parameter's unit is in the network's floating point, for each of the R channels."""

    @abstractmethod
    def make_tables(self, latents: LatentTables, value_bits: int) -> Tables:
        """The tables of a new model, whose pixel values have so many bits."""

    @abstractmethod
    def table_faults(self, model: IntegerModel) -> Iterator[str]:
        """The names of the model's tables that are impossible."""


class PixelCoder(ABC):
    """p(pixels of one phase | z, phases before) in integers, one colour after another.

    The ``count`` symbols of a colour run over tiles, rows, columns of the plane's own pixels.
    """

    block = BLOCK
    """Values whose intervals are computed together."""

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
        """Read the raw parameters, int32 (R, n), and the phases before from the canvas."""

    @abstractmethod
    def distribution(self, colour: int) -> Distribution:
        """Distributions of the next colour, one for each pixel, after :meth:`observe` of the one before."""

    @abstractmethod
    def real_bits(self, colour: int, values: Int32, at: slice) -> Float64:
        """-log2 p of values of the next colour with the same parameters in real numbers, (n,)."""

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

    def measure(self, values: list[Int32]) -> Float64:
        """-log2 p of all colours' values, (n,) each, in real numbers: (C, n). None of them has been observed yet."""
        bits = np.empty((len(values), self.count))
        for colour, known in enumerate(values):
            for begin in range(0, self.count, MEASURED_BLOCK):
                at = slice(begin, begin + MEASURED_BLOCK)
                bits[colour, at] = self.real_bits(colour, known[at], at)
            self.observe(known)
        return bits


@cache
def find_likelihood(name: str) -> Likelihood:
    """The likelihood of that name, one of ``LIKELIHOODS``."""
    module = importlib.import_module(f"{__package__}.{LIKELIHOODS[name].module}")
    likelihood: Likelihood = module.Kind()
    return likelihood


def find_coded(name: str) -> CodedLikelihood:
    """The likelihood of that name. Raises ModelFileError if there is none, or if pixels cannot be coded with it."""
    likelihood = find_likelihood(name) if name in LIKELIHOODS else None
    if not isinstance(likelihood, CodedLikelihood):
        reason = (
            "is a density: it gives pixel values no probabilities to code them with" if likelihood else "is unknown"
        )
        raise ModelFileError(f"likelihood.kind = {name!r} {reason}")
    return likelihood
