"""The order in which a likelihood in phases codes the pixels of an image.

With ``scales`` = 2 every fourth pixel of each axis comes first (the base), from the latents alone. A scale then goes
from the even pixels of a grid to all of them in three phases, each of which sees those before::

    even   right         phase 1: diagonal   from the four even ones around it
    below  diagonal      phase 2: right      from two even and two diagonal ones
                         phase 3: below      likewise

With ``scales`` = 0 there is one phase, all pixels at once. Nothing here knows of networks or files.
"""

from dataclasses import dataclass

from nvae_codec import ports


@dataclass(frozen=True)
class Plane:
    """A polyphase component: the pixels ``[row::stride, column::stride]`` of an image."""

    stride: int
    row: int
    column: int

    @property
    def name(self) -> str:
        """What a model's inputs call it."""
        return ports.plane(self.stride, self.row, self.column)


@dataclass(frozen=True)
class Phase:
    """One polyphase component of the pixels, coded together, and the four neighbours whose mean predicts it.

    ``known`` are the planes of the same scale that its head sees; a neighbour is (index into known, rows, columns): the
    known plane shifted by so many of its own pixels, edges repeated. The base has no neighbours.
    """

    plane: Plane
    known: tuple[Plane, ...]
    neighbours: tuple[tuple[int, int, int], ...]


def list_phases(scales: int) -> list[Phase]:
    """All phases in the order of decoding: 1 + 3 * scales of them."""
    phases = [Phase(Plane(2**scales, 0, 0), (), ())]
    for scale in range(scales):
        stride = 2 ** (scales - scale)
        half = stride // 2
        even, diagonal = Plane(stride, 0, 0), Plane(stride, half, half)
        right, below = Plane(stride, 0, half), Plane(stride, half, 0)
        phases += [
            Phase(diagonal, (even,), ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1))),
            Phase(right, (even, diagonal), ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0))),
            Phase(below, (even, diagonal, right), ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, -1))),
        ]
    return phases
