"""The names of the integer network's inputs and outputs.

A graph (integer/graph.py) has inputs, which become known while an image is coded, and outputs, which are taken:

    image, blank            inputs: the whole image, for the encoder alone; zeros for the top of the hierarchy
    z.1                     input: latents of group 1; groups count from the top
    plane.4.0.2             input: known pixels [0::4, 2::4]
    prior.1, posterior.1    outputs: raw parameters of the latents of group 1
    flow.1.0, shift.1.0     input and output: z before half 0 of group 1's flows, and what that half takes off it
    pixels.3, pixels.3.1    outputs: raw parameters of phase 3, from the first set of heads, and from expert 1
"""

from typing import NamedTuple

IMAGE, BLANK = "image", "blank"


class Port(NamedTuple):
    """A name taken apart: ``parse("z.1")`` is ``Port("z", (1,))``."""

    kind: str
    numbers: tuple[int, ...]


def parse(name: str) -> Port:
    """Take a name apart."""
    kind, *numbers = name.split(".")
    return Port(kind, tuple(map(int, numbers)))


def z(group: int) -> str:
    """The input of a group's latents."""
    return f"z.{group}"


def plane(stride: int, row: int, column: int) -> str:
    """The input of known pixels [row::stride, column::stride]."""
    return f"plane.{stride}.{row}.{column}"


def prior(group: int) -> str:
    """The output of a group's raw prior."""
    return f"prior.{group}"


def posterior(group: int) -> str:
    """The output of a group's raw posterior."""
    return f"posterior.{group}"


def flow(group: int, half: int) -> str:
    """The input of z before half a flow."""
    return f"flow.{group}.{half}"


def shift(group: int, half: int) -> str:
    """The output of what half a flow takes off z."""
    return f"shift.{group}.{half}"


def pixels(phase: int, expert: int = 0) -> str:
    """The output of a phase's raw parameters, predicted by an expert's heads; all experts share the base, phase 0."""
    return f"pixels.{phase}.{expert}" if phase and expert else f"pixels.{phase}"
