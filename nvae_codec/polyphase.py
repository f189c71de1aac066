"""The order in which a likelihood in phases codes the pixels of an image.

With ``levels`` = 2 every fourth pixel of each axis comes first (the base), from the latents alone. A level then goes
from the even pixels of a grid to all of them in three phases, each of which sees those before::

    even   beside        phase 1: diagonal   from the four even ones around it
    below  diagonal      phase 2: beside     from two even and two diagonal ones
                         phase 3: below      likewise

With ``levels`` = 0 there is one phase, all pixels at once. Nothing here knows of networks or files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plane:
    """The pixels ``[row::stride, column::stride]`` of an image."""

    stride: int
    row: int
    column: int

    @property
    def name(self) -> str:
        """What a model's inputs call it."""
        return f"plane.{self.stride}.{self.row}.{self.column}"


@dataclass(frozen=True)
class Phase:
    """One plane of pixels, coded together, and the four neighbours whose mean is its first guess.

    ``known`` are the planes of the same level that its head sees; a neighbour is (index into known, rows, columns): the
    known plane shifted by so many of its own pixels, edges repeated. The base has no neighbours.
    """

    plane: Plane
    known: tuple[Plane, ...]
    neighbours: tuple[tuple[int, int, int], ...]


def pixels_output(phase: int, expert: int = 0) -> str:
    """The name of a model's output with the raw parameters of a phase, predicted by an expert's heads.

    All experts share the base, phase 0.
    """
    return f"pixels.{phase}.{expert}" if phase and expert else f"pixels.{phase}"


def list_phases(levels: int) -> list[Phase]:
    """All phases in the order of decoding: 1 + 3 * levels of them."""
    phases = [Phase(Plane(2**levels, 0, 0), (), ())]
    for level in range(levels):
        stride = 2 ** (levels - level)
        half = stride // 2
        even, diagonal = Plane(stride, 0, 0), Plane(stride, half, half)
        beside, below = Plane(stride, 0, half), Plane(stride, half, 0)
        phases += [
            Phase(diagonal, (even,), ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1))),
            Phase(beside, (even, diagonal), ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0))),
            Phase(below, (even, diagonal, beside), ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, -1))),
        ]
    return phases
